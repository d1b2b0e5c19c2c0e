//! Many runs at once: what each takes of memory, and whether a second core does as much as the first.
//!
//! `cargo bench -p flujo-tokio --bench concurrency`

#[path = "../../flujo-core/benches/rows/mod.rs"]
mod rows;

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use flujo_core::context::Context;
use flujo_core::value::Value;
use flujo_tokio::{Handler, Pipeline, Runner, Step};
use rows::Row;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};

const IN_FLIGHT: usize = 10_000;
const MEGABYTES: f64 = 40.0;
const RUNS: u64 = 400;
const STEPS: u32 = 10;
/// The interval over five alternations whose lower end must reach the factor: the smallest of the five.
const ALTERNATIONS: usize = 5;
const FACTOR: f64 = 1.7;

fn build(pipeline: Pipeline) -> Runner {
    match Runner::builder(pipeline).build() {
        Ok(runner) => runner,
        Err(error) => unreachable!("the pipelines of this benchmark can run: {error}"),
    }
}

/// The resident memory that 10,000 runs of five steps add, each of them in its third step, which waits.
fn memory_row(runtime: &Runtime) -> Row {
    let arrived = Arc::new((AtomicUsize::new(0), Notify::new()));
    let (open, gate) = watch::channel(false);
    let wait = {
        let arrived = Arc::clone(&arrived);
        Handler::function(move |input| {
            let (arrived, mut gate) = (Arc::clone(&arrived), gate.clone());
            async move {
                if arrived.0.fetch_add(1, Ordering::AcqRel) + 1 == IN_FLIGHT {
                    arrived.1.notify_one();
                }
                let _ = gate.wait_for(|open| *open).await;
                Ok(input)
            }
        })
    };
    let same = |name: &str| {
        Step::new(
            name.to_owned(),
            Handler::function(|input| async move { Ok(input) }),
        )
    };
    let runner = build(
        Pipeline::new()
            .then(same("first"))
            .then(same("second"))
            .then(Step::new("wait", wait))
            .then(same("fourth"))
            .then(same("last")),
    );
    let grown = runtime.block_on(async {
        black_box(runner.run(Value::Int(0), Context::new()).canceller()); // what is made once
        let before = resident();
        let started: Vec<_> = (0..IN_FLIGHT)
            .map(|_| tokio::spawn(runner.run(Value::Int(0), Context::new())))
            .collect();
        arrived.1.notified().await;
        let grown = resident() - before;
        let _ = open.send(true);
        for run in started {
            black_box(run.await.is_ok());
        }
        grown
    });
    let value = grown / 1e6;
    Row {
        name: "rust 10,000 runs in flight, memory".into(),
        value,
        unit: "MB",
        baseline: MEGABYTES,
        reach: "<= 40 MB",
        holds: value <= MEGABYTES,
        against: "4 KB a run",
    }
}

fn resident() -> f64 {
    let stats = memory_stats::memory_stats();
    #[allow(clippy::cast_precision_loss)] // a figure to be read
    stats.map_or(f64::NAN, |stats| stats.physical_mem as f64)
}

/// About 20 µs.
fn compute() {
    let mut number = 1_u64;
    for round in 0..20_000_u64 {
        number = black_box(number.rotate_left(5) ^ round);
    }
    black_box(number);
}

/// A step that only computes.
fn computing(name: u32) -> Step {
    let handler = Handler::function(|input| async move {
        compute();
        Ok(input)
    });
    Step::new(format!("compute {name}"), handler)
}

/// Seconds for the work of as many runs, shared out to plain threads.
fn by_threads(threads: u64) -> f64 {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| (0..RUNS * u64::from(STEPS) / threads).for_each(|_| compute()));
        }
    });
    begin.elapsed().as_secs_f64()
}

/// Seconds for so many runs at once.
fn all_at_once(runtime: &Runtime, runner: &Runner) -> f64 {
    let begin = Instant::now();
    runtime.block_on(async {
        let started: Vec<_> = (0..RUNS)
            .map(|_| tokio::spawn(runner.run(Value::Int(0), Context::new())))
            .collect();
        for run in started {
            black_box(run.await.is_ok());
        }
    });
    begin.elapsed().as_secs_f64()
}

/// Runs a second on two cores over those on one, beside what plain threads gain in the same moments: where others share the
/// machine's cores nobody gains more.
fn cores_row(one: &Runtime, two: &Runtime) -> Row {
    let runner = build((0..STEPS).fold(Pipeline::new(), |pipeline, name| pipeline.then(computing(name))));
    black_box((all_at_once(one, &runner), all_at_once(two, &runner)));
    let (mut value, mut threads) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..ALTERNATIONS {
        let alone = all_at_once(one, &runner);
        value = value.min(alone / all_at_once(two, &runner));
        let alone = by_threads(1);
        threads = threads.min(alone / by_threads(2));
    }
    Row {
        name: "rust runs/s of two cores, the smallest of 5 alternations".into(),
        value,
        unit: "x",
        baseline: threads,
        reach: ">= 1.7 x one core",
        holds: value >= FACTOR,
        against: "plain threads",
    }
}

fn main() -> std::io::Result<()> {
    let threads = |number| {
        Builder::new_multi_thread()
            .worker_threads(number)
            .enable_all()
            .build()
    };
    let (one, two) = (threads(1)?, threads(2)?);
    let memory = memory_row(&one);
    rows::print([memory, cores_row(&one, &two)])
}
