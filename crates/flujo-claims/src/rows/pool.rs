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
            let input = black_box(Value::Int(1));
            let future: BoxFuture<'static, Value> = Box::pin(async move { input });
            black_box(future.await);
        }
    }
}

/// Bytes for each of several runs.
struct Bytes {
    allocated: f64,
    /// What its caller was given.
    given: f64,
}

/// Not numbers where the program's allocator doesn't count.
fn bytes<T>(runtime: &Runtime, mut run: impl FnMut(&Runtime) -> T) -> Bytes {
    drop(run(runtime));
    let mut given = Vec::with_capacity(RUNS as usize);
    let ((), made) = flujo_allocations::count(|| given.extend((0..RUNS).map(|_| run(runtime))));
    let ((), dropped) = flujo_allocations::count(|| given.clear());
    #[allow(clippy::cast_precision_loss)] // figures to be read
    let each = |bytes: Option<u64>| bytes.map_or(f64::NAN, |bytes| bytes as f64 / f64::from(RUNS));
    Bytes {
        allocated: each(made.map(|made| made.bytes)),
        given: each(dropped.map(|dropped| dropped.freed)),
    }
}

/// What a run allocates, less what `apart` says of it.
fn allocated(effort: Effort, apart: impl Fn(&Runtime, &Bytes) -> f64) -> Result<Comparison, String> {
    let runtime = one_thread()?;
    let twin = |twin| runner_with(pipeline(), Part::Pool, twin);
    let (plain, optimized) = (twin(Twin::Plain)?, twin(Twin::Optimized)?);
    let of = |runner: &Runner| {
        let run = bytes(&runtime, |runtime| {
            runtime.block_on(runner.run(Value::Int(0), Context::new()))
        });
        run.allocated - apart(&runtime, &run)
    };
    if of(&plain).is_nan() {
        return Err("this program's allocator does not count".to_owned());
    }
    Ok(effort.compare(|| of(&plain), || of(&optimized)))
}

/// By the engine: less the user's futures, and the result, which is the caller's.
pub(super) fn by_the_engine(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    allocated(effort, |runtime, run| {
        bytes(runtime, |runtime| runtime.block_on(futures_alone())).allocated + run.given
    })
}

/// In all.
pub(super) fn in_all(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    allocated(effort, |_, _| 0.0)
}
