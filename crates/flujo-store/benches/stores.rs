//! What a durable step costs, and whether a million runs make anything slow.
//!
//! `cargo bench -p flujo-store --bench stores`; with `-- --few` a hundredth of the runs, to see that it works.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::cast_precision_loss
)] // nothing depends on it

#[path = "../../flujo-core/benches/rows/mod.rs"]
mod rows;
#[path = "../tests/stores/server.rs"]
mod server;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flujo_core::store::{
    Change, Claim, Created, NewRun, Process, Record, RunQuery, RunStatus, RunStore, Seen, Summary, WorkerId,
};
use flujo_core::usage::Usage;
use flujo_store::{Postgres, PostgresOptions, Sqlite};
use rows::Row;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// What a step leaves in the log.
const BODY: usize = 300;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn new(id: &str, status: RunStatus, created: i64) -> NewRun {
    NewRun {
        id: id.into(),
        pipeline: "bench".into(),
        definition: b"definition".as_slice().into(),
        created,
        forked_from: None,
        status,
        snapshot: b"snapshot".as_slice().into(),
        blobs: Vec::new(),
    }
}

async fn enlist(store: &dyn RunStore) -> WorkerId {
    let process = Process {
        host: "bench".into(),
        boot: "boot".into(),
        pid: 1,
        began: 1,
    };
    store.enlist(process).await.unwrap()
}

async fn begin(store: &dyn RunStore, run: &str, worker: WorkerId) -> Claim {
    match store
        .create(new(run, RunStatus::Running, 1), Some(worker))
        .await
        .unwrap()
    {
        Created::New(claim) => claim.unwrap(),
        Created::Exists(_) => panic!("{run} is there already"),
    }
}

/// A step: its record, and how the run stands now.
async fn step(store: &dyn RunStore, claim: &Claim, number: u64) {
    let record = Record {
        number,
        body: vec![7; BODY].into(),
    };
    let summary = Summary {
        status: RunStatus::Running,
        updated: 1,
        due: None,
        steps: number,
        usage: Usage::ZERO,
        message: None,
    };
    let changes = vec![Change::Append(vec![record]), Change::Summary(summary)];
    store.write(claim, changes).await.unwrap();
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_nanos() as f64 / 1000.0
}

fn timed<T>(act: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    std::hint::black_box(act());
    begin.elapsed()
}

/// Microseconds of one step of one run, and of one committed insert, turn by turn.
fn single(folder: &Path, steps: u64) -> (f64, f64) {
    let runtime = runtime();
    let store = Sqlite::open(folder.join("single.db")).unwrap();
    let claim = runtime.block_on(async { begin(&store, "a", enlist(&store).await).await });
    let bare = rusqlite::Connection::open(folder.join("bare.db")).unwrap();
    bare.execute_batch(
        "PRAGMA journal_mode = wal; PRAGMA synchronous = full; CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB)",
    )
    .unwrap();
    let mut insert = bare.prepare("INSERT INTO t (body) VALUES (?1)").unwrap();
    let body = vec![7; BODY];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for number in 1..=steps {
        ours.push(timed(|| runtime.block_on(step(&store, &claim, number))));
        theirs.push(timed(|| insert.execute((&body,)).unwrap()));
    }
    store.close();
    // Behind the place where both logs have been begun anew: a commit that makes a log longer waits about twice as long.
    let (ours, theirs) = (behind(ours), behind(theirs));
    (median(ours), median(theirs))
}

/// The later half.
fn behind(mut times: Vec<Duration>) -> Vec<Duration> {
    times.split_off(times.len() / 2)
}

/// Steps a second of so many runs at once.
fn together(store: &Arc<dyn RunStore>, runs: u64, steps: u64) -> f64 {
    runtime().block_on(async {
        let worker = enlist(&**store).await;
        let mut claims = Vec::new();
        for run in 0..runs {
            claims.push(begin(&**store, &format!("{worker:?} {run}"), worker).await);
        }
        let start = Instant::now();
        let mut tasks = JoinSet::new();
        for claim in claims {
            let store = store.clone();
            tasks.spawn(async move {
                for number in 1..=steps {
                    step(&*store, &claim, number).await;
                }
            });
        }
        tasks.join_all().await;
        (runs * steps) as f64 / start.elapsed().as_secs_f64()
    })
}

/// Bytes of the file for each record, without its body.
fn record_bytes(folder: &Path, records: u64) -> f64 {
    let file = folder.join("records.db");
    let store = Sqlite::open(&file).unwrap();
    runtime().block_on(async {
        let claim = begin(&store, "a", enlist(&store).await).await;
        for first in (1..=records).step_by(100) {
            let record = |number| Record {
                number,
                body: vec![7; 100].into(),
            };
            let records = (first..first + 100).map(record).collect();
            store.write(&claim, vec![Change::Append(records)]).await.unwrap();
        }
    });
    store.close();
    std::fs::metadata(file).unwrap().len() as f64 / records as f64 - 100.0
}

/// A file with so many runs that have ended.
fn many(file: &Path, runs: u64) -> Sqlite {
    let store = Sqlite::open(file).unwrap();
    runtime().block_on(async {
        for first in (0..runs).step_by(5000) {
            for run in first..(first + 5000).min(runs) {
                let status = RunStatus::ALL[2 + (run % 5) as usize];
                drop(store.create(new(&format!("run {run}"), status, run.cast_signed()), None));
            }
            store.flush().await.unwrap();
        }
    });
    store
}

/// Microseconds of a page of a list, of a page of what has failed, of a run that goes on, and of one that is looked at.
fn reading(store: &Sqlite, runs: u64) -> [f64; 4] {
    let runtime = runtime();
    let list = |query: &RunQuery| timed(|| runtime.block_on(store.list(query.clone())).unwrap());
    let failed = RunQuery {
        statuses: vec![RunStatus::Failed],
        pipeline: Some("bench".into()),
        ..RunQuery::default()
    };
    let run = |at: u64| Arc::<str>::from(format!("run {}", at * 7919 % runs));
    let load = |at: u64| timed(|| runtime.block_on(store.load(run(at))).unwrap());
    let worker = runtime.block_on(enlist(store));
    // Whoever goes on with a run that waits looks at it, takes it, which is written, and reads all of it.
    let resume = |at: u64| {
        let run = Arc::<str>::from(format!("run {}", at * 7919 % (runs / 5) * 5));
        timed(|| {
            runtime.block_on(async {
                assert_eq!(
                    store.info(run.clone()).await.unwrap().unwrap().summary.status,
                    RunStatus::Paused
                );
                store.claim(run.clone(), worker, Seen::Free).await.unwrap();
                store.load(run).await.unwrap()
            })
        })
    };
    let all = RunQuery::default();
    let turns = 0..301;
    [
        median(turns.clone().map(|_| list(&all)).collect()),
        median(turns.clone().map(|_| list(&failed)).collect()),
        median((0..101).map(resume).collect()),
        // Others than those: what nobody has asked for lately.
        median(turns.map(|at| load(at + 500)).collect()),
    ]
}

/// Steps a second of eight workers, each with so many runs.
fn workers(address: &str, schema: &str, runs: u64, steps: u64) -> f64 {
    let open = || -> Arc<dyn RunStore> {
        let mut options = PostgresOptions::default();
        schema.clone_into(&mut options.schema);
        Arc::new(Postgres::with(address, options).unwrap())
    };
    let stores: Vec<_> = (0..8).map(|_| open()).collect();
    std::thread::scope(|scope| {
        let working: Vec<_> = stores
            .iter()
            .map(|store| scope.spawn(|| together(store, runs, steps)))
            .collect();
        working.into_iter().map(|worker| worker.join().unwrap()).sum()
    })
}

/// Transactions a second of `pgbench` with eight clients, each writing what a step writes.
fn pgbench(folder: &Path, address: &str, seconds: u32) -> f64 {
    let script = folder.join("step.sql");
    std::fs::write(
        &script,
        "\\set number random(1, 9000000000000000)\n\
         BEGIN;\n\
         UPDATE pgbench.runs SET last = last + 1, bytes = bytes + 300, steps = steps + 1, updated = 1 \
         WHERE id = 'run ' || :client_id;\n\
         INSERT INTO pgbench.records SELECT run, :number, decode(repeat('07', 300), 'hex'), 1 \
         FROM pgbench.runs WHERE id = 'run ' || :client_id;\n\
         COMMIT;\n",
    )
    .unwrap();
    let mut options = PostgresOptions::default();
    "pgbench".clone_into(&mut options.schema);
    let store = Postgres::with(address, options).unwrap();
    runtime().block_on(async {
        let worker = enlist(&store).await;
        for client in 0..8 {
            begin(&store, &format!("run {client}"), worker).await;
        }
    });
    let told = Command::new("pgbench")
        .args([
            "--no-vacuum",
            "--client=8",
            "--jobs=2",
            "--protocol=prepared",
            "--time",
        ])
        .arg(seconds.to_string())
        .arg("--file")
        .arg(&script)
        .arg(address)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr);
    let rate = told.lines().find_map(|line| {
        line.strip_prefix("tps = ")?
            .split_whitespace()
            .next()?
            .parse()
            .ok()
    });
    rate.unwrap_or_else(|| panic!("pgbench said {told}"))
}

fn row(name: &str, value: f64, unit: &'static str, baseline: f64, reach: &'static str, holds: bool) -> Row {
    Row {
        name: name.to_owned(),
        value,
        unit,
        baseline,
        reach,
        holds,
        against: "",
    }
}

fn main() -> std::io::Result<()> {
    let few = std::env::args().any(|argument| argument == "--few");
    // Beside the build, so on a disk: what is temporary may be in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let folder = folder.path();
    let some = |number: u64| if few { number / 100 } else { number };
    let (step, bare) = single(folder, some(3000).max(50));
    let mut all = vec![Row {
        against: "one committed insert, synchronous=FULL",
        ..row(
            "store: strict, one run, a step",
            step,
            "us",
            bare,
            "<= 1.3 x",
            step <= bare * 1.3,
        )
    }];
    let store: Arc<dyn RunStore> = Arc::new(Sqlite::open(folder.join("together.db")).unwrap());
    let (one, hundred) = (
        together(&store, 1, some(1000).max(50)),
        together(&store, 100, some(10_000).max(100) / 100),
    );
    all.push(Row {
        against: "steps a second of one run",
        ..row(
            "store: strict, 100 runs at once",
            hundred,
            "steps/s",
            one,
            ">= 20 x",
            hundred >= one * 20.0,
        )
    });
    let bytes = record_bytes(folder, 20_000);
    all.push(Row {
        against: "its body of 100 bytes",
        ..row(
            "store: bytes beside a record",
            bytes,
            "bytes",
            100.0,
            "reported",
            true,
        )
    });
    let (little, much) = (1000, some(1_000_000));
    let small = reading(&many(&folder.join("little.db"), little), little);
    let large = reading(&many(&folder.join("much.db"), much), much);
    let names = [
        "a page of runs",
        "a page of failed runs",
        "going on with a run",
        "looking at a run",
    ];
    for ((name, small), large) in names.iter().zip(small).zip(large) {
        // What a run costs that nobody has asked for lately is in pages that are read one after the other.
        let reach = if *name == "looking at a run" {
            "reported"
        } else {
            "<= 2 x"
        };
        all.push(Row {
            against: "among 1,000",
            ..row(
                &format!("store: {name} among {much}"),
                large,
                "us",
                small,
                reach,
                reach == "reported" || large <= small * 2.0,
            )
        });
    }
    let server = server::Server::with(&["fsync=on"]);
    let bench = pgbench(folder, &server.address(), if few { 1 } else { 10 });
    for (name, schema, runs) in [("a run each", "one", 1), ("8 runs each", "eight", 8)] {
        let rate = workers(&server.address(), schema, runs, some(6000).max(100) / runs);
        all.push(Row {
            against: "pgbench, 8 clients, the same writes",
            ..row(
                &format!("store: PostgreSQL, 8 workers, {name}"),
                rate,
                "steps/s",
                bench,
                ">= 2000 steps/s or 0.7 x",
                rate >= 2000.0 || rate >= bench * 0.7,
            )
        });
    }
    rows::print(all)
}
