//! Constructs in one another: what each promises holds at any depth, for stops, questions, usage and contexts alike.

use flujo_core::machine::{ExitReason, FailureKind, HookPoint, Role, Status};
use flujo_simulation::story::{
    Told, calls, conditional, fail, group, guarded, human, map, parallel, part, repeat, states, step, story,
};
use flujo_simulation::{Does, Object, Script, Spec};

fn twice() -> Script {
    calls([Does::Exit(false), Does::Exit(true)])
}

fn reason(told: &Told, name: &str) -> Option<ExitReason> {
    let details = told.record(name).details.as_deref();
    details.and_then(|details| Some(details.loop_end?.reason))
}

fn list() -> [(&'static str, Object); 1] {
    [("log", Object::List(Vec::new()))]
}

// --- P34: data flow

#[test]
fn p34_a_loop_that_adds_one_five_times_gives_five() {
    story([part(
        repeat("count", step("add").adds(1))
            .exits(Does::ExitAt(5))
            .at_most(9),
    )])
    .run(0)
    .completed(5)
    .calls("add", 5);
}

#[test]
fn p34_a_step_after_three_branches_is_given_all_three_by_name() {
    let fan = parallel(
        "fan",
        [
            ("x", step("x").takes(3).adds(1).into()),
            ("y", step("y").takes(1).adds(2).into()),
            ("z", step("z").takes(2).adds(3).into()),
        ],
    );
    story([part(fan), part(step("after"))])
        .run(0)
        .completed([("x", 1), ("y", 2), ("z", 3)])
        .calls("after", 1);
}

#[test]
fn p34_a_router_in_a_loop_that_chooses_one_branch_four_times_runs_it_four_times() {
    let routed = parallel(
        "route",
        [
            ("a", step("a").appends("log", "a").into()),
            ("b", step("b").into()),
        ],
    )
    .routed_by(step("router").returns(Object::from(["a"])).uses(1));
    story([part(
        repeat("again", routed)
            .exits(calls([
                Does::Exit(false),
                Does::Exit(false),
                Does::Exit(false),
                Does::Exit(true),
            ]))
            .maps_next(Does::Return(Object::Int(0))),
    )])
    .context(list())
    .run(0)
    .completed([("a", 0)])
    .calls("router", 4)
    .calls("a", 4)
    .calls("b", 0)
    .used(4)
    .context("log", ["a", "a", "a", "a"]);
}

#[test]
fn p34_a_loop_that_never_has_done_says_so_and_keeps_its_last_output_and_context() {
    let told = story([part(
        repeat("count", step("add").adds(1).appends("log", 1))
            .exits(Does::Exit(false))
            .at_most(3),
    )])
    .context(list())
    .run(0)
    .failed(FailureKind::LoopLimit)
    .calls("add", 3)
    .context("log", [1, 1, 1]);
    assert_eq!(reason(&told, "count"), Some(ExitReason::MaxLoops));
    assert_eq!(told.record("count").output, Some(Object::Int(3)));
}

// --- P36: joins

#[test]
fn p36_a_join_in_a_loop_runs_once_in_each_iteration_and_has_every_part() {
    for items in [0, 1, 50] {
        for (fast, slow) in [(1, 9), (9, 1)] {
            let each = map("each", step("item").takes(fast).uses(1))
                .at_once(4)
                .items(Does::Items((0..items).map(Object::Int).collect()));
            let fan = parallel(
                "fan",
                [
                    ("many", [part(each), part(step("sum").returns(items))].into()),
                    ("one", step("one").takes(slow).uses(1).into()),
                ],
            );
            let times = usize::try_from(items).unwrap_or(0);
            story([part(
                repeat("twice", [part(fan), part(step("join"))])
                    .exits(twice())
                    .maps_next(Does::Return(Object::Int(0))),
            )])
            .run(0)
            .completed([("many", items), ("one", 0)])
            .calls("join", 2)
            .calls("sum", 2)
            .calls("item", times * 2)
            .used(times as u64 * 2 + 2);
        }
    }
}

// --- P39: back pressure

#[test]
fn p39_a_lazy_collection_in_a_loop_is_read_no_further_than_there_is_room_for() {
    let each = map("each", step("item").takes(10))
        .at_once(2)
        .items(Does::Cursor(100_000));
    let endless = repeat("loop", each).exits(Does::Exit(false)).deadline(35);
    let told = story([part(endless)]).run(0).failed(FailureKind::LoopBody);
    let read = told.ran.trace.calls.iter();
    let read = read.filter(|call| call.role == Role::NextItem).count();
    assert!((8..=9).contains(&read), "{read} items are read of which 8 fit");
}

// --- P18: what takes no copy and no writes

#[test]
fn p18_what_takes_no_writes_passes_through_every_construct_and_a_write_to_it_is_named() {
    let through = |inner: Spec| {
        repeat(
            "loop",
            step("whole").body(parallel("fan", [("a", group("group", inner).isolated().into())])),
        )
        .goes_on()
        .at_most(2)
    };
    let sealed = [("sealed", Object::from("lock"))];
    story([part(through(step("reads").into()))])
        .context(sealed.clone())
        .run(1)
        .completed([("a", 1)])
        .context("sealed", "lock");
    let told = story([part(through(step("writes").writes("sealed", "broken").into()))])
        .context(sealed)
        .run(1)
        .failed(FailureKind::LoopLimit)
        .saying("field `sealed` takes no writes")
        .context("sealed", "lock");
    assert_eq!(told.record("loop").attempts, 2);
}

// --- P29: merging

#[test]
fn p29_what_was_there_before_is_not_doubled_however_deep_branches_nest_and_loop() {
    let mut whole = Spec::from(step("innermost").appends("history", "deep"));
    for level in 0..10 {
        let fan = parallel("fan", [("inner", whole)]);
        whole = match level % 3 {
            0 => fan.into(),
            1 => step("whole").body(fan).into(),
            _ => repeat("once", fan).goes_on().into(),
        };
    }
    let fan = parallel(
        "outer",
        [
            (
                "a",
                repeat("twice", step("a").takes(9).appends("history", "a"))
                    .exits(twice())
                    .into(),
            ),
            ("b", step("b").appends("history", "b").into()),
        ],
    );
    story([part(fan), whole])
        .context([("history", Object::from(["q"]))])
        .run(0)
        .context("history", ["q", "a", "a", "b", "deep"])
        .sound();
}

// --- P01: questions in loops

/// Runs a body with steps `a` and `b` twice, saved at different places.
fn asked_twice(body: &Spec, questions: usize) {
    for saved in 0..30 {
        let told = story([part(repeat("loop", body.clone()).exits(twice()))])
            .context(list())
            .save_after([saved])
            .run(0)
            .calls("a", 2)
            .calls("b", 2)
            .context("log", ["a", "b", "a", "b"])
            .status("loop", Status::Succeeded)
            .attempts("loop", 2)
            .sound();
        assert_eq!(told.ran.trace.pauses.len(), questions);
        let fields: Vec<&str> = told.finish().context.fields().map(|(field, _)| field).collect();
        assert_eq!(fields, ["log"], "nothing of the questions stays in the context");
    }
}

#[test]
fn p01_a_question_at_any_place_of_a_loops_body_runs_no_step_again() {
    let a = || part(step("a").appends("log", "a"));
    let b = || part(step("b").appends("log", "b"));
    let ask = |name: &str| part(human(name).answered(3_600_000, 1));
    asked_twice(&[a(), ask("between"), b()].into(), 2);
    asked_twice(&[ask("first"), a(), b()].into(), 2);
    asked_twice(&[a(), b(), ask("last")].into(), 2);
    asked_twice(&[ask("first"), a(), ask("between"), b()].into(), 4);
    let inside = conditional("choice", [("yes", ask("inside"))]);
    asked_twice(&[a(), part(inside), b()].into(), 2);
}

#[test]
fn p01_the_exit_condition_sees_the_newest_answer() {
    let body = [part(step("a")), part(human("ask").answered(1, 7))];
    story([part(repeat("loop", body).exits(Does::ExitAt(7)))])
        .run(0)
        .completed(7)
        .calls("a", 1);
}

#[test]
fn a_question_in_a_loop_in_a_branch_in_a_map_is_asked_for_each_item_and_iteration() {
    let ask = repeat(
        "loop",
        [part(step("before").uses(1)), part(human("ask").answered(5, 4))],
    )
    .exits(twice());
    let fan = parallel(
        "fan",
        [("ask", ask.into()), ("other", step("other").takes(2).into())],
    );
    for seed in 0..10 {
        let told = story([part(map("each", fan.clone()).at_once(2))])
            .seed(seed)
            .save_after([20, 40])
            .run([1, 2, 3])
            .calls("before", 6)
            .calls("other", 3)
            .used(6)
            .lanes("each", "ccc");
        assert_eq!(told.ran.trace.pauses.len(), 6);
    }
}

#[test]
fn an_expired_question_in_a_loop_takes_the_default_in_each_iteration_and_accept_checks_it() {
    let ask = human("ask")
        .unanswered(5)
        .default(Does::Return(Object::Int(2)))
        .accepts(Does::Add(1));
    story([part(repeat("loop", ask).exits(twice()))])
        .run(0)
        .completed(3)
        .calls_of("ask", Role::DefaultAnswer, 2)
        .calls_of("ask", Role::Accept, 2);
}

#[test]
fn an_answer_that_is_not_accepted_writes_nothing() {
    let mut accept = calls([Does::Reject, Does::Natural]);
    for act in &mut accept.acts {
        act.writes
            .push(("log".to_owned(), flujo_simulation::Write::Append(Object::Int(1))));
    }
    story([part(human("ask").answered(1, -1).answered(1, 5).accepts(accept))])
        .context(list())
        .run(0)
        .completed(5)
        .context("log", [1]);
}

// --- P02: what is no failure is not treated as one

#[test]
fn p02_a_stop_inside_a_steps_work_is_neither_retried_nor_passed_over_nor_handled() {
    let wrapped = |inner: Spec| {
        guarded(
            repeat(
                "loop",
                step("whole").body(inner).retries(3).fallback(step("fallback")),
            )
            .goes_on(),
            step("handler"),
        )
    };
    let unhandled = |told: Told| {
        told.calls("fallback", 0)
            .calls("handler", 0)
            .attempts("whole", 1)
            .attempts("loop", 1)
    };
    let abort = story([wrapped(step("stop").does(Does::Abort).into())]);
    unhandled(abort.run(1).aborted().status("loop", Status::Cancelled));
    let fatal = story([wrapped(step("stop").does(Does::Fatal).into())]);
    unhandled(fatal.run(1).fatal().status("loop", Status::Failed));
    let limit = story([wrapped(step("stop").uses(5).into())]).token_limit(3);
    let told = limit.run(1).limit_exceeded(false);
    unhandled(told.status("loop", Status::LimitExceeded).used(5));
    let asks = story([wrapped(human("stop").answered(9, 4).into())]);
    unhandled(asks.run(1).completed(4));
}

#[test]
fn a_limit_reached_in_a_loop_keeps_the_iterations_that_were_paid_for() {
    let told = story([part(
        repeat("loop", step("call").adds(1).uses(4).appends("log", 1))
            .exits(Does::Exit(false))
            .at_most(9),
    )])
    .context(list())
    .token_limit(10)
    .run(0)
    .limit_exceeded(false)
    .used(12)
    .context("log", [1, 1])
    .attempts("loop", 3);
    let records = &told.finish().history.records;
    let outputs: Vec<_> = records[1..].iter().map(|record| record.output.clone()).collect();
    assert_eq!(
        outputs,
        [1, 2, 3].map(|output| Some(Object::Int(output))),
        "{records:?}"
    );
}

#[test]
fn p10_what_runs_twice_in_a_loop_uses_exactly_twice_as_much() {
    let body = || {
        parallel(
            "fan",
            [
                ("a", step("a").uses(3).fails(1).retries(1).into()),
                ("b", step("b").uses(4).into()),
            ],
        )
    };
    story([part(repeat("once", body()))]).run(0).used(10);
    let always = || {
        parallel(
            "fan",
            [("a", step("a").uses(3).into()), ("b", step("b").uses(4).into())],
        )
    };
    story([part(repeat("once", always()))]).run(0).used(7);
    story([part(repeat("twice", always()).exits(twice()))])
        .run(0)
        .used(14);
}

#[test]
fn p37_a_retry_timer_of_an_attempt_that_was_ended_does_nothing_in_the_next_one() {
    let inner = step("inner").fails(1).retries(1).backoff(50);
    let told = story([part(
        repeat("loop", step("whole").body(inner).retries(1).timeout(20)).exits(twice()),
    )])
    .run(1)
    .completed(1)
    .calls("inner", 3);
    assert_eq!(told.record("whole").attempts, 2);
}

// --- every stage of every construct

/// All constructs, with everything that can be asked of them.
fn everything() -> Spec {
    let fan = parallel(
        "route",
        [
            ("a", step("left").takes(2).uses(1).into()),
            (
                "b",
                [
                    part(human("ask").answered(3, 2).accepts(Does::Natural)),
                    part(step("right")),
                ]
                .into(),
            ),
        ],
    )
    .routed_by(step("router").takes(1).returns(Object::from(["a", "b"])));
    let machine = states(
        "flow",
        [
            ("try", Some(step("try").always_fails().into())),
            ("repair", Some(fan.into())),
            ("done", None),
        ],
    )
    .goes(calls([
        Does::Choose("repair".into()),
        Does::Natural,
        Does::Choose("repair".into()),
        Does::Natural,
    ]));
    let looped = repeat(
        "loop",
        step("whole")
            .takes(1)
            .body(machine)
            .retries(1)
            .validator(Does::Natural),
    )
    .judged_by(step("judge").takes(1))
    .maps_first(Does::Natural)
    .maps_next(Does::Natural)
    .maps_output(Does::Natural)
    .exits(twice());
    let each = map("each", looped)
        .at_once(2)
        .items(Does::Items(vec![1.into(), 2.into()]));
    [
        guarded(step("bad").always_fails(), step("handler")),
        part(each),
        part(human("last").unanswered(2).default(Does::Return(0.into()))),
    ]
    .into()
}

#[test]
fn a_run_is_cancelled_in_every_stage_of_every_construct_and_leaves_nothing_behind() {
    let whole = story(everything()).run(1).completed(0);
    let commands = u32::try_from(whole.ran.trace.commands).unwrap_or(u32::MAX);
    assert!(commands > 150, "{commands} commands");
    for hooks in [false, true] {
        let mut cancelled = 0;
        for after in 1..commands {
            let mut told = story(everything()).cancel_after(after);
            told.0.hooks = hooks;
            let told = told.run(1).sound();
            cancelled += u32::from(told.ran.trace.cancelled_at.is_some());
        }
        assert!(cancelled + 5 > commands, "{cancelled} of {commands}");
    }
}

#[test]
fn a_limit_stops_every_stage_of_every_construct_and_keeps_the_books() {
    for limit in 0..8 {
        story(everything()).token_limit(limit).run(1).sound();
    }
}

#[test]
fn a_run_is_saved_in_every_stage_of_every_construct_and_goes_on_as_if_nothing_had_been() {
    let whole = story(everything()).run(1);
    for after in 1..u32::try_from(whole.ran.trace.commands).unwrap_or(u32::MAX) {
        let saved = story(everything()).save_after([after]).run(1);
        assert_eq!(whole.ran.text(), saved.ran.text(), "saved after {after}");
    }
}

#[test]
fn a_deadline_ends_every_stage_of_every_construct_and_nothing_begins_after_it() {
    for deadline in 1..20 {
        story(everything()).deadline(deadline).run(1).sound();
    }
}

// --- hooks and histories

#[test]
fn hooks_are_told_of_steps_and_not_of_a_guard_that_has_no_record() {
    let told = story([guarded(step("bad").always_fails(), step("handler"))])
        .hooks(Does::Natural)
        .run(0);
    told.hooked([
        (HookPoint::PreRun, ""),
        (HookPoint::PreStep, "bad"),
        (HookPoint::OnStepFailure, "bad"),
        (HookPoint::PreStep, "handler"),
        (HookPoint::PostStep, "handler"),
        (HookPoint::PostRun, ""),
    ])
    .completed("bad");
}

#[test]
fn an_iteration_whose_judge_fails_is_a_failed_one_and_the_loop_goes_on_from_the_last_good_output() {
    let body = step("add").adds(1).appends("log", 1);
    let judge = step("judge").does(Does::FailOdd);
    let told = story([part(
        repeat("loop", body.clone())
            .judged_by(judge.clone())
            .goes_on()
            .exits(Does::Exit(false))
            .at_most(3),
    )])
    .context(list())
    .run(1)
    .failed(FailureKind::LoopLimit)
    // 1 → 2 is good, 2 → 3 is not, and so 2 → 3 again.
    .context("log", [1]);
    assert_eq!(told.record("loop").output, Some(Object::Int(2)));
    let told = story([part(repeat("loop", body).judged_by(judge))])
        .context(list())
        .run(0)
        .failed(FailureKind::LoopBody);
    assert_eq!(told.record("loop").output, Some(Object::Int(1)));
}

#[test]
fn a_handler_of_a_handler_and_a_guard_in_a_steps_work_take_over_in_turn() {
    story([guarded(
        guarded(step("one").always_fails(), step("two").always_fails()),
        step("three"),
    )])
    .run(0)
    .completed("one")
    .calls("two", 1)
    .calls("three", 1);
    story([part(
        step("whole")
            .body(guarded(step("one").always_fails(), step("two").always_fails()))
            .retries(1)
            .fallback(step("three")),
    )])
    .run(0)
    .completed(0)
    .calls("one", 2)
    .calls("two", 2);
    story([guarded(step("one").always_fails(), step("two"))])
        .hooks(fail())
        .run(0)
        .completed("one");
}
