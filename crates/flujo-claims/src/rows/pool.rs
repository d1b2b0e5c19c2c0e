//! Object pooling: what the engine allocates for a run of 20 steps, some of them tried twice, four of them side by side.

use std::hint::black_box;

use flujo_core::agent::BoxFuture;
use flujo_core::config::{Part, Twin};
use flujo_core::context::Context;
use flujo_core::value::Value;
use flujo_tokio::{Handler, Parallel, Pipeline, Raised, Runner, Step};
use tokio::runtime::Runtime;

use crate::load::{noop, one_thread, runner_with};
use crate::{Apart, Comparison, Effort};

const STEPS: usize = 16;
const LANES: usize = 4;
/// Every so many steps one fails at its first attempt.
const FLAKY: usize = 4;
const RUNS: u32 = 20;

fn flaky(name: String) -> Step {
    let handler = Handler::scoped(|input: Value, scope| async move {
        if scope.place().attempt == 1 {
            return Err(Raised::from("once"));
        }
        Ok(input)
    });
    Step::new(name, handler)
}

fn pipeline() -> Pipeline {
    let steps = (0..STEPS).fold(Pipeline::new(), |pipeline, number| {
        let name = format!("step {number}");
        pipeline.then(if number % FLAKY == 0 {
            flaky(name)
        } else {
            noop(name)
        })
    });
    let lanes = (0..LANES).fold(Parallel::new("lanes"), |lanes, lane| {
        let name = format!("lane {lane}");
        lanes.branch(name.clone(), noop(name))
    });
    steps.then(lanes)
}

/// The futures that the user's functions are, without an engine around them.
async fn futures_alone() {
    for step in 0..STEPS + LANES {
        let attempts = if step < STEPS && step % FLAKY == 0 { 2 } else { 1 };
        for _ in 0..attempts {
            let future: BoxFuture<'static, Value> = Box::pin(async { Value::Int(1) });
            black_box(future.await);
        }
    }
}

/// Bytes that are allocated for one of several runs; not a number where the program's allocator doesn't count.
fn bytes(runtime: &Runtime, mut run: impl FnMut(&Runtime)) -> f64 {
    run(runtime);
    let ((), counts) = flujo_allocations::count(|| (0..RUNS).for_each(|_| run(runtime)));
    #[allow(clippy::cast_precision_loss)] // a figure to be read
    counts.map_or(f64::NAN, |counts| counts.bytes as f64 / f64::from(RUNS))
}

pub(super) fn allocated(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    let runtime = one_thread()?;
    let twin = |twin| runner_with(pipeline(), Part::Pool, twin);
    let (plain, optimized) = (twin(Twin::Plain)?, twin(Twin::Optimized)?);
    let own = bytes(&runtime, |runtime| runtime.block_on(futures_alone()));
    if own.is_nan() {
        return Err("this program's allocator does not count".to_owned());
    }
    let of = |runner: &Runner| {
        bytes(&runtime, |runtime| {
            black_box(runtime.block_on(runner.run(Value::Int(0), Context::new())));
        }) - own
    };
    Ok(effort.compare(|| of(&plain), || of(&optimized)))
}
