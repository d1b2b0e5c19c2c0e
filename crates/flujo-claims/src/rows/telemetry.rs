//! What tracing with an exporter adds to a step, in CPU time of the step's own thread. The exporter takes everything, on a
//! thread of its own.

use std::hint::black_box;
use std::time::Duration;

use flujo_core::config::{OptimizationConfig, Part, Twin};
use flujo_core::context::Context;
use flujo_core::telemetry::Span;
use flujo_core::value::Value;
use flujo_observe::{ExportError, Exporter, Observer};
use flujo_tokio::Runner;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use crate::load::{linear, one_thread};
use crate::{Apart, Comparison, Effort};

const STEPS: u32 = 100;
const RUNS: u32 = 60;
const SOON: Duration = Duration::from_mins(1);

/// Takes everything.
#[derive(Debug)]
struct Sink;

impl Exporter for Sink {
    fn name(&self) -> &'static str {
        "sink"
    }

    fn export(&mut self, _: &[Span]) -> Result<(), ExportError> {
        Ok(())
    }
}

fn runner(observer: Option<&Observer>, twin: Twin) -> Result<Runner, String> {
    let mut config = OptimizationConfig::default();
    config.set_twin(Part::Telemetry, twin);
    let mut builder = Runner::builder(linear(STEPS as usize)).optimization_config(config);
    if let Some(observer) = observer {
        builder = builder.telemetry(observer);
    }
    builder.build().map_err(|error| error.to_string())
}

/// This thread's CPU time, in nanoseconds.
#[allow(clippy::cast_precision_loss)] // a float is asked for
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

fn per_step(runtime: &Runtime, runner: &Runner) -> f64 {
    let begin = cpu();
    for _ in 0..RUNS {
        black_box(runtime.block_on(runner.run(Value::Int(0), Context::new())));
    }
    (cpu() - begin) / f64::from(RUNS * STEPS)
}

pub(super) fn added(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    let runtime = one_thread()?;
    let observer = Observer::builder().exporter(Sink).capacity(1 << 20).build();
    let observer = observer.map_err(|error| error.to_string())?;
    let silent = runner(None, Twin::Optimized)?;
    let (plain, optimized) = (
        runner(Some(&observer), Twin::Plain)?,
        runner(Some(&observer), Twin::Optimized)?,
    );
    // What is added can be no less than nothing, whatever the clock says.
    let added = |runner: &Runner| {
        let added = per_step(&runtime, runner) - per_step(&runtime, &silent);
        let flushed = observer.flush(SOON).is_ok();
        if flushed { added.max(0.1) } else { f64::NAN }
    };
    let compared = effort.compare(|| added(&plain), || added(&optimized));
    match observer.statistics().spans_dropped {
        0 => Ok(compared),
        dropped => Err(format!(
            "{dropped} spans were dropped, which costs less than to keep them"
        )),
    }
}
