//! What a step costs: a pipeline of no-op steps against a loop over boxed futures in the same process.
//!
//! `cargo bench -p flujo-tokio`

#[path = "../../flujo-core/benches/rows/mod.rs"]
mod rows;

use std::future::Future;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::context::Context;
use flujo_core::value::Value;
use flujo_tokio::{Handler, Parallel, Pipeline, Runner, Step};
use rows::Row;
use tokio::runtime::{Builder, Runtime};

const STEPS: u32 = 100;
const ROUNDS: u32 = 60;
/// The longest a step may take, in nanoseconds, and the largest ratio to the boxed-future loop.
const REACH: (f64, f64) = (150.0, 12.0);

fn noop(name: u32) -> Step {
    let handler = Handler::function(|input| async move {
        Ok(match input {
            Value::Int(number) => Value::Int(number + 1),
            other => other,
        })
    });
    Step::new(format!("step {name}"), handler)
}

fn linear(steps: u32) -> Runner {
    let pipeline = (0..steps).fold(Pipeline::new(), |pipeline, name| pipeline.then(noop(name)));
    build(pipeline)
}

fn build(pipeline: Pipeline) -> Runner {
    match Runner::builder(pipeline).build() {
        Ok(runner) => runner,
        Err(error) => unreachable!("the pipelines of this benchmark can run: {error}"),
    }
}

type Bare = Box<dyn Fn(i64) -> BoxFuture<'static, i64> + Send + Sync>;

fn bare_steps() -> Arc<Vec<Bare>> {
    let step = |_| -> Bare { Box::new(|number| Box::pin(async move { black_box(number) + 1 })) };
    Arc::new((0..STEPS).map(step).collect())
}

/// The best time of a few rounds, in nanoseconds for each of `parts`. A round does the work often enough to be measured.
fn best<F: Future<Output = ()>>(runtime: &Runtime, parts: u32, mut work: impl FnMut() -> F) -> f64 {
    let mut round = |times: u32| {
        let begin = Instant::now();
        for _ in 0..times {
            runtime.block_on(work());
        }
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(times) / f64::from(parts)
    };
    let times = (2e6 / (round(5) * f64::from(parts))).clamp(1.0, 1e4);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped above
    let times = times as u32;
    (0..ROUNDS).map(|_| round(times)).fold(f64::INFINITY, f64::min)
}

fn linear_row(name: &'static str, runtime: &Runtime) -> Row {
    let (runner, steps) = (linear(STEPS), bare_steps());
    let baseline = best(runtime, STEPS, || {
        let steps = Arc::clone(&steps);
        async move {
            let mut number = 0;
            for step in steps.iter() {
                number = step(number).await;
            }
            black_box(number);
        }
    });
    let value = best(runtime, STEPS, || {
        let run = runner.run(Value::Int(0), Context::new());
        async move {
            black_box(run.await);
        }
    });
    Row {
        name: name.into(),
        value,
        unit: "ns",
        baseline,
        reach: "<= 150 ns and <= 12 x a boxed-future loop",
        holds: value <= REACH.0 && value / baseline <= REACH.1,
        against: "a boxed-future loop",
    }
}

/// 10,000 steps cost as much each as 100 do.
fn flat_row(runtime: &Runtime) -> Row {
    let per_step = |steps: u32| {
        let runner = linear(steps);
        best(runtime, steps, || {
            let run = runner.run(Value::Int(0), Context::new());
            async move {
                black_box(run.await);
            }
        })
    };
    let (baseline, value) = (per_step(100), per_step(10_000));
    Row {
        name: "rust linear 10,000 steps, per step".into(),
        value,
        unit: "ns",
        baseline,
        reach: "<= 2 x the step of 100",
        holds: value / baseline <= 2.0,
        against: "a step of 100",
    }
}

fn parallel_row(runtime: &Runtime) -> Row {
    let branches = (0..STEPS).fold(Parallel::new("split"), |parallel, name| {
        parallel.branch(format!("branch {name}"), noop(name))
    });
    let runner = build(branches.into());
    let baseline = best(runtime, STEPS, || async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..STEPS {
            tasks.spawn(async move { black_box(number) });
        }
        while let Some(number) = tasks.join_next().await {
            let _ = black_box(number);
        }
    });
    let value = best(runtime, STEPS, || {
        let run = runner.run(Value::Int(0), Context::new());
        async move {
            black_box(run.await);
        }
    });
    Row {
        name: "rust parallel 100 no-op branches, per branch".into(),
        value,
        unit: "ns",
        baseline,
        reach: "reported",
        holds: true,
        against: "tasks",
    }
}

/// Sends as many chunks as its input says.
struct Chunks;

impl Agent for Chunks {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            for chunk in 0..request.input.as_int().unwrap_or(0) {
                request.send_chunk(chunk).await;
            }
            Ok(Value::Null.into())
        })
    }
}

/// 200,000 chunks of an agent's answer, read as fast as they come, against a bare channel of the same size.
fn chunks_row(runtime: &Runtime) -> Row {
    const CHUNKS: u32 = 200_000;
    let runner = build(Step::agent("say", Arc::new(Chunks)).into());
    let baseline = best(runtime, CHUNKS, || async {
        let (sender, mut receiver) = tokio::sync::mpsc::channel(64);
        let sent = async move {
            for chunk in 0..i64::from(CHUNKS) {
                let _ = sender.send(Value::Int(chunk)).await;
            }
        };
        let read = async {
            while let Some(chunk) = receiver.recv().await {
                black_box(chunk);
            }
        };
        tokio::join!(sent, read);
    });
    let value = best(runtime, CHUNKS, || {
        let mut run = runner.run(Value::Int(i64::from(CHUNKS)), Context::new());
        async move {
            while let Some(event) = run.events().next().await {
                black_box(event);
            }
        }
    });
    Row {
        name: "rust 200,000 streamed chunks, per chunk".into(),
        value,
        unit: "ns",
        baseline,
        reach: "<= 1000 ns",
        holds: value <= 1_000.0,
        against: "a bare channel",
    }
}

fn main() -> std::io::Result<()> {
    let current_thread = Builder::new_current_thread().enable_all().build()?;
    let multi_thread = Builder::new_multi_thread().enable_all().build()?;
    let rows = [
        linear_row("rust linear 100 steps, current thread", &current_thread),
        linear_row("rust linear 100 steps, multi-thread", &multi_thread),
        flat_row(&current_thread),
        parallel_row(&multi_thread),
        chunks_row(&current_thread),
    ];
    rows::print(rows)
}
