//! Decisions that are told the outputs of earlier steps.

#![allow(clippy::expect_used)] // also in what the tests share: a panic is how a test fails

use flujo_core::context::Context;
use flujo_core::machine::Answer;
use flujo_core::usage::Usage;
use flujo_core::value::Value;
use flujo_tokio::{Conditional, Handler, Loop, MapOver, Parallel, Pipeline, Runner, Step};

fn constant(name: &str, value: Value) -> Step {
    Step::new(name.to_owned(), Handler::processor(move |_, _| Ok(value.clone())))
}

async fn output(pipeline: Pipeline) -> Option<Value> {
    let runner = Runner::builder(pipeline).build().expect("the pipeline can run");
    runner.run(Value::Null, Context::new()).await.output().cloned()
}

fn step<'a>(steps: &'a Value, name: &str) -> &'a Value {
    steps.get(name).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn a_condition_and_the_items_of_a_map_see_them_also_inside_lanes() {
    let choose = Conditional::informed("choose", |decision| {
        let found = step(&decision.steps, "kind").as_str().unwrap_or_default();
        Ok(found.to_owned())
    })
    .branch("code", constant("code", Value::from("is code")));
    let each = MapOver::new("each", choose.clone())
        .informed_items(|decision| Ok(vec![step(&decision.steps, "other").clone()]))
        .max_concurrency(2);
    let fan = Parallel::new("fan").branch("lane", choose).branch("map", each);
    let pipeline = Pipeline::from(constant("kind", Value::from("code")))
        .then(constant("other", Value::Int(1)))
        .then(fan);
    let expected = Value::map([
        ("lane", Value::from("is code")),
        ("map", Value::list([Value::from("is code")])),
    ]);
    assert_eq!(output(pipeline).await, Some(expected));
}

#[tokio::test]
async fn a_loop_ends_by_what_the_steps_of_its_body_gave() {
    let count = Step::new(
        "count",
        Handler::processor(|input, _| Ok(Value::Int(input.as_int().unwrap_or(0) + 1))),
    );
    let until = Loop::informed_until("loop", count, |decision| {
        Ok(step(&decision.steps, "count").as_int() >= Some(3))
    });
    assert_eq!(output(until.into()).await, Some(Value::Int(3)));
}

#[tokio::test]
async fn a_validator_sees_them_and_decisions_that_do_not_ask_are_told_nothing() {
    let strict = constant("strict", Value::Int(2))
        .retries(0)
        .validator(Handler::informed_validator(|decision| {
            if step(&decision.steps, "first") == decision.value() {
                Ok(())
            } else {
                Err("it differs from the first".to_owned())
            }
        }));
    let pipeline = |first: i64| Pipeline::from(constant("first", Value::Int(first))).then(strict.clone());
    assert_eq!(output(pipeline(2)).await, Some(Value::Int(2)));
    assert_eq!(output(pipeline(1)).await, None);
    let plain = Handler::inline(|decision| {
        let untold = decision.steps == Value::Null;
        Ok(Answer::Value {
            value: Value::Bool(untold),
            usage: Usage::ZERO,
        })
    });
    let pipeline = Pipeline::from(constant("first", Value::Int(1))).then(Step::new("plain", plain));
    assert_eq!(output(pipeline).await, Some(Value::Bool(true)));
}

#[tokio::test]
async fn every_decision_that_asks_is_told_whatever_it_decides_and_alone() {
    let told = || {
        Handler::informed(|decision| match step(&decision.steps, "first") {
            Value::Null => Err("nothing was told".into()),
            _ => Ok(Answer::Value {
                value: decision.value().clone(),
                usage: Usage::ZERO,
            }),
        })
    };
    let applied = Handler::informed(|decision| {
        decision
            .context
            .set("seen", step(&decision.steps, "first").clone());
        Ok(Answer::Done)
    });
    let same = || constant("same", Value::Int(2));
    let choose = || Conditional::new("choose", |_, _| Ok("only".to_owned())).branch("only", same());
    let two = || Value::list([Value::Int(1), Value::Int(2)]);
    let alone: [(&str, Pipeline); 7] = [
        ("prompt processor", same().prompt_processor(told()).into()),
        ("output processor", same().output_processor(told()).into()),
        ("apply", same().apply(applied).into()),
        ("branch input", choose().input_mapper(told()).into()),
        ("branch output", choose().output_mapper(told()).into()),
        (
            "collect",
            Parallel::new("fan").branch("a", same()).collect(told()).into(),
        ),
        (
            "collect of a map",
            MapOver::new("each", same())
                .items(move |_, _| Ok(vec![two()]))
                .collect(told())
                .into(),
        ),
    ];
    for (what, pipeline) in alone {
        let runner = Runner::builder(Pipeline::from(constant("first", Value::Int(1))).then(pipeline));
        let runner = runner.build().expect("the pipeline can run");
        let done = runner.run(Value::Null, Context::new()).await;
        assert_eq!(done.status(), "completed", "{what}: {:?}", done.finish.outcome);
        if what == "apply" {
            assert_eq!(done.finish.context.get("seen"), Some(&Value::Int(1)));
        }
    }
}
