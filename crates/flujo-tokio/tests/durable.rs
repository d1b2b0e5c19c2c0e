//! Runs that are kept in a store: what ended is not done again, whatever becomes of the process that ran it.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::machine::Outcome;
use flujo_core::plan::Backoff;
use flujo_core::store::{RunQuery, RunStatus, RunStore, StoreError};
use flujo_core::usage::{Cost, Usage, UsageLimits};
use flujo_core::value::Value;
use flujo_durable::{Durability, DurableError};
use flujo_store::{Memory, Sqlite};
use flujo_tokio::{
    Conditional, Done, Handler, Human, Loop, MapOver, Parallel, Pipeline, Raised, Runner, RunnerBuilder,
    Step, user_error,
};
use tokio::sync::Notify;

/// What steps do outside of their run: how often each began and ended, by its idempotency key. One of them never ends.
#[derive(Clone, Default)]
struct World(Arc<Inner>);

#[derive(Default)]
struct Inner {
    effects: Mutex<Vec<(String, u32)>>,
    ended: Mutex<BTreeMap<String, u32>>,
    /// The process dies when so many steps have begun.
    dies_at: Mutex<Option<usize>>,
    died: Notify,
}

impl World {
    /// A step that writes its name into the context, uses something and adds one; it fails at first when it is to.
    fn step(&self, name: &'static str, fails: u32) -> Step {
        let world = self.clone();
        let work = Handler::scoped(move |input, scope| {
            let world = world.clone();
            async move {
                let (key, attempt) = (scope.place().idempotency_key(), scope.place().attempt);
                let begun = {
                    let mut effects = world.0.effects.lock().expect("effects");
                    effects.push((key.clone(), attempt));
                    effects.len()
                };
                scope.add_usage(cents(1));
                if world
                    .0
                    .dies_at
                    .lock()
                    .expect("when")
                    .is_some_and(|at| begun == at)
                {
                    world.0.died.notify_one();
                    std::future::pending::<()>().await;
                }
                if attempt <= fails {
                    return Err(Raised::new(format!("{name} fails")));
                }
                tokio::task::yield_now().await;
                scope.update(|context| {
                    let mut names = match context.get("names") {
                        Some(Value::List(names)) => Vec::clone(names),
                        _ => Vec::new(),
                    };
                    names.push(Value::from(name));
                    context.set("names", Value::list(names));
                });
                *world.0.ended.lock().expect("ended").entry(key).or_default() += 1;
                Ok(Value::from(input.as_int().unwrap_or(0) + 1))
            }
        });
        Step::new(name, work).retries(fails)
    }

    fn pipeline(&self) -> Pipeline {
        let exit = |output: &Value, _: &Context| Ok(output.as_int().unwrap_or(0) > 4);
        let turns = Loop::until("turns", self.step("turn", 0), exit).max_loops(9);
        let halves = Parallel::new("halves")
            .branch(
                "left",
                Pipeline::from(self.step("left", 0)).then(self.step("left again", 1)),
            )
            .branch("right", self.step("right", 0));
        let sum = Step::new(
            "sum",
            Handler::processor(|halves, _| {
                let half = |name| halves.get(name).and_then(Value::as_int).unwrap_or(0);
                Ok(Value::list([
                    Value::from(half("left")),
                    Value::from(half("right")),
                    Value::from(7),
                ]))
            }),
        );
        let each = MapOver::new("each", self.step("item", 0)).max_concurrency(2);
        let route = Conditional::new("route", |items: &Value, _: &Context| {
            Ok(if items.as_list().is_some() {
                "list"
            } else {
                "other"
            }
            .to_owned())
        })
        .branch(
            "list",
            self.step("lists", 2)
                .backoff(Backoff::Fixed(Duration::from_millis(5))),
        )
        .branch("other", self.step("others", 0));
        Pipeline::from(self.step("first", 1))
            .then(turns)
            .then(halves)
            .then(sum)
            .then(each)
            .then(route)
            .then(Human::new("approve").sink_to("approved"))
            .then(self.step("last", 0))
    }

    fn die_at(&self, begun: Option<usize>) {
        self.0.effects.lock().expect("effects").clear();
        *self.0.dies_at.lock().expect("when") = begun;
    }

    fn begun(&self) -> Vec<(String, u32)> {
        self.0.effects.lock().expect("effects").clone()
    }
}

fn cents(cents: u32) -> Usage {
    Usage::new(Cost::from_dollars(f64::from(cents) / 100.0).expect("a cost"), 10)
}

/// A process with a runner of its own.
fn process(world: &World, store: &Arc<dyn RunStore>, durability: Durability) -> Runner {
    builder(world, store)
        .durability(durability)
        .build()
        .expect("the pipeline can run")
}

fn builder(world: &World, store: &Arc<dyn RunStore>) -> RunnerBuilder {
    Runner::builder(world.pipeline()).store(Arc::clone(store))
}

/// What must be the same however often a run was broken off.
fn told(done: &Done) -> String {
    let steps = done.finish.history.records.iter().map(|record| {
        (
            &done.plan.node(record.node).name,
            record.status,
            record.attempts,
            record.output.clone(),
        )
    });
    let error = match &done.finish.outcome {
        Outcome::Failed(failure) => user_error(failure).map(ToString::to_string),
        _ => None,
    };
    format!(
        "{} {error:?} {:?} {:?} {:?} {:#?}",
        done.status(),
        done.output(),
        done.finish.context,
        done.finish.usage,
        steps.collect::<Vec<_>>()
    )
}

async fn answered(runner: &Runner, done: &Done) -> Done {
    let paused = done
        .paused
        .as_ref()
        .unwrap_or_else(|| panic!("it isn't paused: {:?}", done.finish.outcome));
    runner
        .resume(paused, Value::from("yes"))
        .expect("it goes on")
        .await
}

/// Begins the run, or goes on with it, until it ends, waits or its process dies.
async fn until_it_dies(world: &World, runner: &Runner) -> Option<Done> {
    let run = runner.run_named("the run", Value::from(0), Context::new());
    tokio::select! {
        done = run => Some(done),
        () = world.0.died.notified() => None,
    }
}

async fn dies_and_goes_on(store: &Arc<dyn RunStore>, durability: Durability) {
    let world = World::default();
    let whole = {
        let store: Arc<dyn RunStore> = Arc::new(Memory::new());
        let runner = process(&world, &store, Durability::Strict);
        let done = until_it_dies(&world, &runner).await.expect("it waits");
        answered(&runner, &done).await
    };
    assert_eq!(whole.status(), "completed", "{:?}", whole.finish.outcome);
    let steps = world.begun();
    for dies_at in 1..=steps.len() {
        world.die_at(Some(dies_at));
        world.0.ended.lock().expect("ended").clear();
        let mut done = until_it_dies(&world, &process(&world, store, durability)).await;
        let mut left = vec![world.begun().last().cloned().expect("it began")];
        let mut answers = 0;
        world.die_at(None);
        loop {
            let runner = process(&world, store, durability);
            let now = match done.take() {
                // The answer is given to the process that asked, or to another one.
                Some(before) if before.status() == "paused" => {
                    answers += 1;
                    if dies_at == steps.len() && answers == 1 {
                        world.die_at(Some(1));
                    }
                    let found = runner.stored("the run").await;
                    let paused = found.paused.clone().expect("it waits");
                    let run = runner.resume(&paused, Value::from("yes")).expect("it goes on");
                    tokio::select! {
                        done = run => Some(done),
                        () = world.0.died.notified() => {
                            left.push(world.begun().last().cloned().expect("it began"));
                            world.die_at(None);
                            None
                        }
                    }
                }
                Some(before) => {
                    assert_eq!(told(&before), told(&whole), "when it dies at step {dies_at}");
                    break;
                }
                None => until_it_dies(&world, &runner).await,
            };
            done = now;
        }
        if durability == Durability::Strict {
            let ended = world.0.ended.lock().expect("ended");
            let twice: Vec<_> = ended.iter().filter(|(_, times)| **times != 1).collect();
            assert!(
                twice.is_empty(),
                "done twice when it dies at step {dies_at}: {twice:?}"
            );
        }
        let page = store.list(RunQuery::default()).await.expect("runs");
        assert_eq!(page.runs[0].summary.status, RunStatus::Completed);
        assert_eq!(page.runs[0].owner, None);
        // The result is there for whoever asks, and nothing runs for it.
        world.die_at(None);
        let again = process(&world, store, durability)
            .run_named("the run", Value::from(9), Context::new())
            .await;
        assert_eq!((told(&again), world.begun().len()), (told(&whole), 0));
        store
            .purge(flujo_core::store::PurgeQuery::default())
            .await
            .expect("purged");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_process_dies_at_any_step_goes_on_there_in_memory() {
    let store: Arc<dyn RunStore> = Arc::new(Memory::new());
    dies_and_goes_on(&store, Durability::Strict).await;
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_process_dies_at_any_step_goes_on_there_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let sqlite = Sqlite::open(folder.path().join("runs.db")).expect("a file");
    let store: Arc<dyn RunStore> = Arc::new(sqlite);
    dies_and_goes_on(&store, Durability::Strict).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_written_behind_the_run_or_at_its_pauses_only_ends_the_same() {
    for durability in [Durability::Async, Durability::Exit] {
        let store: Arc<dyn RunStore> = Arc::new(Memory::new());
        dies_and_goes_on(&store, durability).await;
    }
}

fn stored_error(done: &Done) -> &DurableError {
    match &done.finish.outcome {
        Outcome::Failed(failure) => user_error(failure)
            .and_then(|error| error.downcast_ref())
            .expect("an error of the store"),
        outcome => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn a_run_that_is_under_way_elsewhere_is_refused_and_one_that_nobody_knows_isn_t_there() {
    let (world, store): (_, Arc<dyn RunStore>) = (World::default(), Arc::new(Memory::new()));
    world.die_at(Some(1));
    let first = process(&world, &store, Durability::Strict);
    let mut run = Box::pin(first.run_named("the run", Value::from(0), Context::new()));
    tokio::select! {
        _ = &mut run => panic!("it doesn't end"),
        () = world.0.died.notified() => {}
    }
    let other = process(&world, &store, Durability::Strict);
    let refused = other.run_named("the run", Value::from(0), Context::new()).await;
    assert!(
        matches!(
            stored_error(&refused),
            DurableError::Store(StoreError::Owned { .. })
        ),
        "{refused:?}"
    );
    assert_eq!(world.begun().len(), 1);
    let unknown = other.stored("another").await;
    assert!(matches!(
        stored_error(&unknown),
        DurableError::Store(StoreError::UnknownRun { .. })
    ));
    drop(run);
    world.die_at(None);
    assert_eq!(other.stored("the run").await.status(), "paused");
}

#[tokio::test]
async fn two_that_go_on_with_one_paused_run_don_t_both() {
    let (world, store): (_, Arc<dyn RunStore>) = (World::default(), Arc::new(Memory::new()));
    let one = process(&world, &store, Durability::Strict);
    let here = one.run_named("the run", Value::from(0), Context::new()).await;
    let other = process(&world, &store, Durability::Strict);
    let there = other.stored("the run").await;
    world.die_at(None);
    let ended = answered(&other, &there).await;
    assert_eq!((ended.status(), world.begun().len()), ("completed", 1));
    let late = answered(&one, &here).await;
    assert!(
        matches!(stored_error(&late), DurableError::WentOnElsewhere { .. }),
        "{late:?}"
    );
    assert_eq!(world.begun().len(), 1);
}

#[tokio::test]
async fn another_pipeline_doesn_t_go_on_with_a_run_and_the_difference_is_named() {
    let (world, store): (_, Arc<dyn RunStore>) = (World::default(), Arc::new(Memory::new()));
    process(&world, &store, Durability::Strict)
        .run_named("the run", Value::from(0), Context::new())
        .await;
    let another = Pipeline::from(world.step("new one", 0)).then(world.step("last", 0));
    let changed = Runner::builder(another).store(Arc::clone(&store));
    world.die_at(None);
    let refused = changed.build().expect("it can run").stored("the run").await;
    let error = stored_error(&refused).to_string();
    assert!(error.contains("`new one` (step) is new"), "{error}");
    assert_eq!(world.begun().len(), 0);
    let found = process(&world, &store, Durability::Strict)
        .stored("the run")
        .await;
    assert_eq!(found.status(), "paused");
}

#[tokio::test]
async fn a_run_that_a_limit_stopped_goes_on_in_another_process_with_a_higher_one() {
    let (world, store): (_, Arc<dyn RunStore>) = (World::default(), Arc::new(Memory::new()));
    let tokens = |limit| UsageLimits {
        tokens: Some(limit),
        ..UsageLimits::default()
    };
    let tight = builder(&world, &store)
        .usage_limits(tokens(75))
        .build()
        .expect("it can run");
    let stopped = tight.run_named("the run", Value::from(0), Context::new()).await;
    assert_eq!(stopped.status(), "limit_exceeded");
    let begun = world.begun().len();
    let other = process(&world, &store, Durability::Strict);
    let found = other.stored("the run").await;
    assert_eq!(
        (found.status(), found.finish.usage),
        ("limit_exceeded", stopped.finish.usage)
    );
    let stopped = found.stopped.as_ref().expect("it can go on");
    let paused = other
        .resume_stopped(stopped, Some(tokens(1_000)))
        .expect("it goes on")
        .await;
    let done = answered(&other, &paused).await;
    let whole = {
        let (world, store): (_, Arc<dyn RunStore>) = (World::default(), Arc::new(Memory::new()));
        let runner = process(&world, &store, Durability::Strict);
        let paused = runner.run_named("the run", Value::from(0), Context::new()).await;
        (told(&answered(&runner, &paused).await), world.begun().len())
    };
    assert_eq!(told(&done), whole.0);
    assert!(
        world.begun().len() <= whole.1 + 1,
        "{begun} of {} began before the limit",
        whole.1
    );
    let again = process(&world, &store, Durability::Strict)
        .stored("the run")
        .await;
    assert_eq!(told(&again), whole.0);
}

#[tokio::test]
async fn a_value_that_can_t_be_saved_fails_its_step_and_says_which() {
    struct Client;
    let store: Arc<dyn RunStore> = Arc::new(Memory::new());
    let gives = Step::new(
        "gives a client",
        Handler::function(|_| async { Ok(Value::opaque(Client)) }),
    );
    let runner = Runner::builder(gives).store(store).build().expect("it can run");
    let done = runner.run(Value::Null, Context::new()).await;
    let failure = match &done.finish.outcome {
        Outcome::Failed(failure) => failure,
        outcome => panic!("{outcome:?}"),
    };
    assert_eq!(
        (&*failure.error_type, &*failure.step),
        ("UnsavableValueError", "gives a client")
    );
    assert!(failure.message.contains("Client"), "{}", failure.message);
}

#[tokio::test]
async fn a_long_run_s_log_is_replaced_by_snapshots_and_grows_no_larger_than_its_state() {
    const TURNS: i64 = 2_000;
    let store: Arc<dyn RunStore> = Arc::new(Memory::new());
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
    let turns = Loop::until("turns", add, |turn, _| Ok(turn.as_int() >= Some(TURNS))).max_loops(3_000);
    let pipeline = Pipeline::from(turns).then(Human::new("approve"));
    let build = || {
        Runner::builder(pipeline.clone())
            .store(Arc::clone(&store))
            .build()
            .expect("it can run")
    };
    let done = build().run_named("long", Value::from(0), Context::new()).await;
    assert_eq!(done.status(), "paused");
    let info = store
        .info("long".into())
        .await
        .expect("it can be asked")
        .expect("it is there");
    assert!(info.bytes < 3 * 1_000 * 2_000, "{} bytes", info.bytes);
    let found = build().stored("long").await;
    assert_eq!(found.finish.context, done.finish.context);
}
