//! The usage meter and the monitor alone.

use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use flujo_core::config::OptimizationConfig;
use flujo_core::context::Context;
use flujo_core::monitor::{Monitor, OptimizedMonitor, PlainMonitor};
use flujo_core::stats::{AlertKind, Statistics, StepSlot};
use flujo_core::usage::{OptimizedMeter, PlainMeter, Usage, UsageLimits, UsageMeter};
use flujo_core::value::Value;
use flujo_tokio::Runner;

use crate::load::{linear, one_thread};
use crate::{Apart, Comparison, Effort};

const THREADS: u64 = 4;
/// So many that the threads run at the same time, and not one after the other, and that the system has them share the
/// processors evenly: it takes some ten milliseconds to move one of three to the processor that has one.
const ADDS: u64 = 500_000;
const ONE: Usage = Usage {
    tokens: 7,
    requests: 1,
    ..Usage::ZERO
};
/// Near enough to be watched, and never reached.
const LIMITS: UsageLimits = UsageLimits {
    cost: None,
    tokens: Some(7 << 40),
    requests: Some(1 << 40),
};

/// Nanoseconds for one of what several threads do again and again.
fn each(work: impl Fn(&Arc<str>) + Sync) -> f64 {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let step = Arc::from("step");
                (0..ADDS).for_each(|_| work(&step));
            });
        }
    });
    #[allow(clippy::cast_precision_loss)] // of small numbers
    let all = (THREADS * ADDS) as f64;
    begin.elapsed().as_secs_f64() * 1e9 / all
}

#[allow(clippy::unnecessary_wraps)] // as every row
pub(super) fn adds(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    let (plain, optimized) = (PlainMeter::new(LIMITS), OptimizedMeter::new(LIMITS));
    let add = |meter: &dyn UsageMeter| each(|step| drop(black_box(meter.add(step, black_box(ONE)))));
    let compared = effort.compare(|| add(&plain), || add(&optimized));
    // What has to be done at least: two sums under one lock, held against their limits.
    let sums = Mutex::new([0_u64; 2]);
    let outside = effort.sample(|| {
        each(|_| {
            let mut sums = sums.lock().unwrap_or_else(PoisonError::into_inner);
            let one = black_box(ONE);
            *sums = [sums[0] + one.tokens, sums[1] + one.requests];
            black_box(Some(sums[0]) <= LIMITS.tokens && Some(sums[1]) <= LIMITS.requests);
        })
    });
    Ok(compared.beside("Mutex and two sums", outside))
}

/// Nanoseconds for telling a monitor of a step that is in time, of several steps in turn.
fn record(monitor: &dyn Monitor, steps: &[StepSlot]) -> f64 {
    const ROUNDS: u32 = 20_000;
    let begin = Instant::now();
    for round in 0..ROUNDS {
        for step in steps {
            let _ = black_box(monitor.took(*step, u64::from(black_box(round)), 1_000_000_000));
        }
    }
    #[allow(clippy::cast_precision_loss)] // of small numbers
    let all = f64::from(ROUNDS) * steps.len() as f64;
    begin.elapsed().as_secs_f64() * 1e9 / all
}

pub(super) fn records(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    alerts_once()?;
    let names: Vec<Arc<str>> = (0..10).map(|step| Arc::from(format!("step {step}"))).collect();
    let steps = Statistics::default().slots(&names);
    let (plain, optimized) = (PlainMonitor::default(), OptimizedMonitor::default());
    Ok(effort.compare(|| record(&plain, &steps), || record(&optimized, &steps)))
}

/// A step that crosses its threshold raises one alert within its run, and none while it stays beyond.
fn alerts_once() -> Result<(), String> {
    let config = OptimizationConfig {
        execution_time_threshold: 0.0,
        ..OptimizationConfig::default()
    };
    let runner = Runner::builder(linear(1)).optimization_config(config).build();
    let (runner, runtime) = (runner.map_err(|error| error.to_string())?, one_thread()?);
    for _ in 0..3 {
        runtime.block_on(runner.run(Value::Int(0), Context::new()));
        let alerts = runner.performance_statistics().alerts;
        let slow = alerts
            .iter()
            .filter(|alert| alert.kind == AlertKind::ExecutionTime)
            .count();
        if slow != 1 {
            return Err(format!(
                "a step that is too slow raised {slow} alerts where one is right: {alerts:?}"
            ));
        }
    }
    Ok(())
}
