//! Pipelines over values, as a blueprint builds them.

#![allow(clippy::expect_used)] // also in what the tests share: a panic is how a test fails

use std::sync::Arc;
use std::time::Duration;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::context::Context;
use flujo_core::machine::Answer;
use flujo_core::value::Value;
use flujo_tokio::{
    BranchFailure, Conditional, Done, EventKind, Handler, ItemFailure, MapOver, Parallel, Pipeline, Runner,
    Step,
};

fn with(fields: &[(&str, Value)]) -> Context {
    fields
        .iter()
        .map(|(name, value)| (Arc::from(*name), value.clone()))
        .collect()
}

async fn run(pipeline: impl Into<Pipeline>, input: Value, context: Context) -> Done {
    let runner = Runner::builder(pipeline).build().expect("the pipeline can run");
    runner.run(input, context).await
}

fn constant(name: &str, value: Value) -> Step {
    Step::new(name.to_owned(), Handler::processor(move |_, _| Ok(value.clone())))
}

fn failing(name: &str) -> Step {
    Step::new(name.to_owned(), Handler::processor(|_, _| Err("broken".into()))).retries(0)
}

fn echo(name: &str) -> Step {
    Step::new(name.to_owned(), Handler::processor(|input, _| Ok(input.clone())))
}

#[tokio::test]
async fn outputs_go_into_the_context_by_entries_or_at_a_path() {
    let entries = Value::map([("topic", Value::from("tea")), ("count", Value::from(2))]);
    let p = Pipeline::from(constant("plan", entries).updates_context())
        .then(constant("write", Value::from("text")).sink_to("report.body"));
    let done = run(p, Value::Null, with(&[("count", Value::from(1))])).await;
    let context = &done.finish.context;
    assert_eq!(context.get("topic"), Some(&Value::from("tea")));
    assert_eq!(context.get("count"), Some(&Value::from(2)));
    assert_eq!(context.get_path("report.body"), Some(&Value::from("text")));
}

#[tokio::test]
async fn an_output_that_is_no_map_cannot_update_the_context_and_the_step_says_so() {
    let done = run(
        constant("plan", Value::from(1)).updates_context(),
        Value::Null,
        Context::new(),
    )
    .await;
    assert_eq!(done.status(), "failed");
    let failure = done.finish.history.records[0]
        .failure
        .as_ref()
        .expect("a failure");
    assert!(failure.to_string().contains("must be a map"), "{failure}");
    assert_eq!(done.finish.history.records[0].attempts, 1);
}

#[tokio::test]
async fn the_feedback_of_a_failed_step_is_kept_in_the_context() {
    let done = run(
        failing("work").persist_feedback_to("notes.why"),
        Value::Null,
        Context::new(),
    )
    .await;
    let why = done.finish.context.get_path("notes.why").and_then(Value::as_str);
    assert!(why.expect("feedback").contains("broken"));
}

#[tokio::test]
async fn a_condition_sees_the_context_and_mappers_stand_around_the_branch() {
    let choose = |_: &Value, context: &Context| {
        let key = context.get("mode").and_then(Value::as_str);
        Ok(key.unwrap_or("none").to_owned())
    };
    let double = |input: &Value, _: &Context| Ok(Value::from(input.as_int().unwrap_or(0) * 2));
    let p = || {
        Conditional::new("route", choose)
            .branch("a", echo("in a"))
            .otherwise(constant("in default", Value::from(100)))
            .input_mapper(Handler::processor(double))
            .output_mapper(Handler::processor(double))
    };
    let done = run(p(), Value::from(3), with(&[("mode", Value::from("a"))])).await;
    assert_eq!(done.output(), Some(&Value::from(12)));
    let done = run(p(), Value::from(3), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::from(200)));
}

#[tokio::test]
async fn a_parallel_step_gives_a_map_in_declared_order_with_explicit_failures() {
    let p = Parallel::new("split")
        .branch("z", echo("z"))
        .branch("a", failing("a"))
        .on_branch_failure(BranchFailure::Ignore);
    let done = run(p, Value::from(1), Context::new()).await;
    let output = done.output().and_then(Value::as_map).expect("a map");
    assert_eq!((&*output[0].0, &output[0].1), ("z", &Value::from(1)));
    let error = output[1]
        .1
        .get("error")
        .and_then(Value::as_str)
        .expect("an error");
    assert!(error.contains("broken"), "{error}");
}

#[tokio::test]
async fn a_map_takes_its_items_from_the_context_and_one_at_a_time_sees_earlier_writes() {
    let count = Handler::scoped(|input, scope| async move {
        let so_far = scope.context().get("sum").and_then(Value::as_int).unwrap_or(0);
        let sum = so_far + input.as_int().unwrap_or(0);
        scope.update(|context| context.set("sum", Value::from(sum)));
        Ok(Value::from(sum))
    });
    let items = |_: &Value, context: &Context| {
        let items = context.get("items").and_then(Value::as_list);
        Ok(items.unwrap_or_default().to_vec())
    };
    let p = MapOver::new("each", Step::new("count", count)).items(items);
    let numbers = Value::list((1..=4).map(Value::from));
    let done = run(p, Value::Null, with(&[("items", numbers)])).await;
    let sums = [1, 3, 6, 10].map(Value::from);
    assert_eq!(done.output(), Some(&Value::list(sums)));
    assert_eq!(done.finish.context.get("sum"), Some(&Value::from(10)));
}

#[tokio::test]
async fn an_input_that_is_no_list_fails_the_map_and_a_failed_item_can_be_null() {
    let done = run(MapOver::new("each", echo("e")), Value::from(1), Context::new()).await;
    assert_eq!(done.status(), "failed");
    let p = MapOver::new("each", failing("e")).on_item_failure(ItemFailure::None);
    let done = run(p, Value::list([Value::from(1)]), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::list([Value::Null])));
}

#[tokio::test]
async fn a_plugin_may_replace_the_output_or_ask_for_another_agent() {
    let replace = Handler::inline(|_| {
        Ok(Answer::Value {
            value: Value::from("better"),
            usage: flujo_core::usage::Usage::ZERO,
        })
    });
    let done = run(
        echo("draft").plugin(replace),
        Value::from("draft"),
        Context::new(),
    )
    .await;
    assert_eq!(done.output(), Some(&Value::from("better")));
    let other = Value::opaque(Handler::processor(|_, _| Ok(Value::from("other"))));
    let redirect = Handler::inline(move |decision| {
        Ok(match decision.value().as_str() {
            Some("other") => Answer::Done,
            _ => Answer::Redirect {
                agent: other.clone(),
                identity: 1,
                unpriced: false,
                rated: false,
            },
        })
    });
    let done = run(
        echo("draft").plugin(redirect),
        Value::from("draft"),
        Context::new(),
    )
    .await;
    assert_eq!(done.output(), Some(&Value::from("other")));
}

#[test]
fn a_pipeline_that_cannot_run_is_refused_with_the_place_and_the_cure() {
    let empty = Runner::builder(Pipeline::new()).build().err().expect("an error");
    assert!(empty.to_string().contains("has no steps"), "{empty}");
    let twice = Parallel::new("split")
        .branch("a", echo("x"))
        .branch("a", echo("y"));
    let twice = Runner::builder(twice).build().err().expect("an error");
    assert!(twice.to_string().contains("two branches named `a`"), "{twice}");
}

/// Streams its answer word by word.
struct Streaming;

impl Agent for Streaming {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            for word in ["one", "two", "three"] {
                if let Some(chunks) = &request.chunks {
                    chunks.send(Value::from(word)).await;
                }
            }
            Ok(Value::from("one two three").into())
        })
    }
}

#[tokio::test]
async fn chunks_come_in_order_none_dropped_with_a_buffer_of_one() {
    let step = Step::agent("talk", Arc::new(Streaming)).timeout(Duration::from_secs(5));
    let runner = Runner::builder(step).event_buffer(1).build().expect("it can run");
    let mut run = runner.run(Value::Null, Context::new());
    let mut chunks = Vec::new();
    let mut last = None;
    while let Some(event) = run.events().next().await {
        if let EventKind::Chunk(chunk) = &event.kind {
            assert_eq!((&*event.place.step, event.place.attempt), ("talk", 1));
            chunks.push(chunk.as_str().map(str::to_owned));
        }
        last = Some(event.kind.name());
    }
    assert_eq!(chunks, ["one", "two", "three"].map(|word| Some(word.to_owned())));
    assert_eq!(last, Some("run_finished"));
    assert_eq!(run.await.output(), Some(&Value::from("one two three")));
}
