//! Runs that go on with a pipeline that has changed since they began, and those that must not.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

use std::sync::{Arc, Mutex};

use flujo_core::context::Context;
use flujo_core::machine::Outcome;
use flujo_core::store::{RunStatus, RunStore};
use flujo_core::value::Value;
use flujo_durable::{DurableError, ForkPoint};
use flujo_store::Memory;
use flujo_store::runs::{KeptEventKind, events};
use flujo_tokio::{Done, Handler, Human, Parallel, Pipeline, Runner, RunnerBuilder, Step, user_error};
use tokio::sync::Notify;

use crate::left::first_of;

/// The names of the steps that ran; one that is to die never ends.
#[derive(Clone, Default)]
struct World(Arc<Inner>);

#[derive(Default)]
struct Inner {
    ran: Mutex<Vec<&'static str>>,
    dies_in: Mutex<Option<&'static str>>,
    died: Notify,
}

impl World {
    fn step(&self, name: &'static str) -> Step {
        let world = self.clone();
        let work = Handler::function(move |input: Value| {
            let world = world.clone();
            async move {
                let dies = *world.0.dies_in.lock().expect("where") == Some(name);
                if dies {
                    world.0.died.notify_one();
                    std::future::pending::<()>().await;
                }
                world.0.ran.lock().expect("ran").push(name);
                Ok(Value::from(input.as_int().unwrap_or(0) + 1))
            }
        });
        Step::new(name, work)
    }

    fn steps(&self, names: &[&'static str]) -> Pipeline {
        let mut steps = names.iter().map(|name| match *name {
            "ask" => Pipeline::from(Human::new("ask")),
            name => Pipeline::from(self.step(name)),
        });
        let first = steps.next().expect("a step");
        steps.fold(first, Pipeline::then)
    }

    fn ran(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.0.ran.lock().expect("ran"))
    }

    /// A run that stands in `c`: its process died there, or it waits for an answer in its place.
    async fn begun(&self, store: &Arc<dyn RunStore>, names: &[&'static str]) {
        let runner = process(self.steps(names), store).build().expect("it can run");
        let run = runner.run_named("the run", Value::from(0), Context::new());
        *self.0.dies_in.lock().expect("where") = Some("c");
        tokio::select! {
            done = run => assert_eq!(done.status(), "paused"),
            () = self.0.died.notified() => {}
        }
        *self.0.dies_in.lock().expect("where") = None;
        self.ran();
    }
}

fn process(pipeline: Pipeline, store: &Arc<dyn RunStore>) -> RunnerBuilder {
    Runner::builder(pipeline).store(Arc::clone(store))
}

fn memory() -> Arc<dyn RunStore> {
    Arc::new(Memory::new())
}

/// Goes on with the run, answering what it asks.
async fn goes_on(builder: RunnerBuilder) -> Done {
    let runner = builder.build().expect("it can run");
    let done = runner.stored("the run").await;
    match &done.paused {
        None => done,
        Some(paused) => runner.resume(paused, Value::from(5)).expect("it goes on").await,
    }
}

fn differences(done: &Done) -> Vec<String> {
    let failure = match &done.finish.outcome {
        Outcome::Failed(failure) => failure,
        outcome => panic!("{outcome:?}"),
    };
    match user_error(failure).and_then(|error| error.downcast_ref()) {
        Some(DurableError::DefinitionChanged { differences, .. }) => differences.clone(),
        error => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn steps_may_come_and_go_behind_where_a_run_stands() {
    // What was written of the run is its log, or its state at a pause.
    for at in ["c", "ask"] {
        for (rest, ran) in [
            (&["d", "e", "new"][..], &["d", "e", "new"][..]),
            (&["new", "d", "e"], &["new", "d", "e"]),
            (&["e"], &["e"]),
            (&["d"], &["d"]),
        ] {
            let (world, store) = (World::default(), memory());
            world.begun(&store, &["a", "b", at, "d", "e"]).await;
            let names: Vec<_> = ["a", "b", at].into_iter().chain(rest.iter().copied()).collect();
            let done = goes_on(process(world.steps(&names), &store)).await;
            assert_eq!(done.status(), "completed", "{names:?}: {:?}", done.finish.outcome);
            let own = (at == "c").then_some("c");
            let expected: Vec<_> = own.into_iter().chain(ran.iter().copied()).collect();
            assert_eq!(world.ran(), expected);
        }
    }
}

#[tokio::test]
async fn a_run_that_went_on_with_a_changed_pipeline_is_one_of_that_pipeline() {
    let (world, store) = (World::default(), memory());
    world.begun(&store, &["a", "ask", "d"]).await;
    let changed = ["a", "ask", "new", "c", "d"];
    world.begun_again(&store, &changed).await;
    // It stands in a step that the pipeline it began with doesn't have.
    let done = goes_on(process(world.steps(&changed), &store)).await;
    assert_eq!(done.status(), "completed", "{:?}", done.finish.outcome);
    assert_eq!(world.ran(), ["c", "d"]);
}

impl World {
    async fn begun_again(&self, store: &Arc<dyn RunStore>, names: &[&'static str]) {
        *self.0.dies_in.lock().expect("where") = Some("c");
        tokio::select! {
            done = goes_on(process(self.steps(names), store)) => panic!("{done:?}"),
            () = self.0.died.notified() => {}
        }
        *self.0.dies_in.lock().expect("where") = None;
        assert_eq!(self.ran(), ["new"]);
    }
}

#[tokio::test]
async fn what_a_run_has_met_must_be_as_it_was_and_the_difference_is_named() {
    for at in ["c", "ask"] {
        for (names, named) in [
            (&["a", "new", "b", at, "d"][..], "new"),
            (&["a", at, "d"], "b"),
            (&["b", "a", at, "d"], "stands at another place"),
        ] {
            let (world, store) = (World::default(), memory());
            world.begun(&store, &["a", "b", at, "d"]).await;
            let refused = goes_on(process(world.steps(names), &store)).await;
            let told = differences(&refused).join("; ");
            // A log tells of steps in order, a state of where they stand.
            let fits = told.contains(named) || told.contains("where the pipeline is at step");
            assert!(fits, "{names:?}: {told}");
            assert_eq!(world.ran(), Vec::<&str>::new());
            // What is stored is as it was.
            let same = goes_on(process(world.steps(&["a", "b", at, "d"]), &store)).await;
            assert_eq!(same.status(), "completed", "{:?}", same.finish.outcome);
        }
    }
}

#[tokio::test]
async fn a_step_that_is_gone_is_missed_by_a_run_that_waits_in_it_and_not_by_one_whose_process_died_in_it() {
    let (world, store) = (World::default(), memory());
    world.begun(&store, &["a", "ask", "d"]).await;
    let told = differences(&goes_on(process(world.steps(&["a", "d"]), &store)).await).join("; ");
    assert!(told.contains("`ask` (question) is gone"), "{told}");
    let (world, store) = (World::default(), memory());
    world.begun(&store, &["a", "c", "d"]).await;
    let done = goes_on(process(world.steps(&["a", "d"]), &store)).await;
    assert_eq!((done.status(), world.ran()), ("completed", vec!["d"]));
}

#[tokio::test]
async fn the_configuration_of_steps_and_the_parts_of_constructs_that_have_not_begun_may_change() {
    let (world, store) = (World::default(), memory());
    let split = |branches: &[&'static str]| {
        let split = Parallel::new("split");
        let all = branches.iter();
        all.fold(split, |split, name| split.branch(*name, world.step(name)))
    };
    let pipeline = |retries, branches: &[&'static str]| {
        world
            .steps(&["a", "ask"])
            .then(world.step("d").retries(retries))
            .then(split(branches))
    };
    let before = process(pipeline(0, &["x", "y"]), &store)
        .build()
        .expect("it can run");
    before.run_named("the run", Value::from(0), Context::new()).await;
    world.ran();
    let done = goes_on(process(pipeline(3, &["x", "z"]), &store)).await;
    assert_eq!(done.status(), "completed", "{:?}", done.finish.outcome);
    let mut ran = world.ran();
    ran.sort_unstable();
    assert_eq!(ran, ["d", "x", "z"]);
}

#[tokio::test]
async fn a_run_whose_process_dies_after_it_went_on_from_a_stop_goes_on_in_lanes_too() {
    for changed in [false, true] {
        let (world, store) = (World::default(), memory());
        let lanes = || {
            let inner = Parallel::new("inner")
                .branch("p", world.step("p"))
                .branch("c", Pipeline::from(world.step("b")).then(world.step("c")));
            let outer = Parallel::new("outer")
                .branch("x", Pipeline::from(world.step("a")).then(inner))
                .branch("y", world.step("y"));
            Pipeline::from(outer)
        };
        *world.0.dies_in.lock().expect("where") = Some("c");
        let runner = process(lanes(), &store).build().expect("it can run");
        let run = runner.run_named("the run", Value::from(0), Context::new());
        let canceller = run.canceller();
        let (done, ()) = tokio::join!(run, async {
            world.0.died.notified().await;
            canceller.cancel();
        });
        assert_eq!(done.status(), "cancelled");
        let stopped = done.stopped.expect("it can go on");
        tokio::select! {
            done = runner.resume_stopped(&stopped, None).expect("it goes on") => panic!("{:?}", done.finish.outcome),
            () = world.0.died.notified() => {}
        }
        *world.0.dies_in.lock().expect("where") = None;
        let info = store.info("the run".into()).await.expect("it can be read");
        assert_eq!(info.expect("it is there").summary.status, RunStatus::Running);
        let mut ran = world.ran();
        assert!(ran.contains(&"b"), "{ran:?}");

        let (pipeline, expected) = if changed {
            (
                lanes().then(world.step("new")),
                &["a", "b", "c", "new", "p", "y"][..],
            )
        } else {
            (lanes(), &["a", "b", "c", "p", "y"][..])
        };
        let done = goes_on(process(pipeline, &store)).await;
        assert_eq!(done.status(), "completed", "{:?}", done.finish.outcome);
        ran.extend(world.ran());
        ran.sort_unstable();
        assert_eq!(ran, expected, "each once");
    }
}

#[tokio::test]
async fn a_run_goes_on_from_each_record_of_its_log_and_what_had_ended_is_not_run_again() {
    let (world, store) = (World::default(), memory());
    let lanes = || {
        let inner = Parallel::new("inner")
            .branch("p", world.step("p"))
            .branch("c", Pipeline::from(world.step("b")).then(world.step("c")));
        let outer = Parallel::new("outer")
            .branch("x", Pipeline::from(world.step("a")).then(inner))
            .branch("y", Pipeline::from(world.step("y")).then(world.step("z")));
        Pipeline::from(outer)
    };
    *world.0.dies_in.lock().expect("where") = Some("c");
    let runner = process(lanes(), &store).build().expect("it can run");
    let run = runner.run_named("the run", Value::from(0), Context::new());
    let canceller = run.canceller();
    let (done, ()) = tokio::join!(run, async {
        world.0.died.notified().await;
        canceller.cancel();
    });
    *world.0.dies_in.lock().expect("where") = None;
    let stopped = done.stopped.expect("it can go on");
    let whole = runner.resume_stopped(&stopped, None).expect("it goes on").await;
    assert_eq!(whole.status(), "completed", "{:?}", whole.finish.outcome);
    world.ran();

    let stored = store.load("the run".into()).await.expect("it is there");
    assert!(stored.records.len() > 8, "{}", stored.records.len());
    for records in 0..=stored.records.len() {
        for changed in [false, true] {
            let store: Arc<dyn RunStore> = first_of(&stored, records).await;
            let left = store.load("the run".into()).await.expect("it is there");
            let ended: Vec<_> = events(&left)
                .expect("what happened")
                .into_iter()
                .filter(|one| matches!(one.event.kind, KeptEventKind::StepFinished { .. }))
                .map(|one| one.event.step)
                .collect();
            let pipeline = if changed {
                lanes().then(world.step("new"))
            } else {
                lanes()
            };
            let runner = process(pipeline, &store).build().expect("it can run");
            let found = runner.stored("the run").await;
            let done = match &found.stopped {
                Some(stopped) => runner.resume_stopped(stopped, None).expect("it goes on").await,
                None => found,
            };
            let at = format!(
                "{records} of {} records, changed: {changed}",
                stored.records.len()
            );
            assert_eq!(done.status(), "completed", "{at}: {:?}", done.finish.outcome);
            assert_eq!(
                done.finish.history.records.len(),
                1 + usize::from(changed),
                "{at}"
            );
            let mut ran = world.ran();
            ran.sort_unstable();
            let all = ["a", "b", "c", "new", "p", "y", "z"].into_iter();
            let due: Vec<_> = all
                .filter(|step| (changed || *step != "new") && !ended.iter().any(|ended| **ended == **step))
                .collect();
            assert_eq!(ran, due, "{at}");
        }
    }
}

#[tokio::test]
async fn a_step_that_was_renamed_is_known_by_what_the_runner_says() {
    for at in ["c", "ask"] {
        let (world, store) = (World::default(), memory());
        world.begun(&store, &["a", "b", at]).await;
        let renamed = || process(world.steps(&["a", "better", at]), &store);
        let told = differences(&goes_on(renamed()).await).join("; ");
        assert!(told.contains("`b` (step) is gone"), "{told}");
        let done = goes_on(renamed().migrate(|run| {
            assert!(
                run.differences()
                    .iter()
                    .any(|difference| difference.contains("`better`"))
            );
            run.rename("b", "better");
        }))
        .await;
        assert_eq!(done.status(), "completed", "{:?}", done.finish.outcome);
        assert_eq!(world.ran(), if at == "c" { vec!["c"] } else { vec![] });
    }
}

#[tokio::test]
async fn a_run_is_forked_into_a_pipeline_whose_later_steps_have_changed() {
    let (world, store) = (World::default(), memory());
    let runner = process(world.steps(&["a", "b", "d"]), &store)
        .build()
        .expect("it can run");
    runner.run_named("the run", Value::from(0), Context::new()).await;
    world.ran();
    let changed = process(world.steps(&["a", "b", "new", "e"]), &store)
        .build()
        .expect("it can run");
    let fork = changed.fork("the run", ForkPoint::first("b"), "another").await;
    assert_eq!(fork.output(), Some(&Value::from(4)), "{:?}", fork.finish.outcome);
    assert_eq!(world.ran(), ["b", "new", "e"]);
}
