//! Loops, refinement, routers, state machines, imports and failure routes, typed.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use flujo::{
    AgentCommand, AgentTurn, BoxError, Context, FailureKind, Flujo, Payload, Pipeline, Planning, Refinement,
    Run, RunError, Scope, Stage, Status, Step, StepFailure, Value, agentic_loop, gather, import, parallel,
    refine_until, state_machine, step,
};

#[derive(Debug, Default, Context)]
struct Notes {
    seen: u32,
}

fn plus(number: u32) -> Step<u32, u32> {
    step("plus", move |input: u32| async move {
        Ok::<_, BoxError>(input + number)
    })
}

fn failing<O: Payload>() -> Step<u32, O> {
    step("fail", |_: u32| async move { Err::<O, _>("broken") }).retries(0)
}

async fn run<I: Payload, O: Payload>(
    stage: impl Stage<In = I, Out = O, Context = ()>,
    input: I,
) -> Result<Run<O>, RunError> {
    Flujo::new(stage).run(input).await
}

async fn failure<I: Payload, O: Payload + std::fmt::Debug>(
    stage: impl Stage<In = I, Out = O, Context = ()>,
    input: I,
) -> (FailureKind, String) {
    match run(stage, input).await {
        Err(RunError::Failed { failure, .. }) => (failure.kind, failure.to_string()),
        other => panic!("it fails: {other:?}"),
    }
}

#[tokio::test]
async fn a_loop_feeds_itself_and_says_how_it_ended() {
    let done = run(plus(2).loop_until("up", |number: &u32| *number >= 5), 0)
        .await
        .expect("it ends");
    assert_eq!(done.output, 6);
    let up = done.steps.get("up").expect("it ran");
    let end = up.loop_end().expect("an end");
    assert_eq!(
        (end.iterations, end.reason.as_str(), up.children().count()),
        (3, "condition", 3)
    );
}

#[tokio::test]
async fn a_loop_whose_body_gives_another_type_maps_its_way_back_and_its_ends() {
    let show = step("show", |number: u32| async move {
        Ok::<_, BoxError>("x".repeat(number as usize))
    });
    let whole = show
        .loop_with(
            "grow",
            |text: &String, turn| u32::try_from(text.len()).unwrap_or(0) + turn,
            |text: &String| text.len() > 5,
        )
        .first_input(|text: &&'static str| u32::try_from(text.len()).unwrap_or(0))
        .output(|text: &String| text.len())
        .output(|length: &usize| length * 10);
    // 3, + 1, + 2
    assert_eq!(run(whole, "abc").await.expect("it ends").output, 60);
}

#[tokio::test]
async fn the_exit_of_a_loop_sees_the_context_that_the_body_wrote() {
    let count = step("count", |number: u32, scope: Scope<Notes>| async move {
        scope.context().update(|notes| notes.seen += 1);
        Ok::<_, BoxError>(number)
    });
    let whole = count.loop_until("turns", |_: &u32, notes: &Notes| notes.seen == 3);
    let done = Flujo::new(whole).run(0).await.expect("it ends");
    assert_eq!(done.context.seen, 3);
}

#[tokio::test]
async fn a_loop_that_does_not_end_fails_at_its_limit_and_one_that_fails_may_go_on() {
    let (kind, text) = failure(plus(1).loop_until("up", |_: &u32| false).max_loops(3), 0).await;
    assert_eq!(kind, FailureKind::LoopLimit);
    assert!(text.contains("max_loops (3)"), "{text}");
    let (kind, _) = failure(failing::<u32>().loop_until("up", |_: &u32| true), 0).await;
    assert_eq!(kind, FailureKind::LoopBody);

    let tried = Arc::new(AtomicU32::new(0));
    let flaky = step("flaky", move |number: u32| {
        let turn = tried.fetch_add(1, Ordering::Relaxed);
        async move {
            if turn == 1 {
                Err("a bad moment")
            } else {
                Ok(number + 1)
            }
        }
    })
    .retries(0);
    let whole = flaky
        .loop_until("up", |number: &u32| *number == 3)
        .continue_on_failure();
    assert_eq!(run(whole, 0).await.expect("it goes on").output, 3);
}

#[tokio::test]
async fn a_refinement_gives_the_critic_s_words_back_to_the_generator() {
    let write = || {
        step("write", |draft: Refinement<u32, u32>| async move {
            Ok::<_, BoxError>(draft.input + draft.feedback.unwrap_or(0))
        })
    };
    let judge = || step("judge", |made: u32| async move { Ok::<_, BoxError>(12 - made) });
    let whole = refine_until("refine", write(), judge(), |missing: &u32| *missing == 0);
    let done = run(whole, 10).await.expect("it ends");
    assert_eq!(done.output, 12);
    assert_eq!(done.steps.get("refine").expect("it ran").children().count(), 4);
    let mapped = refine_until("refine", write(), judge(), |missing: &u32| *missing == 0)
        .first_input(|text: &String| u32::try_from(text.len()).unwrap_or(0));
    assert_eq!(
        run(mapped, "0123456789".to_owned())
            .await
            .expect("it ends")
            .output,
        12
    );
}

#[tokio::test]
async fn a_router_runs_what_it_chose_and_an_unknown_branch_is_named() {
    let router = |names: &'static [&'static str]| {
        step("router", move |_: u32| async move {
            Ok::<_, BoxError>(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        })
    };
    let route = |names| parallel("route", [("a", plus(1)), ("b", plus(2))]).routed_by(router(names));
    let done = run(route(&["b", "a"]), 1).await.expect("it ends");
    assert_eq!(done.output, [("a".to_owned(), 2), ("b".to_owned(), 3)]);
    assert!(run(route(&[]), 1).await.expect("it ends").output.is_empty());
    let (kind, text) = failure(route(&["c"]), 1).await;
    assert_eq!(kind, FailureKind::UnknownBranch);
    assert!(text.contains("'c'") && text.contains("'a', 'b'"), "{text}");
}

#[tokio::test]
async fn gathering_an_output_that_is_not_there_names_those_that_are() {
    let split = || parallel("split", [("a", plus(1)), ("b", plus(2))]);
    assert_eq!(
        run(split() >> gather("pick", ["b"]), 1)
            .await
            .expect("it ends")
            .output,
        [3]
    );
    let (_, text) = failure(split() >> gather("pick", ["c"]), 1).await;
    assert!(text.contains("`c`") && text.contains("`a`, `b`"), "{text}");
}

#[tokio::test]
async fn a_state_machine_takes_the_first_transition_that_fits() {
    let machine = || {
        state_machine("machine", "small")
            .state("small", plus(1))
            .state("broken", failing())
            .end_with("large", plus(100))
            .end("stop")
            .transition_when("small", "broken", |number: &u32| *number == 7)
            .transition_when("small", "large", |number: &u32| *number > 2)
            .transition("small", "small")
            .transition_on_failure("broken", "stop")
    };
    let done = run(machine(), 0).await.expect("it ends");
    assert_eq!(done.output, 103);
    let view = done.steps.get("machine").expect("it ran");
    assert_eq!((view.branch(), view.attempts()), (Some("large"), 4));
    assert_eq!(run(machine(), 6).await.expect("it ends").output, 7);
    let (kind, text) = failure(state_machine("machine", "only").state("only", plus(1)), 0).await;
    assert_eq!(kind, FailureKind::UnknownBranch);
    assert!(text.contains("add a transition"), "{text}");
    let refused = Flujo::builder(state_machine::<u32>("machine", "nowhere").end("stop"))
        .build()
        .err();
    assert!(refused.expect("it can't run").to_string().contains("start state"));
}

#[tokio::test]
async fn a_failure_s_handler_is_given_the_typed_input_the_error_and_the_steps_so_far() {
    let rescue = step("rescue", |failure: StepFailure<u32>| async move {
        assert!(failure.error().is_some_and(|error| error.to_string() == "broken"));
        assert!(failure.feedback().contains("broken"));
        let before = failure.steps();
        let output = before.get("plus").and_then(|step| step.output::<u32>().copied());
        Ok::<_, BoxError>(failure.input * 100 + output.unwrap_or(0))
    });
    let done = run((plus(1) >> failing::<u32>()).on_failure(rescue) >> plus(0), 5)
        .await
        .expect("it ends");
    assert_eq!(done.output, 506);
    assert_eq!(
        done.steps.get("fail").map(|step| step.status()),
        Some(Status::Failed)
    );

    let hopeless = step(
        "rescue",
        |_: StepFailure<u32>| async move { Err::<u32, _>("no help") },
    )
    .retries(0);
    let (_, text) = failure(failing::<u32>().on_failure(hopeless), 5).await;
    assert!(text.contains("broken") && text.contains("no help"), "{text}");
}

#[derive(Debug, Default, Context)]
struct Inner {
    start: u32,
    end: u32,
}

#[tokio::test]
async fn an_import_s_context_is_its_own_and_a_failed_one_leaves_nothing_behind() {
    let child = |fails: bool| {
        step("child", move |input: u32, scope: Scope<Inner>| async move {
            scope.context().update(|inner| inner.end = inner.start + input);
            if fails { Err("broken") } else { Ok(input) }
        })
        .retries(0)
    };
    let whole = |fails| -> Pipeline<u32, u32, Notes> {
        import(
            "child pipeline",
            child(fails),
            |_: &u32, notes: &Notes| Inner {
                start: notes.seen,
                end: 0,
            },
            |inner: &Inner, notes: &mut Notes| notes.seen = inner.end,
        )
    };
    let done = Flujo::new(whole(false))
        .run_with(5, &Notes { seen: 2 })
        .await
        .expect("it ends");
    assert_eq!(done.context.seen, 7);
    let error = Flujo::new(whole(true))
        .run_with(5, &Notes { seen: 2 })
        .await
        .expect_err("it fails");
    let partial = error.partial().expect("it began");
    assert_eq!(partial.context.get("seen"), Some(&flujo::Value::from(2)));
}

#[tokio::test]
async fn a_step_around_a_construct_is_one_step_with_the_attempts_of_one_and_the_lanes_of_the_other() {
    let tried = Arc::new(AtomicU32::new(0));
    let flaky = step("flaky", move |number: u32| {
        let turn = tried.fetch_add(1, Ordering::Relaxed);
        async move {
            if turn == 0 {
                Err("a bad moment")
            } else {
                Ok(number)
            }
        }
    })
    .retries(0);
    let whole = Step::body("split", parallel("split", (("a", flaky), ("b", plus(1))))).retries(1);
    let done = run(whole, 1).await.expect("the second attempt succeeds");
    assert_eq!(done.output, (1, 2));
    assert_eq!(done.steps.iter().count(), 1);
    let split = done.steps.get("split").expect("it ran");
    let lanes: Vec<_> = split.lanes().map(|lane| lane.name().to_owned()).collect();
    assert_eq!(
        (
            split.attempts(),
            split.attempt_feedback().count(),
            split.children().count()
        ),
        (2, 1, 0)
    );
    assert_eq!(lanes, ["a", "b"]);

    let spare = step("spare", |_: u32| async move { Ok::<_, BoxError>((7, 7)) });
    let both = parallel("split", (("a", failing::<u32>()), ("b", plus(1))));
    let done = run(Step::body("split", both).fallback(spare), 1)
        .await
        .expect("the fallback succeeds");
    assert_eq!(done.output, (7, 7));
}

#[derive(Debug, Default, Context)]
struct Work {
    seen: u32,
    command_log: Vec<AgentTurn>,
}

/// A planner that gives these commands in turn.
fn planner(commands: Vec<AgentCommand>) -> Step<Planning<u32>, AgentCommand> {
    step("plan", move |now: Planning<u32>| {
        let next = commands.get(now.command_log.len()).cloned();
        async move { next.ok_or("no more commands") }
    })
    .retries(0)
}

fn command(name: &str, input: impl Into<Value>) -> AgentCommand {
    AgentCommand::run_agent(name, &input.into()).expect("plain data")
}

#[tokio::test]
async fn a_planner_is_told_of_all_that_came_of_its_commands() {
    let note = step("note", |number: u32, scope: Scope<Work>| async move {
        scope.context().update(|notes| notes.seen += number);
        Ok::<_, BoxError>(number + 1)
    });
    let broken = step("broken", |_: u32, scope: Scope<Work>| async move {
        scope.context().update(|notes| notes.seen += 100);
        Err::<u32, _>("no luck")
    })
    .retries(0);
    let commands = vec![
        command("note", 5),
        command("broken", 5),
        command("note", "five"),
        command("nobody", 5),
        AgentCommand::finish(&"done").expect("plain data"),
    ];
    let work = agentic_loop("work", planner(commands.clone()))
        .agent("note", note)
        .agent("broken", broken)
        .answer::<String>();
    let done = Flujo::new(work)
        .run_with(7, &Work::default())
        .await
        .expect("it ends");
    assert_eq!((done.output.as_str(), done.context.seen), ("done", 5));
    let log = &done.context.command_log;
    let said: Vec<&str> = log
        .iter()
        .map(|turn| turn.execution_result.as_str().unwrap_or_default())
        .collect();
    assert_eq!(log[0].execution_result.as_int(), Some(6));
    assert!(said[1].contains("no luck"), "{}", said[1]);
    assert!(said[2].contains("invalid type"), "{}", said[2]);
    assert!(
        said[3].contains("no agent of that name; the agents are `note`, `broken`"),
        "{}",
        said[3]
    );
    let given: Vec<&AgentCommand> = log.iter().map(|turn| &turn.generated_command).collect();
    assert_eq!(given, commands.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_planner_may_ask_somebody_and_has_to_finish_in_time() {
    let commands = vec![
        AgentCommand::ask_human("Go on?"),
        AgentCommand::finish(&1).expect("plain data"),
    ];
    let flujo = Flujo::new(agentic_loop("work", planner(commands)).answer::<u32>());
    let Err(RunError::Paused { paused, .. }) = flujo.run(7).await else {
        panic!("it asks");
    };
    assert_eq!(paused.pauses()[0].message, "Go on?");
    assert_eq!(flujo.resume(&paused, "yes").await.expect("it ends").output, 1);
    let endless = vec![command("same", 1); 3];
    let same = step("same", |number: u32| async move { Ok::<_, BoxError>(number) });
    let (kind, _) = failure(
        agentic_loop("work", planner(endless))
            .agent("same", same)
            .max_loops(2),
        7,
    )
    .await;
    assert_eq!(kind, FailureKind::LoopLimit);
}

#[tokio::test]
async fn an_invariant_holds_after_every_step_at_the_top_and_names_itself() {
    let add = |name: &'static str, number: u32| {
        step(name, move |input: u32, scope: Scope<Notes>| async move {
            scope.context().update(|notes| notes.seen += number);
            Ok::<_, BoxError>(input)
        })
    };
    let small = add("small", 1).loop_until("loop", |_: &u32| true);
    let pipeline = (small >> add("large", 10).retries(3) >> add("never", 0))
        .invariant("odd", |notes: &Notes| notes.seen % 2 == 1)
        .invariant("few", |notes: &Notes| notes.seen < 5);
    let Err(RunError::Failed { failure, partial }) =
        Flujo::new(pipeline).run_with(0, &Notes::default()).await
    else {
        panic!("it fails");
    };
    assert_eq!(failure.step.as_ref(), "large");
    assert_eq!(failure.message.as_ref(), "the invariant `few` doesn't hold");
    assert_eq!(Notes::load(&partial.context).expect("notes").seen, 1);
    assert_eq!(
        partial.steps.get("loop").expect("it ran").status(),
        Status::Succeeded
    );
    let large = partial.steps.get("large").expect("it ran");
    assert_eq!((large.attempts(), large.children().count()), (1, 0));
    assert!(partial.steps.get("never").is_none());
}
