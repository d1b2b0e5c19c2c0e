//! What it costs to keep runs in a `SQLite` file, beside one committed insert into such a file on the same disk.
//!
//! `cargo bench -p flujo-tokio --bench durable`
#![allow(clippy::expect_used)] // nothing depends on it

#[path = "../../flujo-core/benches/rows/mod.rs"]
mod rows;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use flujo_core::context::Context;
use flujo_core::value::Value;
use flujo_durable::Durability;
use flujo_store::Sqlite;
use flujo_tokio::{Handler, Loop, Pipeline, Runner, Step};
use rows::Row;
use tokio::runtime::{Builder, Runtime};

/// Steps of a run.
const STEPS: u32 = 50;
/// Steps of a long one, beside which its beginning and its end count for little.
const LONG: u32 = 1_000;
/// How often the two are measured in turn; the median counts.
const TURNS: usize = 15;
/// Runs at once.
const RUNS: u32 = 100;
/// Iterations of a growing loop, each of which adds a message of 1,000 bytes.
const ITERATIONS: i64 = 2_000;

fn steps(number: u32) -> Pipeline {
    (0..number).fold(Pipeline::new(), |pipeline, name| {
        let same = Handler::function(|input: Value| async move { Ok(input) });
        pipeline.then(Step::new(format!("step {name}"), same))
    })
}

fn runner(pipeline: Pipeline, path: &Path, durability: Durability) -> Runner {
    let store = Arc::new(Sqlite::open(path).expect("a file"));
    let runner = Runner::builder(pipeline).store(store).durability(durability);
    runner.build().expect("the pipelines of this benchmark can run")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Commits after which a log is begun anew: from then on nothing that is written makes it longer.
const LOG: u32 = 1_100;

/// Microseconds for one committed insert of what a step leaves. It is prepared once, as by the `sqlite3` of Python, which
/// the rows in Python stand beside.
fn insert(file: &rusqlite::Connection) -> f64 {
    let sql = "INSERT INTO records (body) VALUES (?1)";
    let mut statement = file.prepare_cached(sql).expect("a statement");
    let begin = Instant::now();
    for _ in 0..STEPS {
        statement.execute([[0_u8; 150].as_slice()]).expect("an insert");
    }
    begin.elapsed().as_secs_f64() * 1e6 / f64::from(STEPS)
}

fn one_run(runtime: &Runtime, runner: &Runner) -> f64 {
    let begin = Instant::now();
    let done = runtime.block_on(runner.run(Value::from(1), Context::new()));
    assert_eq!(done.status(), "completed");
    begin.elapsed().as_secs_f64() * 1e6 / f64::from(STEPS)
}

fn many_runs(runtime: &Runtime, runner: &Runner) -> f64 {
    let begin = Instant::now();
    runtime.block_on(async {
        let begun: Vec<_> = (0..RUNS)
            .map(|_| tokio::spawn(runner.run(Value::from(1), Context::new())))
            .collect();
        for run in begun {
            assert!(run.await.is_ok_and(|done| done.status() == "completed"));
        }
    });
    begin.elapsed().as_secs_f64() * 1e6 / f64::from(STEPS * RUNS)
}

/// The CPU time of all threads of this process so far, in microseconds.
fn cpu() -> f64 {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let times = threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok());
    let nanoseconds = times.filter_map(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.sum::<f64>() / 1e3
}

/// A file for the inserts, and a runner with one for its runs.
fn pair(folder: &Path, number: usize) -> (rusqlite::Connection, Runner) {
    let file = rusqlite::Connection::open(folder.join(format!("plain {number}.db"))).expect("a file");
    file.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE records (number INTEGER PRIMARY KEY, body BLOB)",
    )
    .expect("a table");
    let path = folder.join(format!("strict {number}.db"));
    (file, runner(steps(STEPS), &path, Durability::Strict))
}

fn strict_row(name: &str, pairs: &[(f64, f64)]) -> Row {
    let alone = median(pairs.iter().map(|(_, step)| *step).collect());
    let ratio = median(pairs.iter().map(|(plain, step)| step / plain).collect());
    Row {
        name: name.into(),
        value: alone,
        unit: "µs",
        baseline: alone / ratio,
        reach: "<= 1.3 x",
        holds: ratio <= 1.3,
        against: "one committed insert with synchronous=FULL into such a file",
    }
}

/// A commit that makes its log longer waits about twice as long as one that doesn't, so that the two are only compared
/// alike: in files that are new, and in files whose logs have been begun anew.
fn strict_rows(runtime: &Runtime, folder: &Path) -> [Row; 3] {
    let mut new = Vec::new();
    for number in 0..3 {
        let (file, runner) = pair(folder, number);
        new.extend((0..5).map(|_| (insert(&file), one_run(runtime, &runner))));
    }
    let (file, runner) = pair(folder, 3);
    for _ in 0..LOG / STEPS {
        let _warm = (insert(&file), one_run(runtime, &runner));
    }
    // One after the other: what a hundred runs leave for the disk to do is no insert's to wait for.
    let used: Vec<_> = (0..TURNS)
        .map(|_| (insert(&file), one_run(runtime, &runner)))
        .collect();
    let factors = (0..TURNS).map(|_| one_run(runtime, &runner) / many_runs(runtime, &runner));
    let factor = median(factors.collect());
    [
        strict_row("rust strict, one run, a step, new file", &new),
        strict_row("rust strict, one run, a step, file in use", &used),
        Row {
            name: "rust strict, steps/s of 100 runs at once".into(),
            value: factor,
            unit: "x",
            baseline: 1.0,
            reach: ">= 20 x",
            holds: factor >= 20.0,
            against: "one run alone",
        },
    ]
}

fn async_row(runtime: &Runtime, folder: &Path) -> Row {
    let kept = runner(steps(LONG), &folder.join("async.db"), Durability::Async);
    let bare = Runner::builder(steps(LONG)).build().expect("it can run");
    let many = |runner: &Runner| {
        let before = cpu();
        for _ in 0..5 {
            one_run(runtime, runner);
        }
        (cpu() - before) / f64::from(5 * LONG)
    };
    let _warm = (many(&kept), many(&bare));
    let values = (0..TURNS).map(|_| many(&kept) - many(&bare)).collect();
    let value = median(values);
    Row {
        name: "rust async, CPU a step of 1,000, all threads".into(),
        value,
        unit: "µs",
        baseline: 10.0,
        reach: "<= 10 µs",
        holds: value <= 10.0,
        against: "the same run without a store",
    }
}

fn growth_row(runtime: &Runtime, folder: &Path) -> Row {
    let add = Step::new(
        "add",
        Handler::scoped(|input, scope| async move {
            scope.update(|context| {
                let mut messages = match context.get("messages") {
                    Some(Value::List(messages)) => Vec::clone(messages),
                    _ => Vec::new(),
                };
                messages.push(Value::from("x".repeat(1_000)));
                context.set("messages", Value::list(messages));
            });
            Ok(Value::from(input.as_int().unwrap_or(0) + 1))
        }),
    );
    let turns = Loop::until("turns", add, |turn, _| Ok(turn.as_int() >= Some(ITERATIONS))).max_loops(3_000);
    let path = folder.join("growth.db");
    let store = Arc::new(Sqlite::open(&path).expect("a file"));
    let runner = Runner::builder(turns).store(Arc::clone(&store) as _);
    let runner = runner.build().expect("it can run");
    let done = runtime.block_on(runner.run(Value::from(0), Context::new()));
    assert_eq!(done.status(), "completed");
    let state = done
        .finish
        .context
        .to_value()
        .to_bytes()
        .expect("it can be saved")
        .len();
    store.close();
    #[allow(clippy::cast_precision_loss)] // small numbers
    let (size, state) = (
        fs::metadata(&path).expect("the file").len() as f64 / 1e6,
        state as f64 / 1e6,
    );
    Row {
        name: "rust file after 2,000 iterations that add 1 KB each".into(),
        value: size,
        unit: "MB",
        baseline: state,
        reach: "<= 3 x",
        holds: size <= 3.0 * state,
        against: "the final state",
    }
}

fn main() -> std::io::Result<()> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let folder = tempfile::tempdir()?;
    let [new, used, many] = strict_rows(&runtime, folder.path());
    rows::print([
        new,
        used,
        many,
        async_row(&runtime, folder.path()),
        growth_row(&runtime, folder.path()),
    ])
}
