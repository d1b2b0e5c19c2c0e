//! Cancel, abort and limits, from outside and from inside, with hooks; and what a saved run keeps.

use flujo_core::machine::{FailureKind, HookPoint, Status};
use flujo_simulation::story::{calls, group, map, parallel, part, repeat, step, story};
use flujo_simulation::{Act, Does, Object, OnCancel, Script, Spec};

#[test]
fn a_run_cancelled_at_a_step_in_backoff_or_in_nested_lanes_keeps_its_history_and_retries_nothing() {
    story([
        part(step("a").uses(3)),
        part(step("b").takes(50).retries(5).fallback(step("c"))),
    ])
    .cancel_after(7)
    .run(1)
    .cancelled()
    .history(["a", "b"])
    .status("a", Status::Succeeded)
    .status("b", Status::Cancelled)
    .calls("b", 1)
    .calls("c", 0)
    .used(3);
    story(step("a").always_fails().retries(5).backoff(50))
        .cancel_after(5)
        .run(1)
        .cancelled()
        .calls("a", 1)
        .ended_at(0);
    let nested = parallel(
        "q",
        [("x", part(step("c").takes(90))), ("y", part(step("d").takes(90)))],
    );
    story(parallel(
        "p",
        [("a", part(nested)), ("b", part(step("b").takes(90)))],
    ))
    .cancel_after(15)
    .run(1)
    .cancelled()
    .lanes("p", "ss")
    .lanes("q", "ss")
    .ended_at(0);
}

#[test]
fn a_cancelled_call_is_awaited_and_what_it_says_in_the_end_counts() {
    story(step("a").takes(50).uses(4).on_cancel(OnCancel::Ignore))
        .cancel_after(3)
        .run(1)
        .cancelled()
        .ended_at(50)
        .used(4);
}

#[test]
fn hooks_are_told_of_the_run_and_every_step_and_waited_for() {
    story([part(step("a")), part(group("g", step("b").always_fails()))])
        .hooks(Script::default())
        .run(1)
        .hooked([
            (HookPoint::PreRun, ""),
            (HookPoint::PreStep, "a"),
            (HookPoint::PostStep, "a"),
            (HookPoint::PreStep, "g"),
            (HookPoint::PreStep, "b"),
            (HookPoint::OnStepFailure, "b"),
            (HookPoint::OnStepFailure, "g"),
            (HookPoint::PostRun, ""),
        ]);
    let slow = Script::always(Act {
        takes: 5_000_000,
        ..Act::default()
    });
    story(step("a")).hooks(slow).run(1).completed(1).ended_at(20);
}

#[test]
fn a_hook_may_abort_the_run_at_any_point_and_the_last_hook_is_told_once() {
    for point in 0..6 {
        let mut acts = vec![Act::default(); point];
        acts.push(Act {
            does: Does::Abort,
            ..Act::default()
        });
        acts.push(Act::default());
        let told = story([step("a"), step("b")])
            .hooks(Script { acts })
            .run(1)
            .aborted();
        let ends = told
            .ran
            .trace
            .calls
            .iter()
            .filter(|call| call.role == flujo_core::machine::Role::Hook(HookPoint::PostRun));
        assert_eq!(ends.count(), 1);
        let done = told
            .finish()
            .history
            .records
            .iter()
            .filter(|record| record.status == Status::Succeeded);
        assert_eq!(done.count(), [0, 0, 1, 1, 2, 2][point]);
    }
}

#[test]
fn a_failing_hook_does_not_fail_the_run() {
    story(step("a"))
        .hooks(calls([Does::Fail {
            permanent: true,
            retry_after: None,
        }]))
        .run(1)
        .completed(1);
}

#[test]
fn a_call_that_does_not_fit_is_refused_before_it_starts() {
    story([
        step("a").uses(4).expects(5),
        step("b").uses(4).expects(5),
        step("c").uses(4).expects(5),
    ])
    .token_limit(10)
    .run(1)
    .limit_exceeded(true)
    .history(["a", "b", "c"])
    .status("c", Status::LimitExceeded)
    .calls("c", 0)
    .used(8);
}

#[test]
fn exactly_at_the_limit_is_allowed_and_past_it_ends_the_run_with_the_output_kept() {
    story([step("a").uses(5), step("b").uses(5)])
        .token_limit(10)
        .run(1)
        .completed(1)
        .used(10);
    let told = story([step("a").uses(6), step("b").uses(6).adds(1).retries(3), step("c")])
        .token_limit(10)
        .run(1)
        .limit_exceeded(false)
        .used(12)
        .calls("b", 1)
        .calls("c", 0);
    assert_eq!(told.record("b").output, Some(Object::Int(2)));
}

#[test]
fn branches_share_one_budget_and_never_reserve_past_the_limit() {
    for seed in 0..30 {
        let branch = |name: &'static str| (name, part(step(name).takes(5).uses(2).expects(4)));
        let told = story(parallel(
            "p",
            [branch("a"), branch("b"), branch("c"), branch("d")],
        ))
        .token_limit(10)
        .seed(seed)
        .run(1)
        .limit_exceeded(true);
        assert!(told.ran.budget.peak.tokens <= 10);
        assert!(told.ran.budget.reserved().is_zero());
    }
}

#[test]
fn usage_of_failed_attempts_counts_against_the_limit() {
    story(step("a").always_fails().retries(9).uses(4))
        .token_limit(10)
        .run(1)
        .limit_exceeded(false)
        .calls("a", 3)
        .used(12);
}

#[test]
fn a_reservation_is_given_back_when_its_run_is_cancelled_at_any_command() {
    for after in 1..14 {
        let told = story(parallel(
            "p",
            [
                ("a", part(step("a").takes(5).expects(4))),
                ("b", part(step("b").takes(9).expects(4))),
            ],
        ))
        .token_limit(10)
        .cancel_after(after)
        .run(1)
        .cancelled();
        assert!(told.ran.budget.reserved().is_zero());
    }
}

#[test]
fn a_story_that_is_saved_at_every_command_ends_like_the_unbroken_one() {
    let tale = || {
        let items = map("m", step("item").takes(3).fails(1).retries(1).backoff(2).uses(1)).at_once(2);
        story([
            part(items),
            part(group("g", step("g1").appends("log", 1)).isolated()),
            part(step("late").takes(30).timeout(10).fallback(step("f"))),
        ])
        .hooks(Script::default())
        .token_limit(100)
    };
    let unbroken = tale().run([1, 2, 3]).completed([1, 2, 3]);
    let saved = tale().save_after(1..500).run([1, 2, 3]).completed([1, 2, 3]);
    assert!(saved.ran.trace.saves > 20);
    assert_eq!(saved.ran.text(), unbroken.ran.text());
}

#[test]
fn a_step_without_a_price_is_refused_before_its_first_call_where_cost_is_limited() {
    let unpriced = || step("a").unpriced().retries(3).fallback(step("b"));
    let told = story([part(step("before").uses(2)), part(unpriced())])
        .cost_limit()
        .run(1)
        .fatal()
        .saying("step `a` uses a model without a price, but cost is limited to $0")
        .calls("a", 0)
        .calls("b", 0)
        .used(2);
    assert_eq!(told.failure().kind, FailureKind::Pricing);
    assert_eq!(told.record("a").status, Status::Failed);
    story(unpriced().own_cost_limit()).run(1).fatal().calls("a", 0);
    story(parallel(
        "p",
        [("x", part(unpriced())), ("y", part(step("c").takes(9)))],
    ))
    .cost_limit()
    .run(1)
    .fatal()
    .calls("a", 0)
    .ended_at(0);
}

#[test]
fn a_call_that_turns_out_to_have_no_price_ends_the_run_where_cost_is_limited() {
    let late = || step("a").uses_unpriced().uses(5).retries(3);
    story(late()).cost_limit().run(1).fatal().calls("a", 1);
    story(late().always_fails())
        .cost_limit()
        .run(1)
        .fatal()
        .calls("a", 1);
    story(late().own_cost_limit()).run(1).fatal().calls("a", 1);
}

#[test]
fn without_a_limit_on_cost_a_step_without_a_price_goes_on_and_its_record_says_so() {
    let told = story([step("a").unpriced().uses(5), step("b")])
        .token_limit(10)
        .run(1)
        .completed(1);
    assert!(told.record("a").usage.unpriced);
    assert!(!told.record("b").usage.unpriced);
}

#[test]
fn a_limit_of_a_step_holds_inside_the_part_that_does_its_work() {
    let limited = |body: Spec| step("limited").body(body).own_token_limit(10);
    let turns = repeat("turns", step("call").uses(4))
        .exits(Does::Exit(false))
        .at_most(100);
    let told = story([part(limited(turns.into())), part(step("after"))])
        .run(1)
        .limit_exceeded(false)
        .calls("call", 3)
        .calls("after", 0)
        .used(12);
    assert_eq!(told.record("limited").status, Status::LimitExceeded);
    let items = map("items", step("call").uses(4)).at_once(1);
    story(limited(items.into()))
        .run([1, 2, 3, 4, 5, 6])
        .limit_exceeded(false)
        .calls("call", 3)
        .used(12);
    // Within a lane the limit of the step around it counts what lanes had used that have ended.
    let branches = parallel(
        "fan",
        [
            ("a", step("call").uses(11).into()),
            ("b", step("long").takes(9).into()),
        ],
    );
    story(limited(branches.into()))
        .run(1)
        .limit_exceeded(false)
        .used(11)
        .ended_at(0);
    let inner = step("inner").body(step("call").uses(4)).own_token_limit(100);
    story(limited([part(inner), part(step("more").uses(7))].into()))
        .run(1)
        .limit_exceeded(false)
        .status("inner", Status::Succeeded)
        .used(11);
    // What was used before the step, and what a step without a limit uses after it, is none of the limit's business.
    story([
        part(step("before").uses(50)),
        part(limited(step("call").uses(10).into())),
        part(step("after").uses(50)),
    ])
    .run(1)
    .completed(1)
    .used(110);
}

#[test]
fn a_limit_of_a_step_counts_all_attempts_of_its_body_and_ends_with_it() {
    let tries = step("limited")
        .body(step("call").uses(4).always_fails())
        .retries(9)
        .own_token_limit(10);
    story([part(tries)])
        .run(1)
        .limit_exceeded(false)
        .calls("call", 3)
        .used(12);
    let fails = step("limited")
        .body(step("call").uses(4).always_fails())
        .own_token_limit(10);
    let fails = fails.fallback(step("instead").uses(50));
    story([part(fails.clone())]).run(1).completed(1).used(54);
    let around = step("around").body(fails);
    story(around.clone().own_token_limit(60))
        .run(1)
        .completed(1)
        .used(54);
    story(around.own_token_limit(50))
        .run(1)
        .limit_exceeded(false)
        .used(54);
}

#[test]
fn a_step_without_a_price_is_refused_inside_a_body_whose_cost_is_limited() {
    let body = [part(step("free").uses(3)), part(step("unpriced").unpriced())];
    story(step("limited").body(body).own_cost_limit())
        .run(1)
        .fatal()
        .saying("step `limited` uses a model without a price, but cost is limited to $0")
        .calls("free", 1)
        .calls("unpriced", 0)
        .used(3);
}
