//! Runs that were stopped by a limit or cancelled and go on: nothing that had ended runs again, and usage counts once.

use flujo_core::machine::Outcome;
use flujo_simulation::story::{Told, calls, map, parallel, part, repeat, step, story};
use flujo_simulation::{Act, Case, Does, Object, Script, Simulation, Spec};

/// Four steps of ten tokens each.
fn four() -> Spec {
    Spec::from(["a", "b", "c", "d"].map(|name| step(name).adds(1).uses(10)))
}

#[track_caller]
fn completed(told: &Told, output: impl Into<Object>, tokens: u64) {
    let (outcome, output) = (&told.finish().outcome, output.into());
    assert!(
        matches!(outcome, Outcome::Completed(given) if *given == output),
        "{output} expected: {outcome:?}"
    );
    assert_eq!(told.finish().usage.tokens, tokens);
    let leaves = told.finish().history.records.iter();
    let top: u64 = leaves
        .filter(|record| record.parent.is_none())
        .map(|record| record.usage.tokens)
        .sum();
    assert_eq!(top, tokens, "the sum of the records");
    assert!(told.finish().kept.is_none());
}

#[test]
fn p35_a_run_that_a_limit_stopped_goes_on_with_a_raised_one_and_runs_no_step_again() {
    // The third call passes the limit of 25: its output is kept.
    let stopped = story(four()).token_limit(25).run(0);
    assert_eq!(stopped.finish().usage.tokens, 30);
    let told = story(four()).token_limit(40).go_on(stopped);
    completed(&told, 4, 40);
    let told = told.calls("a", 0).calls("b", 0).calls("c", 0).calls("d", 1);
    assert_eq!(told.finish().history.records.len(), 4, "each step has one record");
}

#[test]
fn p35_a_call_that_a_limit_refused_is_made_once_the_limit_is_raised() {
    let expecting = || Spec::from(["a", "b", "c", "d"].map(|name| step(name).adds(1).expects(10).uses(10)));
    let stopped = story(expecting()).token_limit(30).run(0);
    assert_eq!(stopped.finish().usage.tokens, 30);
    completed(
        &story(expecting())
            .token_limit(40)
            .go_on(stopped)
            .calls("c", 0)
            .calls("d", 1),
        4,
        40,
    );
}

#[test]
fn p35_a_limit_that_is_raised_too_little_stops_it_again_and_it_goes_on_from_there() {
    let stopped = story(four()).token_limit(15).run(0);
    let again = story(four()).token_limit(25).go_on(stopped);
    assert_eq!(again.finish().usage.tokens, 30);
    completed(&story(four()).go_on(again).calls("c", 0).calls("d", 1), 4, 40);
}

#[test]
fn p35_a_cancelled_run_goes_on_wherever_it_was_cancelled() {
    for commands in 1..60 {
        let lanes = || {
            let body = part([step("x").adds(1).uses(1), step("y").adds(1).uses(1)]);
            part([
                part(step("a").adds(1).uses(10).takes(5)),
                part(parallel("split", [("left", body.clone()), ("right", body)])),
                part(
                    map("each", step("z").uses(3))
                        .at_once(2)
                        .items(calls([Does::Items(vec![1.into(), 2.into(), 3.into()])])),
                ),
            ])
        };
        let whole = story(lanes()).run(1);
        let stopped = story(lanes()).cancel_after(commands).run(1);
        if stopped.finish().kept.is_none() {
            assert!(
                matches!(stopped.finish().outcome, Outcome::Completed(_)),
                "{commands}"
            );
            continue;
        }
        let told = story(lanes()).go_on(stopped);
        let (ended, expected) = (&told.finish().outcome, &whole.finish().outcome);
        assert_eq!(format!("{ended:?}"), format!("{expected:?}"), "{commands}");
    }
}

/// How often the agent of a step was called to its end.
fn ended_calls(told: &Told, step: &str) -> usize {
    let plan = told.plan();
    let calls = told.ran.trace.calls.iter();
    calls
        .filter(|call| &*plan.node(call.node).name == step && call.usage.tokens > 0)
        .count()
}

#[test]
fn p35_lanes_that_had_ended_are_not_run_again() {
    let names = ["v", "w", "x", "y", "z"];
    let fan = || {
        part(parallel(
            "fan",
            names.map(|name| (name, part(step(name).uses(10)))),
        ))
    };
    for seed in 0..20 {
        let stopped = story(fan()).token_limit(15).seed(seed).run(1);
        let before = names.map(|name| ended_calls(&stopped, name));
        assert!(before.contains(&1), "{before:?}");
        let told = story(fan()).seed(seed).go_on(stopped);
        let after = names.map(|name| ended_calls(&told, name));
        assert!(
            before
                .iter()
                .zip(after)
                .all(|(before, after)| before + after == 1),
            "{before:?} {after:?}"
        );
        completed(
            &told,
            told.finish().history.records[0].output.clone().unwrap(),
            50,
        );
    }
}

#[test]
fn p35_a_loop_goes_on_in_the_iteration_that_it_was_stopped_in() {
    let turns = || {
        part(
            repeat("again", step("a").adds(1).uses(10))
                .at_most(9)
                .exits(Script::always(Act {
                    does: Does::ExitAt(4),
                    ..Act::default()
                })),
        )
    };
    let whole = story(turns()).run(0);
    let stopped = story(turns()).token_limit(25).run(0);
    let told = story(turns()).go_on(stopped).calls("a", 1);
    assert_eq!(
        format!("{:?}", told.finish().outcome),
        format!("{:?}", whole.finish().outcome)
    );
    assert_eq!(told.finish().usage.tokens, whole.finish().usage.tokens);
}

#[test]
fn a_run_that_passed_the_limit_of_a_step_has_nothing_to_go_on_from() {
    let stopped = story([step("a").uses(5), step("b").uses(10).own_token_limit(5)]).run(1);
    assert!(stopped.finish().kept.is_none());
}

/// An item had failed when a limit stopped its run; as the run goes on, another one is cancelled for that before it has.
#[test]
fn an_item_that_is_cancelled_before_it_goes_on_is_found_again_in_what_was_written() {
    let found = include_str!("found/cancelled_before_it_goes_on.json");
    let mut case: Case = serde_json::from_str(found).unwrap();
    case.schedule.save_after = vec![u32::MAX];
    let stopped = Simulation::new(&case).and_then(Simulation::run).unwrap();
    assert!(stopped.finish.kept.is_some());
    case.limits = flujo_core::usage::UsageLimits::default();
    // It compares the end with the one that what was written tells of.
    let ended = Simulation::going_on(&case, stopped)
        .and_then(Simulation::run)
        .unwrap();
    assert!(
        matches!(ended.finish.outcome, Outcome::Failed(_)),
        "{}",
        ended.text()
    );
}
