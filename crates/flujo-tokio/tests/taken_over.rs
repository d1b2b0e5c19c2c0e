//! Runs that another process goes on with, which wants something else than the one that began them: its limits hold, and
//! its rates.

#![allow(clippy::expect_used)] // also in what the tests share: a panic is how a test fails

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::context::Context;
use flujo_core::store::RunStore;
use flujo_core::usage::{Cost, Usage, UsageLimits};
use flujo_core::value::Value;
use flujo_store::Memory;
use flujo_tokio::{Done, Human, Parallel, Pipeline, RateLimit, Runner, RunnerBuilder, Step};
use tokio::time::Instant;

/// Uses 90 tokens a call, and counts its calls.
#[derive(Clone, Default)]
struct Model(Arc<AtomicUsize>);

impl Agent for Model {
    fn run(&self, _: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        let usage = Usage::new(Cost::ZERO, 90);
        Box::pin(async move {
            Ok(AgentOutput {
                value: Value::from(1),
                usage,
                model: None,
                tokens: None,
            })
        })
    }
}

impl Model {
    fn step(&self, name: &str) -> Step {
        Step::agent(name, Arc::new(self.clone())).retries(0)
    }

    /// Waits in a lane between two calls, after one; then there are two more.
    fn lanes(&self) -> Pipeline {
        let asks = Pipeline::from(self.step("b"))
            .then(Human::new("ask"))
            .then(self.step("c"));
        let lanes = Parallel::new("lanes")
            .branch("asks", asks)
            .branch("other", self.step("d"));
        Pipeline::from(self.step("a")).then(lanes).then(self.step("e"))
    }

    /// Begins such a run in a process that wants nothing.
    async fn waits(&self) -> Arc<dyn RunStore> {
        let store: Arc<dyn RunStore> = Arc::new(Memory::new());
        let runner = process(self.lanes(), &store).build().expect("it can run");
        let done = runner.run_named("the run", Value::from(0), Context::new()).await;
        assert_eq!((done.status(), done.finish.usage.tokens), ("paused", 270));
        store
    }
}

fn process(pipeline: Pipeline, store: &Arc<dyn RunStore>) -> RunnerBuilder {
    Runner::builder(pipeline).store(Arc::clone(store))
}

async fn goes_on(builder: RunnerBuilder) -> Done {
    let runner = builder.build().expect("it can run");
    let done = runner.stored("the run").await;
    let paused = done.paused.as_ref().expect("it waits");
    runner.resume(paused, Value::from(5)).expect("it goes on").await
}

fn tokens(tokens: u64) -> UsageLimits {
    UsageLimits {
        tokens: Some(tokens),
        ..UsageLimits::default()
    }
}

#[tokio::test]
async fn the_limits_hold_of_whoever_goes_on() {
    for (limit, status, calls) in [
        (300, "limit_exceeded", 4),
        (360, "limit_exceeded", 5),
        (450, "completed", 5),
    ] {
        let model = Model::default();
        let store = model.waits().await;
        let done = goes_on(process(model.lanes(), &store).usage_limits(tokens(limit))).await;
        assert_eq!(
            (done.status(), model.0.load(Ordering::SeqCst)),
            (status, calls),
            "{limit}"
        );
    }
}

#[tokio::test]
async fn a_run_that_began_within_limits_goes_on_without_them() {
    let model = Model::default();
    let store: Arc<dyn RunStore> = Arc::new(Memory::new());
    let runner = process(model.lanes(), &store).usage_limits(tokens(300));
    let runner = runner.build().expect("it can run");
    let done = runner.run_named("the run", Value::from(0), Context::new()).await;
    assert_eq!(done.status(), "paused");
    let done = goes_on(process(model.lanes(), &store)).await;
    assert_eq!((done.status(), done.finish.usage.tokens), ("completed", 450));
}

#[tokio::test]
async fn a_run_that_waits_to_be_begun_is_within_the_limits_of_whoever_begins_it() {
    let model = Model::default();
    let store: Arc<dyn RunStore> = Arc::new(Memory::new());
    let pipeline = || Pipeline::from(model.step("a")).then(model.step("b"));
    let runner = process(pipeline(), &store).build().expect("it can run");
    runner
        .enqueue("the run", Value::from(0), Context::new())
        .await
        .expect("it is kept");
    let runner = process(pipeline(), &store).usage_limits(tokens(100));
    let done = runner.build().expect("it can run").stored("the run").await;
    assert_eq!(done.status(), "limit_exceeded");
}

#[tokio::test(start_paused = true)]
async fn the_rates_hold_of_whoever_goes_on() {
    let model = Model::default();
    let store = model.waits().await;
    let began = Instant::now();
    let limit = RateLimit::new("taken over").requests_per_minute(1);
    let done = goes_on(process(model.lanes(), &store).rate_limit(limit)).await;
    assert_eq!(done.status(), "completed");
    assert!(
        began.elapsed() >= Duration::from_secs(59),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn limits_that_are_given_with_a_run_hold_below_those_that_it_was_raised_to() {
    for (given, status) in [
        (UsageLimits::default(), "completed"),
        (tokens(300), "limit_exceeded"),
    ] {
        let model = Model::default();
        let store: Arc<dyn RunStore> = Arc::new(Memory::new());
        let runner = process(model.lanes(), &store).usage_limits(tokens(200));
        let runner = runner.build().expect("it can run");
        let done = runner.run_named("the run", Value::from(0), Context::new()).await;
        let stopped = done.stopped.as_ref().expect("it can go on");
        let raised = runner.resume_stopped(stopped, Some(tokens(1_000)));
        assert_eq!(raised.expect("it goes on").await.status(), "paused");
        let builder = process(model.lanes(), &store).usage_limits(tokens(300));
        assert_eq!(goes_on(builder.given_limits(given)).await.status(), status);
    }
}
