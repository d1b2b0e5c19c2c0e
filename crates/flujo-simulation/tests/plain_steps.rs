//! Steps of which only the agent works pass on to one another on a short way. Hooks make a run take the long one: what
//! comes of it is the same.

use flujo_core::machine::Role;
use flujo_simulation::story::{group, part, repeat, step, story};
use flujo_simulation::{Does, Script, Spec};

/// Runs it on the short way, saved and restored again and again or not, and on the long one.
fn same_on_both_ways(pipeline: impl Fn() -> Spec) {
    let long = story(pipeline()).hooks(Script::default()).run(1).ran;
    let short = story(pipeline()).run(1).ran;
    assert_eq!(short.text(), long.text());
    assert_eq!(short.notices_text(), long.notices_text());
    let agents = |ran: &flujo_simulation::Ran| -> Vec<_> {
        let calls = ran.trace.calls.iter().filter(|call| call.role == Role::Agent);
        calls
            .map(|call| (call.node, call.attempt, call.started, call.usage))
            .collect()
    };
    assert_eq!(agents(&short), agents(&long));
    let saved = story(pipeline()).save_after(1..1000).run(1).ran;
    assert_eq!(saved.text(), long.text());
}

#[test]
fn plain_steps_in_a_row_are_recorded_as_ever() {
    same_on_both_ways(|| {
        let row = [
            step("a").adds(1).takes(5).uses(3),
            step("b").adds(10),
            step("c").adds(100).takes(7),
        ];
        row.into()
    });
}

#[test]
fn failed_attempts_and_fallbacks_between_plain_steps_are_recorded_as_ever() {
    same_on_both_ways(|| {
        let row = [
            step("a").adds(1).takes(5),
            step("b").adds(1).fails(2).retries(2).uses(1).backoff(3),
            step("c").adds(1),
            step("d")
                .always_fails()
                .retries(1)
                .fallback([step("d1").adds(5), step("d2").adds(6)]),
            step("e").adds(1),
            step("f").always_fails(),
            step("g").adds(1),
        ];
        row.into()
    });
}

#[test]
fn plain_steps_beside_others_are_recorded_as_ever() {
    same_on_both_ways(|| {
        let row = [
            part(step("a").adds(1).uses(2)),
            part(step("b").adds(1).writes("b", 1)),
            part(step("c").adds(1).timeout(50)),
            part(step("d").adds(1).takes(4)),
            part(step("e").adds(1).deadline(50).takes(4)),
            part(step("f").adds(1)),
            part(step("g").adds(1).validator(Does::Natural).output(Does::Add(1))),
            part(step("h").adds(1).applies()),
            part(step("i").adds(1)),
            part(group(
                "j",
                [step("j1").adds(1).uses(1), step("j2").adds(1).uses(1)],
            )),
            part(step("k").body([step("k1").adds(1), step("k2").adds(1)])),
            part(repeat("l", [step("l1").adds(1), step("l2").adds(1)]).exits(Does::ExitAt(3))),
            part(step("m").adds(1)),
        ];
        row.into()
    });
}

#[test]
fn a_plain_step_is_cancelled_while_it_runs_and_nothing_follows() {
    story([
        step("a").adds(1),
        step("b").adds(1).takes(1000),
        step("c").adds(1),
    ])
    .cancel_after(2)
    .run(1)
    .cancelled()
    .calls("c", 0);
}
