//! Processes that tests start: this binary again, with a part to play.

use std::env;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use flujo_core::store::{Change, PurgeQuery, RunStore, StoreError};
use flujo_store::{Sqlite, WorkerHandle};

use super::runs::{append, have, wait, write};

const PART: &str = "FLUJO_TEST_PART";
const FILE: &str = "FLUJO_TEST_FILE";
const RUN: &str = "FLUJO_TEST_RUN";

/// A command that plays a part in a process of its own.
pub(crate) fn command(part: &str, file: &Path, run: &str) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args([
        "--exact",
        "child::plays_its_part",
        "--nocapture",
        "--test-threads=1",
    ]);
    command.env(PART, part).env(FILE, file).env(RUN, run);
    command.stdout(Stdio::piped());
    command
}

/// A process that plays a part, and what it says, line by line.
pub(crate) struct Player {
    pub(crate) process: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Player {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process = command.spawn().unwrap();
        let said = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, said }
    }

    /// The next thing it says; `None` when it has ended.
    pub(crate) fn says(&mut self) -> Option<String> {
        loop {
            let line = self.said.next()?.unwrap();
            // The frame around tests says something too.
            if let Some((_, said)) = line.split_once("says ") {
                return Some(said.to_owned());
            }
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn say(what: impl std::fmt::Display) {
    let mut out = std::io::stdout().lock();
    // In one piece: several processes may have one output.
    out.write_all(format!("says {what}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
fn plays_its_part() {
    let Ok(part) = env::var(PART) else {
        return; // nobody's child
    };
    let (file, run) = (env::var(FILE).unwrap(), env::var(RUN).unwrap());
    match part.as_str() {
        "opens" => say(format!("{:?}", Sqlite::open(&file).map(drop))),
        "writes for ever" => writes_for_ever(&file, &run),
        "writes short runs" => writes_short_runs(&file, &run),
        "writes until it fails" => writes_until_it_fails(&file, &run),
        "purges" => purges(&file),
        "works" => works(&file, &run),
        part => panic!("no such part: {part}"),
    }
}

/// Says each record's number once it is written.
fn writes_for_ever(file: &str, run: &str) {
    let store = Sqlite::open(file).unwrap();
    let worker = WorkerHandle::new(
        std::sync::Arc::new(Sqlite::open(file).unwrap()),
        flujo_core::store::Lease::default(),
    );
    let claim = wait(async {
        let worker = worker.id().await.unwrap();
        let created = store.create(super::runs::new(run), Some(worker)).await.unwrap();
        match created {
            flujo_core::store::Created::New(claim) => claim.unwrap(),
            flujo_core::store::Created::Exists(_) => panic!("{run} is there already"),
        }
    });
    for number in 1.. {
        write(&store, &claim, number, 300).unwrap();
        say(number);
    }
}

/// Fifty, each with what a short run writes.
fn writes_short_runs(file: &str, process: &str) {
    let store = Sqlite::open(file).unwrap();
    let worker = super::runs::enlist(&store);
    for run in 0..50 {
        let run = format!("{process} {run}");
        let claim = have(&store, &run, worker);
        let changes = vec![append(&run, 1, 300), append(&run, 2, 300), Change::Release];
        wait(store.write(&claim, changes)).unwrap();
    }
    say("done");
    store.close();
}

/// Says how many were written, and why the next one wasn't.
fn writes_until_it_fails(file: &str, run: &str) {
    let store = Sqlite::open(file).unwrap();
    let worker = super::runs::enlist(&store);
    let claim = have(&store, run, worker);
    for number in 1.. {
        if let Err(error) = wait(store.write(&claim, vec![append(run, number, 20_000)])) {
            say(number - 1);
            say(match error {
                StoreError::Full { .. } => "full".to_owned(),
                StoreError::Unreachable { .. } => "unreachable".to_owned(),
                other => format!("{other:?}"),
            });
            return;
        }
    }
}

/// Says when it begins, and how many it has purged; then it lives until it is killed.
fn purges(file: &str) {
    let store = Sqlite::open(file).unwrap();
    say("begins");
    say(wait(store.purge(PurgeQuery::default())).unwrap());
    loop {
        std::thread::park();
    }
}

/// Has a run and lives until it is killed.
fn works(file: &str, run: &str) {
    let store: std::sync::Arc<dyn RunStore> = std::sync::Arc::new(Sqlite::open(file).unwrap());
    let worker = WorkerHandle::new(store.clone(), flujo_core::store::Lease::default());
    let claim = have(&*store, run, wait(worker.id()).unwrap());
    write(&*store, &claim, 1, 300).unwrap();
    say("works");
    loop {
        std::thread::park();
    }
}
