//! Loops, refinement, routers, state machines, imports and failure routes over values, as a blueprint builds them.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::machine::{FailureKind, Record, Status};
use flujo_core::value::Value;
use flujo_tokio::{
    After, Done, EventKind, Handler, Import, IterationFailure, Loop, Parallel, Pipeline, Raised, Runner,
    StateEnd, StateMachine, Step, Tokio, Transition,
};

async fn run(pipeline: impl Into<Pipeline>, input: Value, context: Context) -> Done {
    let runner = Runner::builder(pipeline).build().expect("the pipeline can run");
    runner.run(input, context).await
}

fn step(name: &'static str, work: impl Fn(i64) -> Result<i64, Raised> + Send + Sync + 'static) -> Step {
    let work = move |input: &Value, _: &Context| work(input.as_int().unwrap_or(0)).map(Value::from);
    Step::new(name, Handler::processor(work)).retries(0)
}

fn plus(name: &'static str, number: i64) -> Step {
    step(name, move |input| Ok(input + number))
}

fn failing(name: &'static str) -> Step {
    step(name, |_| Err("broken".into()))
}

fn at_least(number: i64) -> impl Fn(&Value, &Context) -> Result<bool, Raised> + Send + Sync + 'static {
    move |output, _| Ok(output.as_int().unwrap_or(0) >= number)
}

fn record<'a>(done: &'a Done, name: &str) -> &'a Record<Tokio> {
    let mut records = done.finish.history.records.iter();
    let found = records.find(|record| *done.plan.node(record.node).name == *name);
    found.expect("a record of that name")
}

fn feedback(done: &Done) -> String {
    let failed = &done.finish.history.records[0];
    failed.failure.as_ref().expect("a failure").to_string()
}

fn count(done: &Done, name: &str) -> usize {
    let records = done.finish.history.records.iter();
    records
        .filter(|record| *done.plan.node(record.node).name == *name)
        .count()
}

fn list(values: &[i64]) -> Value {
    Value::list(values.iter().copied().map(Value::from))
}

#[tokio::test]
async fn a_loop_runs_its_body_on_the_last_output_until_the_condition_holds() {
    let done = run(
        Loop::until("up", plus("add", 2), at_least(5)),
        Value::from(0),
        Context::new(),
    )
    .await;
    assert_eq!(done.output(), Some(&Value::from(6)));
    let up = record(&done, "up");
    let end = up
        .details
        .as_ref()
        .and_then(|details| details.loop_end)
        .expect("an end");
    assert_eq!(
        (end.iterations, end.reason.as_str(), up.attempts),
        (3, "condition", 3)
    );
    assert_eq!(count(&done, "add"), 3);
}

#[tokio::test]
async fn a_loop_that_has_not_done_by_max_loops_fails_and_its_record_keeps_the_last_output() {
    let looped = Loop::until("up", plus("add", 1), at_least(100)).max_loops(4);
    let done = run(looped, Value::from(0), Context::new()).await;
    assert_eq!(done.status(), "failed");
    let up = record(&done, "up");
    assert_eq!(up.output, Some(Value::from(4)));
    assert_eq!(
        up.failure.as_ref().map(|failure| failure.kind),
        Some(FailureKind::LoopLimit)
    );
}

#[tokio::test]
async fn mappers_of_a_loop_see_its_start_and_indices_from_one() {
    let looped = Loop::until("up", plus("add", 1), at_least(100))
        .max_loops(3)
        .first_input(|first, _| {
            Ok(Value::from(
                first.value.as_int().unwrap_or(0) * 10 + i64::from(first.index),
            ))
        })
        .next_input(|next, _| {
            let start = next.start.as_int().unwrap_or(0);
            Ok(Value::from(
                next.value.as_int().unwrap_or(0) + start * i64::from(next.index),
            ))
        });
    let done = run(looped.clone(), Value::from(5), Context::new()).await;
    // 50 + 1, + 5 · 1, + 1, + 5 · 2, + 1
    assert_eq!(record(&done, "up").output, Some(Value::from(68)));

    let whole = Loop::until("up", plus("add", 1), at_least(1))
        .output(|last, _| Ok(list(&[last.value.as_int().unwrap_or(0)])));
    assert_eq!(
        run(whole, Value::from(0), Context::new()).await.output(),
        Some(&list(&[1]))
    );
}

#[tokio::test]
async fn an_error_in_a_condition_or_mapper_fails_the_loop_and_says_where() {
    let broken = Loop::until("up", plus("add", 1), |_: &Value, _: &Context| {
        Err(Raised::from("no idea"))
    });
    let done = run(broken, Value::from(0), Context::new()).await;
    assert!(
        feedback(&done).contains("Condition failed"),
        "{}",
        feedback(&done)
    );
    assert_eq!(record(&done, "up").output, Some(Value::from(1)));

    let broken = Loop::until("up", plus("add", 1), at_least(9)).next_input(|_, _| Err("no way on".into()));
    let done = run(broken, Value::from(0), Context::new()).await;
    let details = record(&done, "up").details.as_ref().expect("details");
    assert_eq!(
        details.loop_end.expect("an end").reason.as_str(),
        "iteration_input_mapper_error"
    );
    assert!(feedback(&done).contains("Mapper failed"), "{}", feedback(&done));
}

#[tokio::test]
async fn a_failing_body_ends_the_loop_unless_it_may_go_on_with_the_last_good_output() {
    let tried = Arc::new(AtomicU32::new(0));
    let body = || {
        let tried = Arc::clone(&tried);
        step("work", move |input| match tried.fetch_add(1, Ordering::Relaxed) {
            1 => Err("a bad moment".into()),
            _ => Ok(input + 1),
        })
    };
    let done = run(
        Loop::until("up", body(), at_least(3)),
        Value::from(0),
        Context::new(),
    )
    .await;
    assert!(
        feedback(&done).starts_with("Loop body failed: step 'work'"),
        "{}",
        feedback(&done)
    );

    tried.store(0, Ordering::Relaxed);
    let patient = Loop::until("up", body(), at_least(3)).on_body_failure(IterationFailure::Continue);
    let done = run(patient, Value::from(0), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::from(3)));
    assert_eq!(record(&done, "up").attempts, 4);
}

#[tokio::test]
async fn a_refinement_feeds_back_what_the_critic_says_and_gives_the_last_artifact() {
    let generator = Step::new(
        "write",
        Handler::processor(|input, _| {
            let original = input
                .get("original_input")
                .and_then(Value::as_str)
                .unwrap_or_default();
            let feedback = input
                .get("feedback")
                .and_then(Value::as_str)
                .unwrap_or("no feedback");
            Ok(Value::from(format!("{original}, {feedback}")))
        }),
    );
    let critic = Step::new(
        "judge",
        Handler::processor(|text, _| {
            let good = text.as_str().is_some_and(|text| text.ends_with("shorter"));
            Ok(Value::map([
                ("is_complete", Value::from(good)),
                ("feedback", Value::from("shorter")),
            ]))
        }),
    );
    let done = run(
        Loop::refine("refine", generator, critic),
        Value::from("a poem"),
        Context::new(),
    )
    .await;
    assert_eq!(done.output(), Some(&Value::from("a poem, shorter")));
    assert_eq!((count(&done, "write"), count(&done, "judge")), (2, 2));

    let never = Step::new(
        "judge",
        Handler::processor(|_, _| Ok(Value::map([("is_complete", Value::from(false))]))),
    );
    let done = run(
        Loop::refine("refine", plus("write", 1), never).max_loops(2),
        Value::from(0),
        Context::new(),
    )
    .await;
    let output = record(&done, "refine")
        .output
        .clone()
        .expect("the critic's last word");
    assert_eq!(output.get("is_complete"), Some(&Value::from(false)));

    let mute = Loop::refine("refine", plus("write", 1), plus("judge", 1));
    let done = run(mute, Value::from(0), Context::new()).await;
    assert!(feedback(&done).contains("is_complete"), "{}", feedback(&done));
}

fn routed(router: Value) -> Parallel {
    let router = Step::new("router", Handler::processor(move |_, _| Ok(router.clone())));
    Parallel::new("route")
        .branch("one", plus("add one", 1))
        .branch("two", plus("add two", 2))
        .branch("three", plus("add three", 3))
        .router(router)
}

#[tokio::test]
async fn a_router_chooses_branches_by_name_and_they_run_in_declared_order() {
    let chosen = Value::list([Value::from("three"), Value::from("one")]);
    let done = run(routed(chosen), Value::from(10), Context::new()).await;
    let expected = Value::map([("one", Value::from(11)), ("three", Value::from(13))]);
    assert_eq!(done.output(), Some(&expected));
    assert_eq!(count(&done, "router"), 1);

    let done = run(routed(Value::from("two")), Value::from(10), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::map([("two", Value::from(12))])));
}

#[tokio::test]
async fn a_router_that_chooses_nothing_gives_an_empty_map_and_an_unknown_name_is_named() {
    let done = run(routed(Value::Null), Value::from(10), Context::new()).await;
    assert_eq!(done.output().and_then(Value::as_map).map(Vec::len), Some(0));
    let done = run(routed(Value::from("four")), Value::from(10), Context::new()).await;
    let feedback = feedback(&done);
    assert!(
        feedback.contains("'four'") && feedback.contains("'one', 'two', 'three'"),
        "{feedback}"
    );
    let done = run(routed(Value::from(4)), Value::from(10), Context::new()).await;
    assert_eq!(done.status(), "failed");
}

fn machine() -> StateMachine {
    StateMachine::new("machine", "draft")
        .state("draft", plus("write", 1))
        .state("repair", plus("mend", 100))
        .end_with("publish", plus("print", 1000))
        .end("bin")
}

#[tokio::test]
async fn a_state_machine_follows_its_transitions_to_an_end_state() {
    let small = |end: StateEnd<'_>, _: &Context| match end {
        StateEnd::Success(output) => Ok(output.as_int().unwrap_or(0) < 3),
        StateEnd::Failure(_) => Ok(false),
    };
    let machine = machine()
        .transition(Transition::new("draft", "draft").when(small))
        .transition(Transition::new("draft", "publish"));
    let done = run(machine, Value::from(0), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::from(1003)));
    let details = record(&done, "machine").details.as_ref().expect("details");
    assert_eq!(details.branch.as_deref(), Some("publish"));
    assert_eq!(record(&done, "machine").attempts, 4);
}

#[tokio::test]
async fn a_failed_state_has_transitions_of_its_own_and_else_fails_the_machine() {
    let broken = || {
        StateMachine::new("machine", "draft")
            .state("draft", failing("write"))
            .end_with("repair", plus("mend", 100))
    };
    let rescued = broken().transition(Transition::from_any("repair").after(After::Failure));
    assert_eq!(
        run(rescued, Value::from(1), Context::new()).await.output(),
        Some(&Value::from(101))
    );
    let done = run(broken(), Value::from(1), Context::new()).await;
    assert!(feedback(&done).contains("broken"), "{}", feedback(&done));
}

#[tokio::test]
async fn a_state_may_name_the_next_one_in_the_context_and_a_dead_end_says_what_to_do() {
    let named = StateMachine::new("machine", "draft")
        .state(
            "draft",
            Step::new("write", Handler::processor(|_, _| Ok(Value::from("bin")))).sink_to("next_state"),
        )
        .end("bin");
    let done = run(named, Value::from(1), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::from("bin")));
    assert_eq!(done.finish.context.get("next_state"), Some(&Value::Null));

    let done = run(machine(), Value::from(1), Context::new()).await;
    assert!(
        feedback(&done).contains("add a transition"),
        "{}",
        feedback(&done)
    );
    let done = run(
        machine().transition(Transition::new("draft", "heaven")),
        Value::from(1),
        Context::new(),
    )
    .await;
    assert!(feedback(&done).contains("'heaven'"), "{}", feedback(&done));
}

#[tokio::test]
async fn constructs_that_cannot_run_are_refused_when_the_runner_is_built() {
    let refused = |pipeline: Pipeline| {
        let error = Runner::builder(pipeline).build().err().expect("it cannot run");
        error.to_string()
    };
    assert!(
        refused(Loop::until("up", plus("add", 1), at_least(1)).max_loops(0).into()).contains("max_loops 0")
    );
    assert!(refused(StateMachine::new("machine", "nowhere").end("bin").into()).contains("start state"));
    assert!(refused(Parallel::new("split").router(plus("router", 1)).into()).contains("no branches"));
}

#[tokio::test]
async fn a_failure_route_is_told_what_failed_and_its_output_is_the_whole_s() {
    let rescue = Step::new("rescue", Handler::processor(|failure, _| Ok(failure.clone())));
    let route = Pipeline::from(plus("first", 1))
        .then(failing("second").retries(2))
        .on_failure(rescue)
        .then(Step::new(
            "last",
            Handler::processor(|input, _| Ok(input.clone())),
        ));
    let done = run(route, Value::from(7), Context::new()).await;
    let told = done.output().expect("the handler's output");
    assert_eq!(told.get("step"), Some(&Value::from("second")));
    assert_eq!(told.get("attempts"), Some(&Value::from(3)));
    assert_eq!(told.get("input"), Some(&Value::from(7)));
    assert!(
        told.get("error")
            .and_then(Value::as_str)
            .expect("text")
            .contains("broken")
    );
    assert_eq!(record(&done, "second").status, Status::Failed);
}

#[tokio::test]
async fn a_failure_route_can_read_the_partial_history_and_both_errors_are_named_when_it_fails_too() {
    let known = |failure: flujo_tokio::StepFailure| {
        assert!(failure.error().is_some());
        let outputs = failure
            .history
            .records
            .iter()
            .filter_map(|record| record.output.clone());
        Ok(Value::list(outputs))
    };
    let route = plus("first", 1).on_failure(plus("unused", 0));
    let whole = route.then(failing("second")).on_failure_with(
        known,
        Step::new("rescue", Handler::processor(|seen, _| Ok(seen.clone()))),
    );
    assert_eq!(
        run(whole, Value::from(1), Context::new()).await.output(),
        Some(&list(&[2]))
    );

    let hopeless = failing("work").on_failure(step("rescue", |_| Err("also broken".into())));
    let done = run(hopeless, Value::from(1), Context::new()).await;
    let flujo_core::machine::Outcome::Failed(failure) = &done.finish.outcome else {
        panic!("it has no output");
    };
    let text = failure.to_string();
    assert!(text.contains("broken") && text.contains("also broken"), "{text}");
}

#[tokio::test]
async fn a_failure_inside_imports_is_told_with_the_place_and_attempts_of_the_step_that_failed() {
    let told = |failure: flujo_tokio::StepFailure| Ok(failure.to_value());
    let same = || Step::new("same", Handler::processor(|seen, _| Ok(seen.clone())));
    let inner = Import::new(
        "inner",
        Pipeline::from(plus("before", 1)).then(failing("work").retries(2)),
    );
    let fan = Parallel::new("fan").branch("only", failing("work").retries(1));
    let cases = [
        (
            Pipeline::from(Import::new("outer", inner)),
            ("work", "outer/inner/work", 3),
        ),
        (Pipeline::from(Import::new("outer", fan)), ("fan", "outer/fan", 0)),
    ];
    for (whole, (name, path, attempts)) in cases {
        let whole = whole.on_failure_with(told, same());
        let done = run(whole, Value::from(1), Context::new()).await;
        let failure = done.output().expect("the handler's output");
        let place = ["step", "path", "attempts"].map(|key| failure.get(key).cloned().unwrap_or_default());
        assert_eq!(
            place,
            [Value::from(name), Value::from(path), Value::from(attempts)]
        );
    }
}

#[tokio::test]
async fn an_import_has_a_context_of_its_own_with_fields_passed_in_and_brought_back() {
    let child = Step::new(
        "child",
        Handler::scoped(|_, scope| async move {
            let seen: Vec<Value> = scope
                .context()
                .iter()
                .map(|(name, _)| Value::from(&**name))
                .collect();
            scope.update(|context| {
                context.set("result", Value::from(42));
                context.set("scratch", Value::from(1));
            });
            Ok(Value::list(seen))
        }),
    );
    let mut context = Context::new();
    context.set("topic", Value::from("tea"));
    context.set("secret", Value::from("x"));
    let import = Import::new("child pipeline", child.clone())
        .input_to("question")
        .pass("topic", "subject")
        .bring_back("result", "answers.child");
    let done = run(import, Value::from("why"), context.clone()).await;
    assert_eq!(
        done.output(),
        Some(&Value::list([Value::from("question"), Value::from("subject")]))
    );
    let after = &done.finish.context;
    assert_eq!(after.get_path("answers.child"), Some(&Value::from(42)));
    assert_eq!((after.get("scratch"), after.get("subject")), (None, None));

    let done = run(
        Import::new("child pipeline", child.clone()),
        Value::Null,
        context.clone(),
    )
    .await;
    assert_eq!(done.finish.context.get("scratch"), Some(&Value::from(1)));
    let closed = Import::new("child pipeline", child.clone())
        .inherit_context()
        .bring_nothing_back();
    let done = run(closed, Value::Null, context.clone()).await;
    assert_eq!(
        done.output(),
        Some(&Value::list([Value::from("secret"), Value::from("topic")]))
    );
    assert_eq!(done.finish.context, context);
    let wrong = Import::new("child pipeline", child).pass("nothing.here", "x");
    let done = run(wrong, Value::Null, context).await;
    assert!(feedback(&done).contains("`nothing.here`"), "{}", feedback(&done));
}

#[tokio::test]
async fn gather_takes_named_outputs_and_names_the_ones_that_are_missing() {
    let split = || {
        Parallel::new("split")
            .branch("a", plus("x", 1))
            .branch("b", plus("y", 2))
            .branch("c", plus("z", 3))
    };
    let done = run(
        Pipeline::from(split()).then(Step::gather("pick", ["c", "a"])),
        Value::from(0),
        Context::new(),
    )
    .await;
    assert_eq!(
        done.output(),
        Some(&Value::map([("c", Value::from(3)), ("a", Value::from(1))]))
    );
    let done = run(
        Pipeline::from(split()).then(Step::gather("pick", ["d"])),
        Value::from(0),
        Context::new(),
    )
    .await;
    let failure = record(&done, "pick")
        .failure
        .as_ref()
        .expect("a failure")
        .to_string();
    assert!(
        failure.contains("`d`") && failure.contains("`a`, `b`, `c`"),
        "{failure}"
    );
}

#[tokio::test]
async fn any_construct_is_retried_validated_and_replaced_by_its_fallback_as_a_step_is() {
    let tried = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&tried);
    let work = step("work", move |input| {
        match counted.fetch_add(1, Ordering::Relaxed) {
            0 => Err("a bad moment".into()),
            _ => Ok(input + 1),
        }
    });
    let split = Parallel::new("split")
        .branch("a", work.sink_to("seen"))
        .branch("b", plus("add", 2));
    let whole = Step::body("split", split)
        .retries(1)
        .output_processor(Handler::processor(|output, _| {
            Ok(output.get("b").cloned().unwrap_or_default())
        }));
    let mut run = Runner::builder(whole)
        .build()
        .expect("it can run")
        .run(Value::from(0), Context::new());
    let mut begun = Vec::new();
    while let Some(event) = run.events().next().await {
        if matches!(event.kind, EventKind::StepStarted) {
            begun.push(event.place.path.to_string());
        }
    }
    let done = run.await;
    assert_eq!(done.output(), Some(&Value::from(2)));
    assert_eq!(done.finish.context.get("seen"), Some(&Value::from(1)));
    assert_eq!(record(&done, "split").attempts, 2);
    assert_eq!(
        begun.iter().filter(|path| *path == "split").count(),
        1,
        "one step to whoever looks on"
    );
    assert!(begun.contains(&"split/a/work".to_owned()), "{begun:?}");

    let strict = Step::body("up", Loop::until("up", plus("add", 1), at_least(1)))
        .validator(Handler::validator(|_, _| Err("never good".into())))
        .fallback(plus("spare", 50));
    let runner = Runner::builder(strict).build().expect("it can run");
    let done = runner.run(Value::from(0), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::from(50)));
    let times = runner.performance_statistics().execution_time_stats.by_step;
    assert_eq!(times.get("up").map(|times| times.count), Some(1));
}

#[tokio::test(start_paused = true)]
async fn a_timeout_around_a_construct_ends_what_runs_in_it() {
    let sleepy = Step::new(
        "sleep",
        Handler::function(|input| async move {
            tokio::time::sleep(Duration::from_mins(1)).await;
            Ok(input)
        }),
    );
    let whole = Step::body("up", Loop::until("up", sleepy, at_least(1))).timeout(Duration::from_secs(5));
    let begun = tokio::time::Instant::now();
    let done = run(whole, Value::from(1), Context::new()).await;
    assert_eq!(done.status(), "failed");
    assert_eq!(begun.elapsed().as_secs(), 5);
}
