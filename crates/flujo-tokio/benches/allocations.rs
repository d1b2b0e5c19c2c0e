//! What the engine itself allocates for a run of 20 steps, some of them tried twice, four of them side by side: all that
//! is allocated, less what user futures and values take. A binary of its own, since every allocation of it is counted.
//!
//! `cargo bench -p flujo-tokio --bench allocations`

use std::future::Future;
use std::hint::black_box;
use std::time::Instant;

use dhat::HeapStats;
use flujo_core::config::{OptimizationConfig, Part, Twin};
use flujo_core::context::Context;
use flujo_core::value::Value;
use flujo_tokio::{Handler, Parallel, Pipeline, Runner, Step};
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Steps one after the other, beside the four lanes.
const STEPS: u32 = 16;
/// Every so many of them fails at its first attempt.
const FLAKY: u32 = 4;
const RUNS: u64 = 200;

fn plain(name: String) -> Step {
    Step::new(name, Handler::function(|input| async move { Ok(input) }))
}

fn flaky(name: String) -> Step {
    let handler = Handler::scoped(|input: Value, scope| async move {
        if scope.place().attempt == 1 {
            return Err(flujo_tokio::Raised::from("once"));
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
            plain(name)
        })
    });
    let lanes = ["a", "b", "c", "d"].into_iter();
    let lanes = lanes.fold(Parallel::new("lanes"), |lanes, name| {
        lanes.branch(name, plain(name.to_owned()))
    });
    steps.then(lanes)
}

/// The futures that the user's functions are, without an engine around them.
async fn futures_alone() {
    for step in 0..STEPS + 4 {
        let attempts = if step < STEPS && step % FLAKY == 0 { 2 } else { 1 };
        for _ in 0..attempts {
            let future: flujo_core::agent::BoxFuture<'static, Value> = Box::pin(async { Value::Int(1) });
            black_box(future.await);
        }
    }
}

/// Blocks and bytes per round, and how long a round takes in nanoseconds.
fn measured<F: Future>(runtime: &Runtime, mut round: impl FnMut() -> F) -> (f64, f64, f64) {
    for _ in 0..RUNS {
        runtime.block_on(round());
    }
    let (before, begin) = (HeapStats::get(), Instant::now());
    for _ in 0..RUNS {
        runtime.block_on(round());
    }
    let (time, after) = (begin.elapsed(), HeapStats::get());
    #[allow(clippy::cast_precision_loss)] // to be shown
    let each = |total: u64| total as f64 / RUNS as f64;
    (
        each(after.total_blocks - before.total_blocks),
        each(after.total_bytes - before.total_bytes),
        time.as_secs_f64() * 1e9 / 200.0,
    )
}

#[allow(clippy::print_stdout)] // a benchmark tells
fn main() {
    let _profiler = if std::env::args().any(|argument| argument == "--profile") {
        dhat::Profiler::new_heap()
    } else {
        dhat::Profiler::builder().testing().build()
    };
    let Ok(runtime) = Builder::new_current_thread().enable_time().build() else {
        return;
    };
    let (own_blocks, own_bytes, _) = measured(&runtime, futures_alone);
    println!("user futures alone   {own_blocks:8.1} blocks {own_bytes:10.0} bytes per run");
    for pool in [Twin::Plain, Twin::Optimized] {
        let mut config = OptimizationConfig::default();
        config.set_twin(Part::Pool, pool);
        let Ok(runner) = Runner::builder(pipeline()).optimization_config(config).build() else {
            continue;
        };
        let (blocks, bytes, _) = measured(&runtime, || runner.run(Value::Int(1), Context::new()));
        println!(
            "pool {:15} {:8.1} blocks {:10.0} bytes per run of the engine",
            pool.name(),
            blocks - own_blocks,
            bytes - own_bytes
        );
    }
}
