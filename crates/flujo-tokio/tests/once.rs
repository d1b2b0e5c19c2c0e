//! Parts of a step that are done once, however often the step begins anew.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

use std::sync::{Arc, Mutex, OnceLock};

use flujo_core::context::Context;
use flujo_core::store::RunStore;
use flujo_core::value::Value;
use flujo_durable::Durability;
use flujo_store::{Memory, Sqlite};
use flujo_tokio::{Canceller, Done, Handler, Loop, Parallel, Pipeline, Raised, Runner, Step};
use tokio::sync::Notify;

/// What was done outside of runs, and where the process dies.
#[derive(Clone, Default)]
struct World(Arc<Inner>);

#[derive(Default)]
struct Inner {
    done: Mutex<Vec<String>>,
    dies_before: Mutex<Option<String>>,
    died: Notify,
}

impl World {
    /// A step that does three parts, and fails so often after them.
    fn step(&self, name: &'static str, fails: u32) -> Step {
        let world = self.clone();
        let work = Handler::scoped(move |input, scope| {
            let world = world.clone();
            async move {
                let mut sum = input.as_int().unwrap_or(0);
                for part in ["a", "b", "c"] {
                    let told = format!("{name} {part} {:?}", scope.place().iterations);
                    if world.0.dies_before.lock().expect("where").as_ref() == Some(&told) {
                        world.0.died.notify_one();
                        std::future::pending::<()>().await;
                    }
                    let once = scope.once(part, || async {
                        world.0.done.lock().expect("done").push(told.clone());
                        Ok(Value::from(1))
                    });
                    sum += once.await?.as_int().unwrap_or(0);
                }
                if scope.place().attempt <= fails {
                    return Err(Raised::new(format!("{name} fails")));
                }
                Ok(Value::from(sum))
            }
        });
        Step::new(name, work).retries(fails)
    }

    fn pipeline(&self) -> Pipeline {
        let turns = Loop::until("turns", self.step("turn", 0), |output, _| {
            Ok(output.as_int() >= Some(9))
        });
        Pipeline::from(self.step("first", 1)).then(turns.max_loops(5))
    }

    fn done(&self) -> Vec<String> {
        self.0.done.lock().expect("done").clone()
    }

    async fn until_it_dies(&self, store: &Arc<dyn RunStore>, durability: Durability) -> Option<Done> {
        let runner = Runner::builder(self.pipeline())
            .store(Arc::clone(store))
            .durability(durability)
            .build()
            .expect("it can run");
        let run = runner.run_named("the run", Value::from(0), Context::new());
        tokio::select! {
            done = run => Some(done),
            () = self.0.died.notified() => None,
        }
    }
}

fn whole() -> Vec<String> {
    let mut parts = Vec::new();
    for place in ["first {} []", "turn {} [1]", "turn {} [2]"] {
        parts.extend(["a", "b", "c"].map(|part| place.replace("{}", part)));
    }
    parts
}

#[tokio::test]
async fn a_part_is_done_once_for_all_attempts_and_anew_for_each_step_and_iteration() {
    let world = World::default();
    let runner = Runner::builder(world.pipeline()).build().expect("it can run");
    let done = runner.run(Value::from(0), Context::new()).await;
    assert_eq!(
        (done.status(), done.output()),
        ("completed", Some(&Value::from(9)))
    );
    assert_eq!(world.done(), whole());
}

#[tokio::test]
async fn a_process_that_dies_before_any_part_leaves_the_parts_before_it_done() {
    for dies_before in whole() {
        let (world, store): (_, Arc<dyn RunStore>) = (World::default(), Arc::new(Memory::new()));
        *world.0.dies_before.lock().expect("where") = Some(dies_before.clone());
        assert!(world.until_it_dies(&store, Durability::Strict).await.is_none());
        *world.0.dies_before.lock().expect("where") = None;
        let done = world
            .until_it_dies(&store, Durability::Strict)
            .await
            .expect("it ends");
        assert_eq!(done.output(), Some(&Value::from(9)), "{:?}", done.finish.outcome);
        assert_eq!(world.done(), whole(), "when it dies before {dies_before}");
    }
}

/// Cancelled before one of its parts in two branches at once, and gone on with: in the same process, in another one.
#[tokio::test]
async fn a_cancelled_run_that_goes_on_does_no_part_again() {
    let branches = |world: &World| {
        let fan = Parallel::new("fan")
            .branch("left", world.step("left", 0))
            .branch("right", world.pipeline());
        Pipeline::from(world.step("before", 0)).then(fan)
    };
    let expected = |world: &World| {
        let mut done = world.done();
        done.sort();
        let mut parts = whole();
        parts.extend(["a", "b", "c"].map(|part| format!("before {part} []")));
        parts.extend(["a", "b", "c"].map(|part| format!("left {part} []")));
        parts.sort();
        (done, parts)
    };
    for (dies_before, elsewhere, times) in [
        ("before b []", false, 1),
        ("before c []", true, 2),
        ("left c []", false, 2),
        ("left b []", true, 1),
        ("first b []", true, 2),
        ("turn c [2]", false, 1),
        ("turn b [1]", true, 1),
    ] {
        let (world, store): (_, Arc<dyn RunStore>) = (World::default(), Arc::new(Memory::new()));
        let runner = || {
            let runner = Runner::builder(branches(&world));
            runner.store(Arc::clone(&store)).build().expect("it can run")
        };
        *world.0.dies_before.lock().expect("where") = Some(dies_before.to_owned());
        let mut here = runner();
        // Three parts of `before` make it 0, with which the loop has two turns.
        let mut run = here.run_named("the run", Value::from(-3), Context::new());
        for time in 0..times {
            let canceller = run.canceller();
            let (done, ()) = tokio::join!(run, async {
                world.0.died.notified().await;
                canceller.cancel();
            });
            assert_eq!(done.status(), "cancelled");
            let mut stopped = done.stopped.expect("it can go on");
            if elsewhere {
                here = runner();
                stopped = here.stored("the run").await.stopped.expect("it can go on");
            }
            if time + 1 == times {
                *world.0.dies_before.lock().expect("where") = None;
            }
            run = here.resume_stopped(&stopped, None).expect("it goes on");
        }
        let done = run.await;
        assert_eq!(done.status(), "completed", "{:?}", done.finish.outcome);
        let (done, expected) = expected(&world);
        assert_eq!(done, expected, "when it is cancelled before {dies_before}");
    }
}

#[tokio::test]
async fn a_part_that_fails_is_not_recorded_and_those_who_ask_at_once_share_it() {
    let asked = Arc::new(Mutex::new(0));
    let counts = Arc::clone(&asked);
    let work = Handler::scoped(move |_, scope| {
        let counts = Arc::clone(&counts);
        async move {
            let ask = || {
                scope.once("ask", || async {
                    tokio::task::yield_now().await;
                    let mut asked = counts.lock().expect("count");
                    *asked += 1;
                    if *asked == 1 {
                        return Err(Raised::new("not yet"));
                    }
                    Ok(Value::from(*asked))
                })
            };
            let (first, second) = tokio::join!(ask(), ask());
            let given = [first, second]
                .into_iter()
                .filter_map(Result::ok)
                .collect::<Vec<_>>();
            Ok(Value::list([given[0].clone(), ask().await?]))
        }
    });
    let runner = Runner::builder(Step::new("asks", work)).store(Arc::new(Memory::new()));
    let done = runner
        .build()
        .expect("it can run")
        .run(Value::Null, Context::new())
        .await;
    assert_eq!(
        done.output(),
        Some(&Value::list([Value::from(2), Value::from(2)]))
    );
    assert_eq!(*asked.lock().expect("count"), 2);
}

#[tokio::test]
async fn a_part_that_is_on_its_way_into_the_store_when_its_run_is_cancelled_is_not_done_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Sqlite::open(folder.path().join("runs.db")).expect("a file");
    let (asked, cancels) = (Arc::new(Mutex::new(0)), Arc::new(OnceLock::<Canceller>::new()));
    let work = {
        let (asked, cancels) = (Arc::clone(&asked), Arc::clone(&cancels));
        Handler::scoped(move |_, scope| {
            let (asked, cancels) = (Arc::clone(&asked), Arc::clone(&cancels));
            async move {
                let part = scope.once("ask", || async {
                    *asked.lock().expect("count") += 1;
                    if let Some(cancels) = cancels.get() {
                        cancels.cancel();
                    }
                    Ok(Value::from(7))
                });
                part.await
            }
        })
    };
    let runner = Runner::builder(Step::new("asks", work)).store(Arc::new(store));
    let runner = runner.build().expect("it can run");
    let run = runner.run_named("the run", Value::Null, Context::new());
    assert!(cancels.set(run.canceller()).is_ok());
    let stopped = run
        .await
        .stopped
        .expect("it was cancelled while that was written");
    let done = runner.resume_stopped(&stopped, None).expect("it goes on").await;
    assert_eq!(done.output(), Some(&Value::from(7)));
    assert_eq!(*asked.lock().expect("count"), 1);
}
