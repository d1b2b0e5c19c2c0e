//! Loops, state machines, routers, questions to people, failure routes, and parts of a pipeline as a step's work.

use flujo_core::machine::{ExitReason, FailureKind, HookPoint, Role};
use flujo_simulation::story::{
    Told, calls, fail, guarded, human, map, parallel, part, repeat, states, step, story,
};
use flujo_simulation::{Act, Does, Object, Script};

fn loop_end(told: &Told, name: &str) -> (u32, ExitReason) {
    let details = told.record(name).details.as_deref();
    match details.and_then(|details| details.loop_end) {
        Some(end) => (end.iterations, end.reason),
        None => unreachable!("`{name}` did not end as a loop does"),
    }
}

#[test]
fn a_loop_feeds_each_output_to_the_next_iteration_until_its_condition_holds() {
    let told = story([part(repeat("count", step("add").adds(1)).exits(Does::ExitAt(3)))])
        .run(0)
        .completed(3)
        .calls("add", 3);
    assert_eq!(loop_end(&told, "count"), (3, ExitReason::Condition));
}

#[test]
fn the_body_runs_once_even_when_the_condition_holds_from_the_beginning() {
    story([part(repeat("once", step("add").adds(1)).exits(Does::Exit(true)))])
        .run(9)
        .completed(10)
        .calls("add", 1);
}

#[test]
fn mappers_stand_before_the_first_iteration_between_iterations_and_after_the_last() {
    let counted = repeat("count", step("add").adds(1))
        .maps_first(Does::Add(100))
        .maps_next(Does::Add(10))
        .maps_output(Does::Add(1000))
        .exits(calls([Does::Exit(false), Does::Exit(true)]));
    story([part(counted)]).run(0).completed(1112);
}

#[test]
fn a_loop_that_has_not_done_after_its_most_iterations_fails_and_keeps_the_last_output() {
    let told = story([
        part(
            repeat("count", step("add").adds(1))
                .exits(Does::Exit(false))
                .at_most(4),
        ),
        part(step("after")),
    ])
    .run(0)
    .failed(FailureKind::LoopLimit)
    .saying("max_loops (4)")
    .calls("after", 0);
    assert_eq!(loop_end(&told, "count"), (4, ExitReason::MaxLoops));
    assert_eq!(told.record("count").output, Some(Object::Int(4)));
}

#[test]
fn a_failing_body_ends_the_loop_and_its_error_is_named() {
    let body = step("add").does(Does::Add(1)).fails(0);
    let told = story([part(
        repeat("count", [part(body), part(step("odd").does(Does::FailOdd))]).exits(Does::Exit(false)),
    )])
    .run(1)
    .failed(FailureKind::LoopBody)
    .saying("step 'odd'")
    .calls("odd", 2);
    assert_eq!(loop_end(&told, "count"), (2, ExitReason::BodyStepError));
    assert_eq!(told.record("count").output, Some(Object::Int(2)));
}

#[test]
fn a_recovered_iteration_does_not_fail_the_loop_and_leaves_no_trace() {
    let body = step("try").adds(1).writes("tried", 1).fails(1);
    let told = story([part(repeat("count", body).goes_on().exits(Does::ExitAt(1)))])
        .run(0)
        .completed(1)
        .calls("try", 2);
    assert_eq!(loop_end(&told, "count"), (2, ExitReason::Condition));

    let always = step("try").always_fails().writes("tried", 1);
    let told = story([part(repeat("count", always).goes_on().at_most(3))])
        .run(0)
        .failed(FailureKind::LoopLimit)
        .saying("the last iteration failed")
        .calls("try", 3);
    assert_eq!(told.finish().context.get("tried"), None);
}

#[test]
fn conditions_and_mappers_that_raise_fail_the_loop_and_say_which_of_them_did() {
    let body = || step("add").adds(1);
    let exit = story([part(repeat("count", body()).exits(fail()))])
        .run(0)
        .failed(FailureKind::Condition);
    assert_eq!(loop_end(&exit, "count"), (1, ExitReason::ExitConditionError));
    assert_eq!(exit.record("count").output, Some(Object::Int(1)));
    let first = story([part(repeat("count", body()).maps_first(fail()))])
        .run(0)
        .failed(FailureKind::Mapper);
    assert_eq!(
        loop_end(&first, "count"),
        (0, ExitReason::InitialInputMapperError)
    );
    let next = story([part(
        repeat("count", body()).maps_next(fail()).exits(Does::Exit(false)),
    )])
    .run(0)
    .failed(FailureKind::Mapper);
    assert_eq!(
        loop_end(&next, "count"),
        (1, ExitReason::IterationInputMapperError)
    );
    let output = story([part(repeat("count", body()).maps_output(fail()))])
        .run(0)
        .failed(FailureKind::Mapper);
    assert_eq!(loop_end(&output, "count"), (1, ExitReason::LoopOutputMapperError));
}

#[test]
fn a_deadline_ends_a_loop_between_iterations_and_within_one() {
    story([part(
        repeat("count", step("add").takes(10))
            .exits(Does::Exit(false))
            .at_most(100)
            .deadline(35),
    )])
    .run(0)
    .failed(FailureKind::LoopBody)
    .calls("add", 4);
}

#[test]
fn a_judge_decides_while_the_output_stays_that_of_the_body() {
    let refined = |at_most| {
        repeat("refine", step("draft").adds(1))
            .judged_by(step("critic").does(Does::Add(100)))
            .exits(Does::ExitAt(103))
            .at_most(at_most)
    };
    story([part(refined(5))]).run(0).completed(3).calls("critic", 3);
    let told = story([part(refined(2))]).run(0).failed(FailureKind::LoopLimit);
    assert_eq!(told.record("refine").output, Some(Object::Int(102)));
}

#[test]
fn a_judge_that_fails_in_the_first_iteration_leaves_its_input_for_the_next() {
    let told = story([part(
        repeat("refine", step("draft").adds(1))
            .judged_by(step("critic").fails(1))
            .goes_on()
            .exits(Does::Exit(true)),
    )])
    .run(5)
    .completed(6)
    .calls("draft", 2);
    assert_eq!(told.record("refine").output, Some(Object::Int(6)));
}

#[test]
fn usage_in_a_loop_is_the_sum_of_its_iterations_those_that_failed_too() {
    let body = step("call").adds(1).uses(3).fails(1);
    story([part(repeat("count", body).goes_on().exits(Does::ExitAt(2)))])
        .run(0)
        .completed(2)
        .used(9);
}

#[test]
fn lanes_in_a_loop_end_before_the_next_iteration_and_when_it_is_cancelled() {
    let fan = parallel(
        "fan",
        [
            ("a", step("a").takes(5).appends("log", "a").into()),
            ("b", step("b").takes(3).appends("log", "b").into()),
        ],
    );
    let told = story([part(
        repeat("twice", fan).exits(calls([Does::Exit(false), Does::Exit(true)])),
    )])
    .context([("log", Object::List(Vec::new()))])
    .run(0);
    assert_eq!(
        told.finish().context.get("log"),
        Some(&Object::from(["a", "b", "a", "b"])),
        "{:?}",
        told.finish().outcome
    );
    for after in 1..40 {
        let fan = parallel(
            "fan",
            [("a", step("a").takes(5).into()), ("b", step("b").takes(3).into())],
        );
        let cancelled = story([part(repeat("twice", fan).exits(Does::Exit(false)))])
            .cancel_after(after)
            .run(0);
        cancelled.sound();
    }
}

#[test]
fn a_state_machine_follows_its_transitions_to_an_end() {
    story([part(
        states(
            "flow",
            [
                ("draft", Some(step("write").adds(1).into())),
                ("review", Some(step("check").adds(10).into())),
                ("done", None),
            ],
        )
        .goes(calls([
            Does::Choose("review".into()),
            Does::Choose("draft".into()),
            Does::Choose("review".into()),
            Does::Choose("done".into()),
        ])),
    )])
    .run(0)
    .completed(22)
    .calls("write", 2)
    .calls("check", 2);
}

#[test]
fn a_failed_state_may_go_on_to_another_else_the_machine_fails_with_it() {
    let machine = || {
        states(
            "flow",
            [
                ("try", Some(step("try").always_fails().into())),
                ("repair", Some(step("repair").adds(1).into())),
            ],
        )
    };
    story([part(machine().goes(Does::Choose("repair".into())))])
        .run(4)
        .completed(5);
    story([part(machine())])
        .run(4)
        .failed(FailureKind::Agent)
        .calls("repair", 0);
    story([part(machine().goes(Does::Choose("nowhere".into())))])
        .run(4)
        .failed(FailureKind::UnknownBranch)
        .saying("the states are 'try', 'repair'");
}

#[test]
fn a_router_runs_the_branches_it_names_in_declared_order() {
    let routed = |names: Object| {
        parallel(
            "route",
            [
                ("c", step("c").adds(1).writes("c", 1).into()),
                ("a", step("a").adds(2).into()),
                ("b", step("b").adds(3).into()),
            ],
        )
        .routed_by(step("router").returns(names).uses(2))
    };
    story([part(routed(Object::from(["b", "c", "b"])))])
        .run(10)
        .completed([("c", 11), ("b", 13)])
        .calls("a", 0)
        .used(2);
    story([part(routed(Object::List(Vec::new())))])
        .run(10)
        .completed(Object::Record(Vec::new()));
    story([part(routed(Object::from(["a", "zebra"])))])
        .run(10)
        .failed(FailureKind::UnknownBranch)
        .saying("'zebra'")
        .calls("a", 0);
}

#[test]
fn a_question_stands_still_until_its_answer_and_time_with_it() {
    story([
        part(step("before").adds(1)),
        part(human("approve").answered(3_600_000, 7)),
        part(step("after").adds(1)),
    ])
    .deadline(1000)
    .run(0)
    .completed(8)
    .calls("before", 1);
}

#[test]
fn hooks_are_told_of_a_question_before_it_is_asked() {
    story([part(human("approve").answered(5, 7))])
        .hooks(Script::default())
        .run(0)
        .completed(7)
        .hooked([
            (HookPoint::PreRun, ""),
            (HookPoint::PreStep, "approve"),
            (HookPoint::PauseRequested, "approve"),
            (HookPoint::PostStep, "approve"),
            (HookPoint::PostRun, ""),
        ]);
}

#[test]
fn questions_in_branches_and_items_are_asked_at_once_and_finished_siblings_are_kept() {
    let told = story([part(parallel(
        "fan",
        [
            ("quick", step("quick").adds(1).into()),
            ("one", human("one").answered(50, 2).into()),
            (
                "two",
                [part(human("two").answered(20, 3)), part(step("then").adds(1))].into(),
            ),
        ],
    ))])
    .run(0)
    .completed([("quick", 1), ("one", 2), ("two", 4)])
    .calls("quick", 1);
    assert_eq!(told.ran.trace.replies, 2);
    story([part(map("each", human("ask").answered(5, 1)).at_once(3))])
        .run([1, 2, 3])
        .completed([1, 1, 1]);
}

#[test]
fn an_answer_that_is_not_accepted_leaves_the_question_open() {
    let told = story([part(
        human("approve")
            .answered(1, -1)
            .answered(1, 5)
            .accepts(calls([Does::Reject, Does::Natural])),
    )])
    .run(0)
    .completed(5);
    assert_eq!(told.ran.trace.replies, 2);
}

#[test]
fn without_an_answer_in_time_the_default_counts_or_the_step_fails() {
    story([part(
        human("approve")
            .unanswered(9)
            .default(Does::Return(Object::Int(0))),
    )])
    .run(3)
    .completed(0);
    story([part(human("approve").unanswered(9))])
        .run(3)
        .failed(FailureKind::Timeout)
        .saying("approve");
    // A default is checked as an answer is; the clock has no better one when it is refused.
    let fails = Does::Fail {
        permanent: false,
        retry_after: None,
    };
    for refusal in [fails, Does::Reject] {
        let question = human("approve")
            .unanswered(9)
            .accepts(refusal)
            .default(Does::Return(Object::Int(0)));
        story([part(question)])
            .run(3)
            .failed(FailureKind::Validator)
            .calls_of("approve", Role::Accept, 1);
    }
}

#[test]
fn a_failing_sibling_cancels_a_question_and_a_cancelled_run_asks_no_more() {
    let told = story([part(parallel(
        "fan",
        [
            ("ask", human("ask").answered(1_000_000, 1).into()),
            ("bad", step("bad").takes(5).always_fails().into()),
        ],
    ))])
    .run(0)
    .failed(FailureKind::Branch)
    .ended_at(5);
    assert_eq!(told.ran.trace.replies, 0);
    let told = story([part(human("ask").answered(1_000_000, 1)), part(step("after"))])
        .cancel_after(2)
        .run(0)
        .cancelled()
        .calls("after", 0);
    assert_eq!(told.ran.trace.replies, 0);
}

#[test]
fn a_question_survives_being_saved_at_any_command() {
    for after in 1..40 {
        story([part(parallel(
            "fan",
            [
                ("one", human("one").answered(5, 2).into()),
                (
                    "two",
                    [part(step("first").takes(3)), part(human("two").answered(1, 3))].into(),
                ),
            ],
        ))])
        .save_after([after])
        .run(0)
        .completed([("one", 2), ("two", 3)]);
    }
}

#[test]
fn a_handler_takes_over_when_retries_and_fallback_are_exhausted() {
    story([
        guarded(
            step("call")
                .always_fails()
                .retries(2)
                .fallback(step("other").always_fails()),
            step("handler"),
        ),
        part(step("after")),
    ])
    .run(0)
    .completed("call")
    .calls("call", 3)
    .calls("other", 1)
    .calls("handler", 1)
    .calls("after", 1);
    story([guarded(step("call").adds(1), step("handler"))])
        .run(0)
        .completed(1)
        .calls("handler", 0);
    story([guarded(
        step("call").always_fails(),
        step("handler").always_fails(),
    )])
    .run(0)
    .failed(FailureKind::Fallback)
    .saying("Original error");
}

#[test]
fn a_part_as_a_steps_work_is_retried_whole_and_leaves_no_trace_of_failed_attempts() {
    let body = || {
        [
            part(step("write").appends("log", "w").uses(1)),
            part(step("odd").fails(1).uses(1)),
        ]
    };
    let told = story([part(
        step("whole").body(body()).retries(2).validator(Does::Natural),
    )])
    .context([("log", Object::List(Vec::new()))])
    .run(4)
    .completed(4)
    .calls("write", 2)
    .calls("odd", 2)
    .used(4);
    assert_eq!(told.finish().context.get("log"), Some(&Object::from(["w"])));
    assert_eq!(told.record("whole").attempts, 2);
}

#[test]
fn a_time_limit_of_a_part_ends_the_attempt_and_the_next_one_begins() {
    let slow = Script {
        acts: vec![
            Act {
                takes: 50_000_000,
                ..Act::default()
            },
            Act::default(),
        ],
    };
    let mut inner = step("inner").adds(1);
    inner = inner.prompt(slow);
    story([part(step("whole").body([part(inner)]).retries(1).timeout(10))])
        .run(1)
        .completed(2)
        .calls("inner", 1);
}

#[test]
fn a_part_as_a_steps_work_has_validators_plugins_and_a_fallback() {
    story([part(
        step("whole")
            .body(parallel("fan", [("a", step("a").adds(1).into())]))
            .validator(Does::Reject)
            .fallback(step("other").returns(9)),
    )])
    .run(1)
    .completed(9)
    .calls("a", 1);
}

#[test]
fn constructs_nest_in_one_another() {
    let ask = || human("ask").answered(1, 1);
    let nested = repeat(
        "outer",
        map(
            "each",
            parallel(
                "fan",
                [
                    (
                        "x",
                        repeat("inner", step("add").adds(1)).exits(Does::ExitAt(3)).into(),
                    ),
                    ("y", guarded(step("bad").always_fails(), ask())),
                ],
            ),
        )
        .at_once(2)
        .items(Does::Items(vec![Object::Int(0), Object::Int(1)])),
    )
    .exits(calls([Does::Exit(false), Does::Exit(true)]));
    for seed in 0..20 {
        story([part(nested.clone())])
            .seed(seed)
            .run(0)
            .calls("bad", 4)
            .sound();
    }
}
