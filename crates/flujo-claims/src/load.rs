//! The pipelines and contexts that rows are measured with.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::config::{OptimizationConfig, Part, Twin};
use flujo_core::context::Context;
use flujo_core::value::Value;
use flujo_tokio::{Handler, Parallel, Pipeline, Runner, Step};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

/// Runs in flight when memory is measured.
const IN_FLIGHT: usize = 10_000;
const BRANCHES: usize = 4;

pub(crate) fn noop(name: impl Into<Arc<str>>) -> Step {
    let handler = Handler::function(|input| async move {
        Ok(match input {
            Value::Int(number) => Value::Int(number + 1),
            other => other,
        })
    });
    Step::new(name, handler)
}

pub(crate) fn linear(steps: usize) -> Pipeline {
    (0..steps).fold(Pipeline::new(), |pipeline, step| {
        pipeline.then(noop(format!("step {step}")))
    })
}

/// A runner whose parts are all of one twin.
pub(crate) fn runner(pipeline: Pipeline, twin: Twin) -> Result<Runner, String> {
    let runner = Runner::builder(pipeline).optimizations(twin == Twin::Optimized);
    runner.build().map_err(|error| error.to_string())
}

/// A runner on the optimised twins but for one part.
pub(crate) fn runner_with(pipeline: Pipeline, part: Part, twin: Twin) -> Result<Runner, String> {
    let mut config = OptimizationConfig::default();
    config.set_twin(part, twin);
    let runner = Runner::builder(pipeline).optimization_config(config);
    runner.build().map_err(|error| error.to_string())
}

pub(crate) fn one_thread() -> Result<Runtime, String> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
}

pub(crate) fn all_threads() -> Result<Runtime, String> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
}

/// A context of about so many bytes: `rows` is a list of maps with text and numbers in lists, `count` a number.
pub(crate) fn context(bytes: usize) -> Context {
    const ROW: usize = 300;
    let row = |number: usize| {
        let text = format!("{number:0200}");
        let numbers = Value::List(Arc::new((0..8).map(Value::Int).collect()));
        let fields = [("text", Value::from(text)), ("numbers", numbers)];
        Value::Map(Arc::new(
            fields.map(|(name, value)| (Arc::from(name), value)).to_vec(),
        ))
    };
    let mut context = Context::new();
    context.set(
        "rows",
        Value::List(Arc::new((0..bytes.div_ceil(ROW)).map(row).collect())),
    );
    context.set("count", Value::Int(0));
    context
}

/// A parallel step of branches that each write a small field of their own.
pub(crate) fn branches(number: usize) -> Pipeline {
    (0..number)
        .fold(Parallel::new("split"), |parallel, branch| {
            let field: Arc<str> = Arc::from(format!("branch {branch}"));
            let write = Handler::scoped(move |input, scope| {
                let field = Arc::clone(&field);
                async move {
                    scope.update(|context| context.set(field, Value::Int(1)));
                    Ok(input)
                }
            });
            parallel.branch(
                format!("branch {branch}"),
                Step::new(format!("write {branch}"), write),
            )
        })
        .into()
}

/// Bytes of resident memory that each run takes of 10,000 in flight, each with a 10 KB context and four branches that have
/// written to it and wait. They start in `samples` groups of one size, and each group's growth is a figure. To be called in
/// a process of its own: what one measurement has used is not given back for the next.
///
/// # Errors
/// What could not be measured here.
pub fn memory_of_runs(twin: Twin, samples: usize) -> Result<Vec<f64>, String> {
    memory_in_flight(twin, IN_FLIGHT, samples.clamp(1, IN_FLIGHT))
}

pub(crate) fn memory_in_flight(twin: Twin, runs: usize, samples: usize) -> Result<Vec<f64>, String> {
    let (arrived, all) = watch::channel(0);
    let (open, gate) = watch::channel(false);
    let parallel = (0..BRANCHES).fold(Parallel::new("split"), |parallel, branch| {
        let field: Arc<str> = Arc::from(format!("branch {branch}"));
        let (arrived, gate) = (arrived.clone(), gate.clone());
        let wait = Handler::scoped(move |input, scope| {
            let (field, arrived, mut gate) = (Arc::clone(&field), arrived.clone(), gate.clone());
            async move {
                scope.update(|context| context.set(field, Value::Int(1)));
                arrived.send_modify(|branches| *branches += 1);
                let _ = gate.wait_for(|open| *open).await;
                Ok(input)
            }
        });
        parallel.branch(
            format!("branch {branch}"),
            Step::new(format!("wait {branch}"), wait),
        )
    });
    let runner = runner(parallel.into(), twin)?;
    let runtime = one_thread()?;
    runtime.block_on(async {
        let contexts: Vec<Context> = (0..runs).map(|_| context(10_000)).collect();
        let mut started = Vec::with_capacity(runs);
        let mut figures = Vec::with_capacity(samples);
        for group in contexts.chunks_exact(runs / samples) {
            let before = resident()?;
            started.extend(
                group
                    .iter()
                    .map(|context| tokio::spawn(runner.run(Value::Int(0), context.clone()))),
            );
            let whole = started.len() * BRANCHES;
            let mut all = all.clone();
            let all = all.wait_for(|branches| *branches == whole);
            let all = tokio::time::timeout(Duration::from_mins(2), all).await;
            all.map_err(|_| "the runs did not all come to their branches within two minutes".to_owned())?
                .map_err(|error| error.to_string())?;
            let grown = resident()?.saturating_sub(before);
            #[allow(clippy::cast_precision_loss)] // a figure to be read
            figures.push(grown as f64 / group.len() as f64);
        }
        let _ = open.send(true);
        for run in started {
            run.await.map_err(|error| error.to_string())?;
        }
        Ok(figures)
    })
}

fn resident() -> Result<usize, String> {
    let stats = memory_stats::memory_stats();
    stats
        .map(|stats| stats.physical_mem)
        .ok_or_else(|| "the resident memory cannot be read here".to_owned())
}
