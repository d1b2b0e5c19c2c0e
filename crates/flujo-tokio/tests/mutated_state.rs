//! What is stored of runs, spoiled: it is shown or goes on as far as it can be read, or is refused by a typed error.
//! Nothing panics or works without end. `PROPTEST_CASES` says how many; 256 without it.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::store::{Change, Created, NewRun, Process, Record, RunStore, StoredRun};
use flujo_core::value::Value;
use flujo_durable::{Contents, Definition, Raw, Replay};
use flujo_store::Memory;
use flujo_tokio::{Handler, Human, Loop, MapOver, Parallel, Pipeline, Runner, Step};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

fn step(name: &'static str) -> Step {
    let work = Handler::processor(|input: &Value, _| Ok(Value::from(input.as_int().unwrap_or(0) + 1)));
    Step::new(name, work)
}

fn pipeline() -> Pipeline {
    let turns = Loop::until("turns", step("turn"), |output: &Value, _: &Context| {
        Ok(output.as_int().unwrap_or(0) > 3)
    });
    let halves = Parallel::new("halves")
        .branch("left", Pipeline::from(step("left")).then(step("left again")))
        .branch("right", step("right"));
    let numbers = Handler::processor(|_, _| Ok(Value::list([1, 2, 3].map(Value::from))));
    Pipeline::from(step("first"))
        .then(turns.max_loops(9))
        .then(halves)
        .then(Step::new("numbers", numbers))
        .then(MapOver::new("each", step("item")).max_concurrency(2))
        .then(Human::new("approve").sink_to("approved"))
        .then(step("last"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime")
}

/// A run that waits for a person, and one that has ended.
fn runs() -> [StoredRun; 2] {
    let store: Arc<dyn RunStore> = Arc::new(Memory::new());
    let runner = Runner::builder(pipeline())
        .store(Arc::clone(&store))
        .build()
        .expect("it can run");
    runtime().block_on(async {
        for name in ["waits", "ended"] {
            let paused = runner.run_named(name, Value::from(1), Context::new()).await;
            assert_eq!(paused.status(), "paused");
        }
        let waits = store.load("waits".into()).await.expect("it is there");
        let answer = runner.get("ended").answer(None, serde_json::json!(7)).await;
        answer.expect("it is left");
        let done = runner.run_named("ended", Value::from(1), Context::new()).await;
        assert_eq!(done.status(), "completed");
        [waits, store.load("ended".into()).await.expect("it is there")]
    })
}

/// What happens to bytes at a place.
#[derive(Debug, Clone)]
enum Mutation {
    Flipped(u8),
    Replaced(u8),
    Removed(usize),
    Repeated(usize),
    Inserted(Vec<u8>),
    Cut,
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (0..8_u8).prop_map(Mutation::Flipped),
        4 => any::<u8>().prop_map(Mutation::Replaced),
        1 => (1..40_usize).prop_map(Mutation::Removed),
        1 => (1..40_usize).prop_map(Mutation::Repeated),
        1 => vec(any::<u8>(), 1..9).prop_map(Mutation::Inserted),
        1 => Just(Mutation::Cut),
    ]
}

fn mutate(body: &mut Arc<[u8]>, at: Index, mutation: &Mutation) {
    let mut bytes = body.to_vec();
    let at = at.index(bytes.len() + 1);
    let end = |length: usize| (at + length).min(bytes.len());
    match mutation {
        Mutation::Flipped(bit) => bytes
            .iter_mut()
            .skip(at)
            .take(1)
            .for_each(|byte| *byte ^= 1 << bit),
        Mutation::Replaced(with) => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = *with),
        Mutation::Removed(length) => drop(bytes.drain(at..end(*length))),
        Mutation::Repeated(length) => {
            let part = bytes[at..end(*length)].to_vec();
            bytes.splice(at..at, part);
        }
        Mutation::Inserted(part) => drop(bytes.splice(at..at, part.iter().copied())),
        Mutation::Cut => bytes.truncate(at),
    }
    *body = bytes.into();
}

/// As `flujo runs show` does, without its callables.
fn look_at(stored: &StoredRun) -> Result<(), String> {
    let told = |error: flujo_durable::DurableError| error.to_string();
    let definition = Definition::of_stored(stored).map_err(told)?;
    drop(definition.differences(&Definition::of(&definition.plan()?)));
    let contents = Contents::<Raw>::of(stored).map_err(told)?;
    let mut replay = Replay::new(Arc::new(definition.plan()?), contents.snapshot)?;
    for entry in contents.records.into_iter().flat_map(|(_, entries)| entries) {
        replay.feed(entry)?;
    }
    drop((replay.questions(), replay.so_far(), replay.settle()));
    drop(replay.into_finish());
    Ok(())
}

/// As another process does that finds it.
fn go_on_with(stored: &StoredRun) {
    runtime().block_on(async {
        let store: Arc<dyn RunStore> = Arc::new(Memory::new());
        let process = Process {
            host: "here".into(),
            boot: "boot".into(),
            pid: 1,
            began: 1,
        };
        let worker = store.enlist(process).await.expect("a worker");
        let run = NewRun {
            id: Arc::clone(&stored.info.id),
            pipeline: Arc::clone(&stored.info.pipeline),
            definition: Arc::clone(&stored.definition),
            created: stored.info.created,
            forked_from: None,
            status: stored.info.summary.status,
            snapshot: Arc::clone(&stored.snapshot),
            blobs: Vec::new(),
        };
        let created = store.create(run, Some(worker)).await.expect("it is put there");
        let Created::New(Some(claim)) = created else {
            panic!("it was there before")
        };
        let records = (1..).zip(&stored.records).map(|(number, record)| Record {
            number,
            body: Arc::clone(&record.body),
        });
        let changes = vec![Change::Append(records.collect()), Change::Release];
        store.write(&claim, changes).await.expect("it is written");
        let runner = Runner::builder(pipeline())
            .store(Arc::clone(&store))
            .build()
            .expect("it can run");
        let run = runner.run_named(&*stored.info.id, Value::from(1), Context::new());
        // A year of its own time; what it waits for by then may never come.
        drop(tokio::time::timeout(Duration::from_hours(24 * 365), run).await);
    });
}

#[test]
fn spoiled_runs_are_shown_or_go_on_or_are_refused() {
    let runs = runs();
    for run in &runs {
        look_at(run).expect("what isn't spoiled is read");
    }
    let mutations = vec((any::<Index>(), any::<Index>(), mutation()), 1..4);
    proptest!(|(run in any::<Index>(), mutations in mutations)| {
        let mut spoiled = run.get(&runs).clone();
        for (part, at, mutation) in &mutations {
            match part.index(spoiled.records.len() + 2) {
                0 => mutate(&mut spoiled.definition, *at, mutation),
                1 => mutate(&mut spoiled.snapshot, *at, mutation),
                record => mutate(&mut spoiled.records[record - 2].body, *at, mutation),
            }
        }
        drop(look_at(&spoiled));
        go_on_with(&spoiled);
    });
}
