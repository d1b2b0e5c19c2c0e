//! Runs that a limit stopped, or that were cancelled, and go on.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::context::Context;
use flujo_core::machine::{Outcome, Status};
use flujo_core::store::RunStore;
use flujo_core::usage::{Cost, Usage, UsageLimits};
use flujo_core::value::Value;
use flujo_durable::Durability;
use flujo_store::Memory;
use flujo_tokio::{Done, Handler, Human, Parallel, Pipeline, ResumeError, Runner, Step};
use tokio::sync::Notify;

/// Counts its calls, costs a cent, and is held up when asked to.
#[derive(Clone, Default)]
struct Work {
    calls: Arc<std::sync::Mutex<Vec<String>>>,
    held: Arc<AtomicBool>,
    begun: Arc<Notify>,
}

fn cent() -> Usage {
    Usage::new(Cost::from_dollars(0.01).expect("a cent"), 10)
}

impl Agent for Work {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            self.calls.lock().expect("calls").push(request.step.to_string());
            if &*request.step == "d" && self.held.load(Ordering::SeqCst) {
                self.begun.notify_one();
                std::future::pending::<()>().await;
            }
            Ok(AgentOutput {
                value: Value::from(request.input.as_int().unwrap_or(0) + 1),
                usage: cent(),
                model: None,
                tokens: None,
            })
        })
    }
}

impl Work {
    fn step(&self, name: &'static str) -> Step {
        Step::agent(name, Arc::new(self.clone()))
            .retries(0)
            .estimate(cent())
    }

    fn pipeline(&self) -> Pipeline {
        Pipeline::from(self.step("a"))
            .then(self.step("b"))
            .then(self.step("c"))
            .then(self.step("d"))
    }

    fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("calls").clone()
    }
}

fn dollars(limit: f64) -> UsageLimits {
    UsageLimits {
        cost: Some(Cost::from_dollars(limit).expect("a limit")),
        ..UsageLimits::default()
    }
}

#[track_caller]
fn partial(done: &Done, status: &str, last: Status) {
    assert_eq!(
        (done.status(), done.finish.usage),
        (
            status,
            Usage {
                cost: Cost::from_dollars(0.03).expect("cost"),
                tokens: 30,
                ..Usage::ZERO
            }
        )
    );
    let records = &done.finish.history.records;
    let outputs: Vec<_> = records
        .iter()
        .map(|record| record.output.as_ref().and_then(Value::as_int))
        .collect();
    assert_eq!(outputs, [Some(1), Some(2), Some(3), None]);
    assert_eq!(records[3].status, last);
}

#[track_caller]
fn whole(done: &Done) {
    assert_eq!(
        (done.status(), done.output().and_then(Value::as_int)),
        ("completed", Some(4))
    );
    assert_eq!(
        (done.finish.usage.cost, done.finish.usage.tokens),
        (Cost::from_dollars(0.04).expect("cost"), 40)
    );
    assert_eq!(done.finish.history.records.len(), 4);
    assert!(done.stopped.is_none());
}

#[tokio::test]
async fn p35_a_run_that_a_limit_stopped_goes_on_with_a_raised_one() {
    let work = Work::default();
    let runner = Runner::builder(work.pipeline())
        .usage_limits(dollars(0.03))
        .build()
        .expect("a runner");
    let done = runner.run(Value::from(0), Context::new()).await;
    partial(&done, "limit_exceeded", Status::LimitExceeded);
    assert_eq!(work.calls(), ["a", "b", "c"]);
    let stopped = done.stopped.expect("it can go on");
    let low = runner.resume_stopped(&stopped, Some(dollars(0.029))).map(drop);
    assert!(matches!(low, Err(ResumeError::LimitTooLow { used, .. }) if used.tokens == 30));
    // One that is dropped before it begins leaves the run as it was.
    drop(
        runner
            .resume_stopped(&stopped, Some(dollars(1.0)))
            .expect("it goes on"),
    );
    whole(
        &runner
            .resume_stopped(&stopped, Some(dollars(1.0)))
            .expect("it goes on")
            .await,
    );
    assert_eq!(work.calls(), ["a", "b", "c", "d"]);
    let again = runner.resume_stopped(&stopped, None).map(drop);
    assert!(matches!(
        again,
        Err(ResumeError::LimitTooLow { .. } | ResumeError::NotStopped { .. })
    ));
    let statistics = runner.performance_statistics();
    let steps = &statistics.execution_time_stats.by_step;
    let count = |name: &str| steps.get(name).map(|times| times.count);
    assert!(
        ["a", "b", "c"].iter().all(|name| count(name) == Some(1)),
        "each is counted once"
    );
}

#[tokio::test]
async fn p35_a_cancelled_run_goes_on() {
    let work = Work::default();
    work.held.store(true, Ordering::SeqCst);
    let runner = Runner::builder(work.pipeline()).build().expect("a runner");
    let run = runner.run(Value::from(0), Context::new());
    let canceller = run.canceller();
    let (done, ()) = tokio::join!(run, async {
        work.begun.notified().await;
        canceller.cancel();
    });
    partial(&done, "cancelled", Status::Cancelled);
    work.held.store(false, Ordering::SeqCst);
    let stopped = done.stopped.expect("it can go on");
    whole(&runner.resume_stopped(&stopped, None).expect("it goes on").await);
    assert_eq!(work.calls(), ["a", "b", "c", "d", "d"]);
    let other = Runner::builder(work.pipeline()).build().expect("a runner");
    let refused = other.resume_stopped(&stopped, None).map(drop);
    assert!(matches!(refused, Err(ResumeError::OtherRunner { .. })));
}

#[tokio::test(start_paused = true)]
async fn p35_a_step_that_ran_out_of_time_keeps_the_history_and_the_totals() {
    let work = Work::default();
    work.held.store(true, Ordering::SeqCst);
    let slow = work.step("d").timeout(Duration::from_secs(1));
    let steps = Pipeline::from(work.step("a"))
        .then(work.step("b"))
        .then(work.step("c"))
        .then(slow);
    let runner = Runner::builder(steps).build().expect("a runner");
    let done = runner.run(Value::from(0), Context::new()).await;
    partial(&done, "failed", Status::Failed);
    assert!(done.stopped.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p35_branches_that_had_ended_are_not_run_again() {
    let work = Work::default();
    let mut fan = Parallel::new("fan").max_concurrency(2);
    for name in ["p", "q", "r", "s", "t"] {
        fan = fan.branch(name, work.step(name));
    }
    let pipeline = Pipeline::from(work.step("first")).then(fan);
    let runner = Runner::builder(pipeline)
        .usage_limits(dollars(0.03))
        .build()
        .expect("a runner");
    let done = runner.run(Value::from(0), Context::new()).await;
    let stopped = done.stopped.as_ref().expect("it can go on");
    let before = work.calls();
    let ended = runner
        .resume_stopped(stopped, Some(dollars(1.0)))
        .expect("it goes on")
        .await;
    assert!(
        matches!(ended.finish.outcome, Outcome::Completed(_)),
        "{:?}",
        ended.finish.outcome
    );
    let after = work.calls();
    assert_eq!(after.iter().filter(|name| *name == "first").count(), 1);
    let finished = done.finish.history.records[1].lanes().iter();
    for lane in finished.filter(|lane| {
        lane.finish
            .as_ref()
            .is_some_and(|finish| matches!(finish.outcome, Outcome::Completed(_)))
    }) {
        assert_eq!(
            after.iter().filter(|name| **name == *lane.name).count(),
            1,
            "{before:?} {after:?}"
        );
    }
}

#[tokio::test]
async fn p35_a_raised_limit_holds_when_the_process_dies_that_it_was_raised_in() {
    let store: Arc<dyn RunStore> = Arc::new(Memory::new());
    let work = Work::default();
    let process = || {
        let runner = Runner::builder(work.pipeline()).usage_limits(dollars(0.02));
        runner.store(Arc::clone(&store)).build().expect("a runner")
    };
    let first = process();
    let done = first.run_named("the run", Value::from(0), Context::new()).await;
    assert_eq!(done.status(), "limit_exceeded");
    work.held.store(true, Ordering::SeqCst);
    let stopped = done.stopped.expect("it can go on");
    tokio::select! {
        done = first.resume_stopped(&stopped, Some(dollars(0.04))).expect("it goes on") => {
            panic!("{:?}", done.finish.outcome)
        }
        () = work.begun.notified() => {}
    }
    work.held.store(false, Ordering::SeqCst);
    whole(&process().stored("the run").await);
    assert_eq!(work.calls(), ["a", "b", "c", "d", "d"]);
}

#[tokio::test]
async fn p35_a_raised_limit_holds_behind_a_question_that_another_process_answers() {
    for durability in [Durability::Strict, Durability::Async, Durability::Exit] {
        let store: Arc<dyn RunStore> = Arc::new(Memory::new());
        let work = Work::default();
        let process = || {
            let steps = Pipeline::from(work.step("a"))
                .then(work.step("b"))
                .then(Human::new("ask"))
                .then(work.step("c"))
                .then(work.step("d"));
            let runner = Runner::builder(steps).usage_limits(dollars(0.01));
            let runner = runner.store(Arc::clone(&store)).durability(durability);
            runner.build().expect("a runner")
        };
        let first = process();
        let done = first.run_named("the run", Value::from(0), Context::new()).await;
        assert_eq!(done.status(), "limit_exceeded");
        let stopped = done.stopped.expect("it can go on");
        // Three cents are enough for `c`, not for `d`.
        let raised = first
            .resume_stopped(&stopped, Some(dollars(0.03)))
            .expect("it goes on");
        assert_eq!(raised.await.status(), "paused");

        let second = process();
        let paused = second.stored("the run").await.paused.expect("it asks");
        let done = second.resume(&paused, Value::from(2)).expect("it goes on").await;
        assert_eq!(done.status(), "limit_exceeded", "{durability:?}");
        assert_eq!(work.calls(), ["a", "b", "c"], "{durability:?}");
        // Without any given, the runner's own count again.
        let stopped = done.stopped.expect("it can go on");
        let low = second.resume_stopped(&stopped, None).map(drop);
        assert!(matches!(low, Err(ResumeError::LimitTooLow { .. })));
    }
}

/// Polls once, and nobody else meanwhile.
async fn once_only<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|poller| Poll::Ready(Pin::new(&mut *future).poll(poller).is_ready())).await
}

#[tokio::test]
async fn a_run_that_was_cancelled_before_it_or_its_lanes_had_begun_is_found_again_and_goes_on() {
    for (polls, lanes) in [(0, false), (0, true), (1, true)] {
        let store: Arc<dyn RunStore> = Arc::new(Memory::new());
        let work = Work::default();
        let process = || {
            let steps = if lanes {
                let inner = Parallel::new("inner").branch("b", work.step("b"));
                let outer = Parallel::new("outer")
                    .branch("a", work.step("a"))
                    .branch("inner", inner);
                Pipeline::from(outer)
            } else {
                work.pipeline()
            };
            let runner = Runner::builder(steps).store(Arc::clone(&store));
            runner.build().expect("a runner")
        };
        let mut run = process().run_named("the run", Value::from(0), Context::new());
        let canceller = run.canceller();
        for _ in 0..polls {
            // The tasks of its lanes are there, and don't get to run.
            assert!(!once_only(&mut run).await);
        }
        canceller.cancel();
        assert_eq!(run.await.status(), "cancelled");
        assert_eq!(work.calls(), [""; 0], "nothing begins after it was asked to end");

        let second = process();
        let found = second.stored("the run").await;
        assert_eq!(found.status(), "cancelled", "{:?}", found.finish.outcome);
        let stopped = found.stopped.expect("it can go on");
        let done = second.resume_stopped(&stopped, None).expect("it goes on").await;
        assert_eq!(done.status(), "completed", "{:?}", done.finish.outcome);
        let mut calls = work.calls();
        calls.sort_unstable();
        let expected: &[&str] = if lanes { &["a", "b"] } else { &["a", "b", "c", "d"] };
        assert_eq!(calls, expected);
        let again = process().stored("the run").await;
        assert_eq!((again.status(), again.output()), ("completed", done.output()));
    }
}

#[tokio::test]
async fn a_run_that_is_cancelled_as_it_goes_on_in_lanes_ends_at_once_and_goes_on_again() {
    let store: Arc<dyn RunStore> = Arc::new(Memory::new());
    let work = Work::default();
    work.held.store(true, Ordering::SeqCst);
    let process = || {
        let lanes = Parallel::new("lanes")
            .branch("left", Pipeline::from(work.step("a")).then(work.step("d")))
            .branch("right", Pipeline::from(work.step("d")).then(work.step("b")));
        let runner = Runner::builder(lanes).store(Arc::clone(&store));
        runner.build().expect("a runner")
    };
    let run = process().run_named("the run", Value::from(0), Context::new());
    let canceller = run.canceller();
    let (done, ()) = tokio::join!(run, async {
        work.begun.notified().await;
        work.begun.notified().await;
        canceller.cancel();
    });
    assert_eq!(done.status(), "cancelled");
    for polls in 0..3 {
        let runner = process();
        let stopped = runner.stored("the run").await.stopped.expect("it can go on");
        let mut run = runner.resume_stopped(&stopped, None).expect("it goes on");
        let canceller = run.canceller();
        for _ in 0..polls {
            // The tasks of its lanes are there, and don't get to run.
            assert!(!once_only(&mut run).await);
        }
        canceller.cancel();
        let done = tokio::time::timeout(Duration::from_mins(1), run).await;
        let done = done.expect("it doesn't wait for what its lanes do");
        assert_eq!(done.status(), "cancelled", "{:?}", done.finish.outcome);
        let mut calls = work.calls();
        calls.sort_unstable();
        assert_eq!(calls, ["a", "d", "d"], "nothing begins after it was asked to end");
    }
    work.held.store(false, Ordering::SeqCst);
    let runner = process();
    let stopped = runner.stored("the run").await.stopped.expect("it can go on");
    let done = runner.resume_stopped(&stopped, None).expect("it goes on").await;
    assert_eq!(done.status(), "completed", "{:?}", done.finish.outcome);
    let mut calls = work.calls();
    calls.sort_unstable();
    assert_eq!(calls, ["a", "b", "d", "d", "d", "d"]);
    let again = process().stored("the run").await;
    assert_eq!((again.status(), again.output()), ("completed", done.output()));
}

#[tokio::test]
async fn what_comes_behind_a_step_that_cancels_its_run_does_not_begin() {
    for in_place in [false, true] {
        let begun = Arc::new(AtomicBool::new(false));
        let cancelled: Arc<std::sync::OnceLock<flujo_tokio::Canceller>> = Arc::default();
        let canceller = Arc::clone(&cancelled);
        let cancels = Handler::function(move |input: Value| {
            canceller.get().expect("its run").cancel();
            std::future::ready(Ok(input))
        });
        let noted = Arc::clone(&begun);
        let next = move |input: Value| {
            noted.store(true, Ordering::SeqCst);
            Ok(input)
        };
        let next = if in_place {
            Handler::processor(move |input, _| next(input.clone()))
        } else {
            Handler::function(move |input| std::future::ready(next(input)))
        };
        let steps = Pipeline::from(Step::new("cancels", cancels)).then(Step::new("next", next));
        let runner = Runner::builder(steps).build().expect("a runner");
        let run = runner.run(Value::from(0), Context::new());
        assert!(cancelled.set(run.canceller()).is_ok());
        assert_eq!(run.await.status(), "cancelled");
        assert!(!begun.load(Ordering::SeqCst), "in place: {in_place}");
    }
}

#[test]
fn a_run_whose_branches_have_lost_their_runtime_fails_and_is_found_like_that() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().expect("a runtime")
    };
    let store: Arc<dyn RunStore> = Arc::new(Memory::new());
    let work = Work::default();
    work.held.store(true, Ordering::SeqCst);
    let process = || {
        let lanes = Parallel::new("lanes")
            .branch("left", work.step("a"))
            .branch("right", work.step("d"));
        let runner = Runner::builder(lanes).store(Arc::clone(&store));
        runner.build().expect("a runner")
    };
    let lost = runtime();
    let mut run = process().run_named("the run", Value::from(0), Context::new());
    lost.block_on(async {
        assert!(!once_only(&mut run).await);
        work.begun.notified().await;
    });
    drop(lost);
    let runtime = runtime();
    let done = runtime.block_on(run);
    let failure = match &done.finish.outcome {
        Outcome::Failed(failure) => &failure.error_type,
        other => panic!("{other:?}"),
    };
    assert_eq!(&**failure, "LaneError");
    let found = runtime.block_on(process().stored("the run"));
    assert_eq!(found.status(), "failed");
    assert_eq!(found.finish.usage, done.finish.usage);
}
