//! Runs in a store that others look at, answer, stop, fork and take over.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

mod answers;
mod blobs;
mod events;
mod redirects;
mod waits;

use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::machine::Outcome;
use flujo_core::store::{RunQuery, RunStatus, RunStore, StoreError};
use flujo_core::value::Value;
use flujo_durable::{DurableError, ForkError, ForkPoint, Retention};
use flujo_store::{Memory, Sqlite};
use flujo_tokio::{
    Done, Handler, Human, Loop, Pipeline, Raised, Runner, RunnerBuilder, Step, Worker, user_error,
};
use tokio::sync::Notify;

/// What steps have begun, and steps that never end.
#[derive(Clone, Default)]
struct World(Arc<Inner>);

#[derive(Default)]
struct Inner {
    begun: Mutex<Vec<&'static str>>,
    /// What hangs: all, where it is empty.
    hangs: Mutex<Option<&'static str>>,
    hanging: Notify,
}

impl World {
    fn step(&self, name: &'static str) -> Step {
        let world = self.clone();
        let work = Handler::function(move |input: Value| {
            let world = world.clone();
            async move {
                world.begin(name).await;
                Ok(Value::from(input.as_int().unwrap_or(0) + 1))
            }
        });
        Step::new(name, work)
    }

    /// What has this name begins, and hangs where it is to.
    async fn begin(&self, name: &'static str) {
        self.0.begun.lock().expect("begun").push(name);
        let hangs = *self.0.hangs.lock().expect("hangs");
        if matches!(hangs, Some(at) if at.is_empty() || at == name) {
            self.0.hanging.notify_one();
            std::future::pending::<()>().await;
        }
    }

    fn hang(&self, hangs: bool) {
        *self.0.hangs.lock().expect("hangs") = hangs.then_some("");
    }

    fn hang_in(&self, name: &'static str) {
        *self.0.hangs.lock().expect("hangs") = Some(name);
    }

    fn begun(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.0.begun.lock().expect("begun"))
    }

    fn asking(&self) -> Pipeline {
        Pipeline::from(self.step("before"))
            .then(Human::new("ask"))
            .then(self.step("after"))
    }
}

/// A process with a runner of its own.
fn process(pipeline: Pipeline, store: &Arc<dyn RunStore>) -> Runner {
    builder(pipeline, store).build().expect("it can run")
}

fn builder(pipeline: Pipeline, store: &Arc<dyn RunStore>) -> RunnerBuilder {
    Runner::builder(pipeline).store(Arc::clone(store))
}

fn memory() -> Arc<dyn RunStore> {
    Arc::new(Memory::new())
}

fn stored_error(done: &Done) -> &DurableError {
    match &done.finish.outcome {
        Outcome::Failed(failure) => user_error(failure)
            .and_then(|error| error.downcast_ref())
            .expect("an error of the store"),
        outcome => panic!("{outcome:?}"),
    }
}

async fn ends(worker: Worker) {
    worker.drain(Duration::from_mins(1)).await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_left_in_the_store_is_taken_up_by_a_worker_elsewhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let store: Arc<dyn RunStore> = Arc::new(Sqlite::open(folder.path().join("runs.db")).expect("a file"));
    let world = World::default();
    let here = process(world.asking(), &store);
    let paused = here.run_named("the run", Value::from(1), Context::new()).await;
    assert_eq!(paused.status(), "paused");
    let elsewhere = process(world.asking(), &store);
    let worker = elsewhere.worker(2).expect("it has a store");
    let run = here.get("the run");
    assert_eq!(run.status().await, Ok(RunStatus::Paused));
    run.answer(None, serde_json::json!(40)).await.expect("it is left");
    let done = run.result().await;
    assert_eq!(
        (done.status(), done.output()),
        ("completed", Some(&Value::from(41)))
    );
    assert_eq!(world.begun(), ["before", "after"]);
    assert_eq!(run.status().await, Ok(RunStatus::Completed));
    let late = run.cancel().await;
    assert!(
        matches!(late, Err(DurableError::Store(StoreError::WrongStatus { .. }))),
        "{late:?}"
    );
    ends(worker).await;
}

#[tokio::test]
async fn a_worker_begins_what_is_queued_and_goes_on_with_what_was_left_half_done() {
    let (world, store) = (World::default(), memory());
    let pipeline = || Pipeline::from(world.step("one")).then(world.step("two"));
    let dies = process(pipeline(), &store);
    world.hang(true);
    let mut run = Box::pin(dies.run_named("half done", Value::from(0), Context::new()));
    tokio::select! {
        _ = &mut run => panic!("it doesn't end"),
        () = world.0.hanging.notified() => {}
    }
    drop(run);
    world.hang(false);
    let other = process(pipeline(), &store);
    other
        .enqueue("queued", Value::from(10), Context::new())
        .await
        .expect("it is put there");
    assert_eq!(other.get("queued").status().await, Ok(RunStatus::Queued));
    let recovered = process(pipeline(), &store).recover().await.expect("a store");
    let mut resumed: Vec<&str> = recovered.resumed.iter().map(|id| &**id).collect();
    resumed.sort_unstable();
    assert_eq!(resumed, ["half done", "queued"], "{recovered:?}");
    assert_eq!(other.stored("queued").await.output(), Some(&Value::from(12)));
    assert_eq!(other.stored("half done").await.output(), Some(&Value::from(2)));
    let again = process(pipeline(), &store).recover().await.expect("a store");
    assert_eq!(again, flujo_tokio::Recovered::default());
}

#[tokio::test]
async fn what_can_t_go_on_is_skipped_with_the_reason_and_what_fails_is_told() {
    let (world, store) = (World::default(), memory());
    let fails = Step::new("fails", Handler::function(|_| async { Err(Raised::new("no")) }));
    process(Pipeline::from(fails.clone()), &store)
        .enqueue("bad", Value::Null, Context::new())
        .await
        .expect("it is put there");
    let old = process(world.asking(), &store);
    old.run_named("old", Value::from(1), Context::new()).await;
    old.get("old")
        .answer(None, serde_json::json!(1))
        .await
        .expect("it is left");
    let recovered = process(Pipeline::from(fails), &store)
        .recover()
        .await
        .expect("a store");
    assert!(recovered.failed["bad"].contains("no"), "{recovered:?}");
    assert!(
        recovered.skipped["old"].contains("`ask` (question) is gone"),
        "{recovered:?}"
    );
    assert_eq!(recovered.resumed, Vec::<Arc<str>>::new());
}

#[tokio::test]
async fn a_run_is_cancelled_from_elsewhere_and_its_request_is_dealt_with() {
    let (world, store) = (World::default(), memory());
    world.hang(true);
    let here = process(world.step("hangs").into(), &store);
    let run = tokio::spawn(here.run_named("the run", Value::Null, Context::new()));
    world.0.hanging.notified().await;
    let kept = here.get("the run");
    assert_eq!(kept.status().await, Ok(RunStatus::Running));
    kept.cancel().await.expect("it is left");
    let done = run.await.expect("it ends");
    assert_eq!(done.status(), "cancelled");
    assert_eq!(kept.status().await, Ok(RunStatus::Cancelled));
    let with_messages = RunQuery {
        with_messages: true,
        ..RunQuery::default()
    };
    assert_eq!(store.list(with_messages).await.expect("a list").runs, []);
}

#[tokio::test]
async fn a_drained_worker_gives_back_what_doesn_t_end_in_time() {
    let (world, store) = (World::default(), memory());
    world.hang(true);
    let here = process(world.step("hangs").into(), &store);
    here.enqueue("the run", Value::from(1), Context::new())
        .await
        .expect("it is put there");
    let worker = here.worker(1).expect("it has a store");
    world.0.hanging.notified().await;
    worker.drain(Duration::ZERO).await.expect("it ends");
    world.hang(false);
    let done = process(world.step("hangs").into(), &store)
        .stored("the run")
        .await;
    assert_eq!(done.output(), Some(&Value::from(2)));
}

#[tokio::test]
async fn a_run_that_is_dropped_while_it_is_opened_is_free_for_others() {
    let (world, store) = (World::default(), memory());
    let here = process(world.asking(), &store);
    here.run_named("the run", Value::from(1), Context::new()).await;
    for polls in 1..6 {
        let mut run = Box::pin(here.stored("the run"));
        for _ in 0..polls {
            let poll = futures_poll(run.as_mut()).await;
            if poll {
                break;
            }
        }
        drop(run);
    }
    let elsewhere = process(world.asking(), &store);
    let done = elsewhere.get("the run").result().await;
    assert_eq!(done.status(), "paused", "{:?}", done.finish.outcome);
}

/// Polls once; whether it is ready.
async fn futures_poll(mut run: std::pin::Pin<&mut flujo_tokio::Run>) -> bool {
    std::future::poll_fn(|poller| std::task::Poll::Ready(run.as_mut().poll(poller).is_ready())).await
}

#[tokio::test]
async fn a_fork_begins_where_a_step_began_and_what_had_ended_is_part_of_it() {
    let (world, store) = (World::default(), memory());
    let turns = Loop::until("turns", world.step("turn"), |output, _| {
        Ok(output.as_int() >= Some(4))
    });
    let pipeline = Pipeline::from(world.step("first"))
        .then(turns.max_loops(9))
        .then(world.step("last"));
    let runner = process(pipeline, &store);
    let whole = runner.run_named("the run", Value::from(0), Context::new()).await;
    assert_eq!(world.begun(), ["first", "turn", "turn", "turn", "last"]);
    for (at, begun) in [
        (
            ForkPoint::first("first"),
            &["first", "turn", "turn", "turn", "last"][..],
        ),
        (ForkPoint::first("turn"), &["turn", "turn", "turn", "last"]),
        (
            ForkPoint {
                iteration: Some(3),
                ..ForkPoint::first("turn")
            },
            &["turn", "last"],
        ),
        (ForkPoint::first("last"), &["last"]),
    ] {
        let id = format!("from {at}");
        let fork = runner.fork("the run", at, &*id).await;
        assert_eq!(
            (fork.status(), fork.output()),
            ("completed", whole.output()),
            "{id}"
        );
        assert_eq!(world.begun(), begun, "{id}");
        assert_eq!(
            fork.finish.history.records.len(),
            whole.finish.history.records.len()
        );
        assert_eq!(fork.finish.usage, whole.finish.usage);
        let info = runner.get(id).info().await.expect("it is there");
        assert_eq!(info.forked_from.as_deref(), Some("the run"));
    }
    assert_eq!(runner.stored("the run").await.output(), whole.output());
}

#[tokio::test]
async fn a_fork_begins_before_a_question_that_another_process_has_answered() {
    let (world, store) = (World::default(), memory());
    let pipeline = || {
        Pipeline::from(world.step("first"))
            .then(Human::new("ask"))
            .then(world.step("last"))
    };
    process(pipeline(), &store)
        .run_named("the run", Value::from(0), Context::new())
        .await;
    let other = process(pipeline(), &store);
    let paused = other.stored("the run").await.paused.expect("it asks");
    let done = other.resume(&paused, Value::from(5)).expect("it goes on").await;
    assert_eq!(
        (done.output(), world.begun()),
        (Some(&Value::from(6)), vec!["first", "last"])
    );

    let fork = other.fork("the run", ForkPoint::first("first"), "before").await;
    assert_eq!((fork.status(), world.begun()), ("paused", vec!["first"]));
    let fork = other.fork("the run", ForkPoint::first("last"), "behind").await;
    assert_eq!((fork.output(), world.begun()), (done.output(), vec!["last"]));
}

#[tokio::test]
async fn a_fork_where_no_step_began_says_why() {
    let (world, store) = (World::default(), memory());
    let left = Pipeline::from(world.step("one"))
        .then(Human::new("ask"))
        .then(world.step("late"));
    let runner = process(left, &store);
    runner.run_named("the run", Value::from(0), Context::new()).await;
    let error = |done: Done| match stored_error(&done) {
        DurableError::Fork { error, .. } => error.clone(),
        error => panic!("{error}"),
    };
    let unknown = error(runner.fork("the run", ForkPoint::first("nowhere"), "a").await);
    assert!(
        matches!(&unknown, ForkError::UnknownStep { known, .. } if known.iter().any(|path| &**path == "late"))
    );
    let late = error(runner.fork("the run", ForkPoint::first("late"), "b").await);
    assert!(
        matches!(late, ForkError::NotReached { .. } | ForkError::Forgotten { .. }),
        "{late}"
    );
    let taken = runner.fork("the run", ForkPoint::first("ask"), "the run").await;
    assert!(matches!(
        stored_error(&taken),
        DurableError::Fork { .. } | DurableError::Exists { .. }
    ));
}

#[tokio::test]
async fn runs_are_kept_deleted_with_their_end_or_until_newer_ones_have_ended() {
    let world = World::default();
    for (retention, left) in [
        (Retention::Keep, 20),
        (Retention::DeleteOnCompletion, 0),
        (Retention::Latest(3), 6),
    ] {
        let store = memory();
        let runner = builder(world.step("one").into(), &store).retention(retention);
        let runner = runner.build().expect("it can run");
        for run in 0..20 {
            let done = runner
                .run_named(run.to_string(), Value::from(run), Context::new())
                .await;
            assert_eq!(done.output(), Some(&Value::from(run + 1)));
        }
        let kept = store.list(RunQuery::default()).await.expect("a list").runs.len();
        assert_eq!(kept, left, "{retention:?}");
    }
}

#[tokio::test]
async fn a_run_that_failed_stays_where_completed_ones_are_deleted() {
    let store = memory();
    let fails = Step::new("fails", Handler::function(|_| async { Err(Raised::new("no")) }));
    let runner = builder(fails.into(), &store).retention(Retention::DeleteOnCompletion);
    runner
        .build()
        .expect("it can run")
        .run_named("bad", Value::Null, Context::new())
        .await;
    let kept = store.list(RunQuery::default()).await.expect("a list").runs;
    assert_eq!(kept[0].summary.status, RunStatus::Failed);
}
