//! Rate limits: calls wait for their turn, fairly, and what stops the run ends the waiting.

use std::collections::BTreeSet;

use flujo_core::machine::{FailureKind, Role, Status};
use flujo_core::rate::RateLimit;
use flujo_simulation::differential::{self, Constructs};
use flujo_simulation::story::{calls, map, parallel, part, repeat, step, story};
use flujo_simulation::{Does, Object, Spec, Ties};

const MINUTE: u64 = 60_000;

fn a_minute(requests: u32) -> RateLimit {
    RateLimit::new("model").requests_per_minute(requests)
}

fn items(count: i64) -> Object {
    Object::List((0..count).map(Object::Int).collect())
}

#[test]
fn calls_over_the_rate_wait_for_their_minute_and_the_others_do_not() {
    story([
        part(step("a").rate(a_minute(1))),
        part(step("b")),
        part(step("c").rate(a_minute(1))),
    ])
    .run(1)
    .completed(1)
    .ended_at(MINUTE);
    let all = story([step("a"), step("b"), step("c")]).rate(a_minute(2));
    all.run(1).completed(1).ended_at(MINUTE);
}

#[test]
fn branches_loops_and_retries_share_a_limit_by_its_name() {
    let branch = |name| part(step(name).rate(a_minute(3)));
    story(parallel("p", [("x", branch("a")), ("y", branch("b"))]))
        .run(1)
        .lanes("p", "cc")
        .ended_at(0);
    let body = repeat("l", step("a").rate(a_minute(3)))
        .at_most(4)
        .exits(Does::ExitAt(4));
    let told = story(body).run(1);
    assert_eq!(told.ran.ended, MINUTE * 1_000_000);
    story(step("a").fails(4).retries(4).rate(a_minute(2)))
        .run(1)
        .completed(1)
        .attempts("a", 5)
        .ended_at(2 * MINUTE);
}

#[test]
fn so_many_items_of_a_map_are_worked_on_at_once() {
    let limit = RateLimit::new("model").max_concurrent(2);
    let told = story(map("m", step("a").takes(10).rate(limit)).at_once(6)).run(items(6));
    let told = told.lanes("m", "cccccc").ended_at(30);
    let agents = told
        .ran
        .trace
        .calls
        .iter()
        .filter(|call| call.role == Role::Agent);
    let begun: Vec<_> = agents.map(|call| call.started / 1_000_000).collect();
    assert_eq!(begun, [0, 0, 10, 10, 20, 20]);
}

#[test]
fn waiting_counts_against_the_deadline_and_not_against_the_time_limit_of_an_attempt() {
    let slow = |name| step(name).takes(50).timeout(60).rate(a_minute(1));
    story([slow("a"), slow("b")])
        .run(1)
        .completed(1)
        .ended_at(MINUTE + 100);
    // What was left of the time limit when the waiting began is left when it ends.
    story([slow("a"), step("b").takes(70).timeout(60).rate(a_minute(1))])
        .run(1)
        .failed(FailureKind::Timeout)
        .ended_at(MINUTE + 110);
    story([part(slow("a")), part(slow("b").deadline(100))])
        .run(1)
        .failed(FailureKind::Deadline)
        .calls("b", 0)
        .ended_at(150);
    story([slow("a"), slow("b")])
        .deadline(200)
        .run(1)
        .failed(FailureKind::Deadline)
        .calls("b", 0)
        .ended_at(200);
}

#[test]
fn a_server_that_says_wait_holds_everybody_and_what_others_have_is_kept() {
    let limit = || RateLimit::new("model").max_concurrent(2);
    let told = story(parallel(
        "p",
        [
            (
                "x",
                part(
                    step("a")
                        .fails(1)
                        .asks_to_wait(500)
                        .takes(10)
                        .retries(1)
                        .rate(limit()),
                ),
            ),
            ("y", part(step("b").takes(100).rate(limit()))),
            ("z", part(step("c").takes(10).rate(limit()))),
        ],
    ))
    .run(1)
    .lanes("p", "ccc")
    .attempts("a", 2)
    .attempts("b", 1);
    // The third branch begins with the second attempt of the first, although there was room for it long before.
    assert_eq!(told.ran.ended, 520 * 1_000_000);
}

/// Whoever is let through goes on before those behind it or after them, as on hosts: no case that tells which says anything
/// about a host.
#[test]
fn a_call_that_takes_no_time_may_hold_those_who_are_let_through_at_that_very_instant() {
    let limit = || RateLimit::new("model").max_concurrent(9);
    let waits = |milliseconds, then: Spec| part([part(step("w").takes(milliseconds)), then]);
    let refused = || step("a").fails(1).asks_to_wait(500).rate(limit());
    let run = |seed, ties| {
        let branches = [
            ("x", part(refused())),
            ("y", waits(10, part(refused()))),
            ("z", waits(20, part(step("c").rate(limit())))),
        ];
        let told = story(parallel("p", branches).ignores_failures())
            .seed(seed)
            .ties(ties)
            .run(1)
            .lanes("p", "ffc");
        told.ran.ended / 1_000_000
    };
    let ended = |ties| (0..40).map(|seed| run(seed, ties)).collect::<BTreeSet<_>>();
    assert_eq!(ended(Ties::Drawn), BTreeSet::from([500, 1_000]));
    assert_eq!(ended(Ties::LaneGoesOn), BTreeSet::from([1_000]));
}

#[test]
fn a_cancelled_run_leaves_the_line_and_a_failing_branch_takes_its_siblings_out_of_it() {
    let limit = || RateLimit::new("model").max_concurrent(1);
    let waiting = || {
        parallel(
            "p",
            [
                ("x", part(step("a").takes(90).rate(limit()))),
                ("y", part(step("b").takes(90).rate(limit()))),
            ],
        )
    };
    story(waiting())
        .cancel_after(9)
        .run(1)
        .cancelled()
        .calls("b", 0)
        .lanes("p", "ss");
    story(parallel(
        "q",
        [
            ("w", part(waiting())),
            ("v", part(step("c").takes(10).always_fails())),
        ],
    ))
    .run(1)
    .failed(FailureKind::Branch)
    .calls("b", 0)
    .status("a", Status::Cancelled)
    .status("b", Status::Cancelled)
    .ended_at(10);
}

#[test]
fn what_is_reserved_for_a_call_that_waits_is_given_back_when_it_is_never_made() {
    let told = story([
        part(step("a").expects(4).uses(4).rate(a_minute(1))),
        part(step("b").expects(5).uses(5).deadline(100).rate(a_minute(1))),
    ])
    .token_limit(10)
    .run(1)
    .failed(FailureKind::Deadline)
    .used(4);
    assert!(told.ran.budget.reserved().is_zero());
}

#[test]
fn a_run_that_is_saved_while_calls_wait_goes_on_waiting() {
    for after in 0..40 {
        let body = step("a")
            .takes(10)
            .timeout(20)
            .rate(a_minute(2).max_concurrent(1));
        story(map("m", body).at_once(3))
            .save_after([after])
            .run(items(3))
            .lanes("m", "ccc")
            .sound();
    }
}

#[test]
fn tokens_are_counted_as_expected_and_then_as_used() {
    let limit = || RateLimit::new("model").tokens_per_minute(100);
    let call = |name: &str, expects, uses| part(step(name).expects(expects).uses(uses).rate(limit()));
    story([call("a", 80, 40), call("b", 60, 60), call("c", 1, 1)])
        .run(1)
        .completed(1)
        .used(101)
        .ended_at(MINUTE);
}

#[test]
fn an_agent_that_a_plugin_asks_for_has_its_own_limit_beside_those_of_the_step_and_the_run() {
    let asks = |name| step(name).plugin(calls([Does::Redirect(7), Does::Natural]));
    story([asks("a"), asks("b")])
        .agent_rate(7, a_minute(1))
        .run(1)
        .calls_of("a", Role::Redirect, 1)
        .calls_of("b", Role::Redirect, 1)
        .ended_at(MINUTE);
    // The step's agent and the other one are two calls by the step's limit and by the run's.
    story(asks("a").rate(a_minute(1))).run(1).ended_at(MINUTE);
    story(asks("a")).rate(a_minute(1)).run(1).ended_at(MINUTE);
    // Another agent's limit is its own.
    story([asks("a"), asks("b")])
        .agent_rate(8, a_minute(1))
        .run(1)
        .ended_at(0);
}

#[test]
fn what_waits_for_an_agent_that_a_plugin_asked_for_can_be_saved() {
    let asks = |name| step(name).plugin(calls([Does::Redirect(7), Does::Natural]));
    for command in 0..40 {
        story([asks("a"), asks("b")])
            .agent_rate(7, a_minute(1))
            .save_after([command])
            .run(1)
            .calls_of("a", Role::Redirect, 1)
            .calls_of("b", Role::Redirect, 1)
            .ended_at(MINUTE);
    }
}

/// Random cases are only worth as much as what their limits bring about.
#[test]
fn limits_that_are_drawn_for_random_pipelines_change_what_becomes_of_many() {
    let (mut changed, mut redirected) = (0, 0);
    for index in 0..1_500 {
        let Some(with) = differential::expectation(1, index, Constructs::ALL).unwrap() else {
            continue;
        };
        let mut called = with.view.calls.values().flatten();
        redirected +=
            u32::from(!with.case.agent_rates.is_empty() && called.any(|call| call.role == "redirect"));
        let mut case = with.case.clone();
        case.agent_rates.clear();
        case.rates.clear();
        case.pipeline.visit_mut(&mut |spec| {
            if let Spec::Step(step) = spec {
                step.rates.clear();
            }
        });
        let without = differential::expected(case).unwrap();
        changed += u32::from(without.is_some_and(|without| without.view != with.view));
    }
    println!("{changed} cases changed, {redirected} with a limited agent that a plugin asked for");
    assert!(changed >= 40 && redirected >= 50, "{changed}, {redirected}");
}
