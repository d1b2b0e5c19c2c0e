//! Agents that plugins ask for are found again by their names, in any process.

use std::sync::Arc;

use flujo_core::context::Context;
use flujo_core::machine::Answer;
use flujo_core::store::RunStore;
use flujo_core::value::Value;
use flujo_tokio::{Handler, Pipeline, Runner, Step};

use super::{World, builder, memory};

/// A plugin that lets another agent do what the first one did.
fn asks_for(agent: &Value) -> Handler {
    let agent = agent.clone();
    Handler::inline(move |decision| {
        Ok(match decision.value().as_int() {
            Some(100..) => Answer::Done,
            _ => Answer::Redirect {
                agent: agent.clone(),
                identity: 0,
                unpriced: false,
                rated: false,
            },
        })
    })
}

/// An agent that adds a hundred, in a world where it may hang.
fn expert(world: &World) -> Handler {
    let world = world.clone();
    Handler::function(move |input: Value| {
        let world = world.clone();
        async move {
            world.begin("expert").await;
            Ok(Value::from(input.as_int().unwrap_or(0) + 100))
        }
    })
}

/// A process whose draft is redirected to an expert, which plugins know as `asked`.
fn process(world: &World, asked: impl Fn(&Handler) -> Value, store: &Arc<dyn RunStore>) -> Runner {
    let expert = expert(world);
    let draft = world.step("draft").plugin(asks_for(&asked(&expert)));
    let pipeline = Pipeline::from(draft).then(Step::new("review", expert.clone()));
    builder(pipeline, store)
        .agent("the expert", expert)
        .build()
        .expect("it can run")
}

#[tokio::test]
async fn a_redirected_run_goes_on_with_the_agent_of_that_name_in_another_process() {
    for asked in [
        |agent: &Handler| Value::opaque(agent.clone()),
        |_: &Handler| Value::from("the expert"),
        |_: &Handler| Value::from("review"),
    ] {
        let (world, store) = (World::default(), memory());
        let here = process(&world, asked, &store);
        let mut run = Box::pin(here.run_named("the run", Value::from(1), Context::new()));
        world.hang_in("expert");
        tokio::select! {
            done = &mut run => panic!("it ended as {}", done.status()),
            () = world.0.hanging.notified() => {}
        }
        drop(run);
        world.hang(false);
        assert_eq!(world.begun(), ["draft", "expert"]);
        let done = process(&world, asked, &store).stored("the run").await;
        // The attempt whose agent was being called begins anew.
        assert_eq!(
            done.output(),
            Some(&Value::from(201)),
            "{:?}",
            done.finish.outcome
        );
    }
}

#[tokio::test]
async fn a_name_that_no_agent_has_fails_the_step_and_says_what_may_be_asked_for() {
    let (world, store) = (World::default(), memory());
    let runner = process(&world, |_| Value::from("nobody"), &store);
    let done = runner.run_named("the run", Value::from(1), Context::new()).await;
    let text = format!("{:?}", done.finish.outcome);
    assert!(text.contains("`nobody`") && text.contains("path"), "{text}");
}
