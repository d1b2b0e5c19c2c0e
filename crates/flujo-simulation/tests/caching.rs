//! Cached steps: what is found costs nothing, what is made is made once, and only good results are kept.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use flujo_core::machine::{FailureKind, Role, Status};
use flujo_simulation::case::CachedBy;
use flujo_simulation::story::{Step, fail, group, human, map, parallel, part, repeat, step, story};
use flujo_simulation::trace::LookEnd;
use flujo_simulation::{Does, Object, Script, Write};

fn cached(name: &str) -> Step {
    step(name).cached(CachedBy::Input)
}

/// A step that makes the same result as every other such step.
fn shared(name: &str) -> Step {
    step(name).cached(CachedBy::Nothing)
}

#[test]
fn a_result_that_is_found_costs_nothing_and_says_what_it_saved() {
    let told = story(map("each", cached("a").adds(1).uses(5)))
        .run([1, 2, 1, 1])
        .completed([2, 3, 2, 2])
        .calls("a", 2)
        .used(10);
    let lanes = told.record("each").lanes();
    let saved = lanes.iter().map(|lane| {
        let record = &lane.finish.as_ref().unwrap().history.records[0];
        let saved = record.details.as_ref().and_then(|details| details.saved);
        (
            record.attempts,
            record.usage.tokens,
            saved.map(|saved| saved.tokens),
        )
    });
    let expected = [(1, 5, None), (1, 5, None), (0, 0, Some(5)), (0, 0, Some(5))];
    assert_eq!(saved.collect::<Vec<_>>(), expected);
}

#[test]
fn a_step_without_a_declaration_asks_for_nothing() {
    let told = story(map("each", step("a").adds(1)))
        .run([1, 1])
        .completed([2, 2])
        .calls("a", 2);
    assert!(told.ran.trace.looks.is_empty());
}

#[test]
fn what_a_step_writes_from_its_output_is_written_when_the_output_is_found_too() {
    let told = story([
        part(shared("a").returns(7).applies()),
        part(shared("b").returns(8).applies()),
    ])
    .run(1)
    .completed(7)
    .calls("a", 1)
    .calls("b", 0)
    .context("a", 7)
    .context("b", 7)
    .notices("b", ["started", "cache hit", "finished"]);
    assert_eq!(told.ran.trace.calls.last().unwrap().role, Role::Apply);
}

#[test]
fn a_result_is_not_kept_when_the_attempt_wrote_by_itself_or_failed_or_another_step_made_it() {
    story([shared("a").writes("seen", 1), shared("b").adds(1)])
        .run(1)
        .completed(2)
        .calls("b", 1);
    story([
        part(
            shared("a")
                .always_fails()
                .retries(1)
                .fallback(step("instead").returns(5)),
        ),
        part(shared("b").adds(1)),
    ])
    .run(1)
    .completed(6)
    .calls("b", 1);
    story([
        part(shared("a").body(step("inside").writes("seen", 1))),
        part(shared("b").adds(1)),
    ])
    .run(1)
    .completed(2)
    .calls("b", 1);
}

#[test]
fn what_failed_attempts_used_is_saved_too_and_their_writes_do_not_count() {
    let flaky = Script {
        acts: vec![
            flujo_simulation::Act {
                does: fail(),
                writes: vec![("seen".into(), Write::Set(1.into()))],
                ..Default::default()
            },
            flujo_simulation::Act::default(),
        ],
    };
    let told = story([
        part(shared("a").output(flaky).uses(3).retries(1)),
        part(shared("b").adds(1)),
    ])
    .run(1)
    .completed(1)
    .attempts("a", 2)
    .calls("b", 0);
    let details = told.record("b").details.as_ref().unwrap();
    assert_eq!(details.saved.unwrap(), told.record("a").usage);
}

#[test]
fn steps_at_the_same_time_run_once() {
    let branch = |name: &str| (name.to_owned(), part(shared("a").returns(4).takes(10)));
    let branches = ["x", "y", "z"].map(branch);
    let branches = branches
        .each_ref()
        .map(|(name, spec)| (name.as_str(), spec.clone()));
    story(parallel("all", branches)).run(1).calls("a", 1).ended_at(10);
}

#[test]
fn when_the_one_that_makes_a_result_fails_the_next_one_does() {
    let told = story(
        parallel(
            "all",
            [
                ("x", part(shared("a").always_fails().takes(10))),
                ("y", part(shared("b").always_fails().takes(10))),
                ("z", part(shared("c").returns(3).takes(10))),
            ],
        )
        .ignores_failures(),
    )
    .run(1);
    // Whoever comes first makes it; a failure costs its time, and nobody runs at the same time.
    let led = told
        .ran
        .trace
        .looks
        .iter()
        .filter(|look| matches!(look.end, Some(LookEnd::Led(_))));
    let led = u64::try_from(led.count()).unwrap();
    let (calls, told) = (told.ran.trace.calls.len(), told.ended_at(10 * led).sound());
    assert!(led <= 3 && calls >= 2);
    assert_eq!(told.ran.trace.puts.len(), 1);
}

#[test]
fn waiting_for_another_ones_result_counts_against_the_deadline() {
    let slow = part(shared("slow").returns(1).takes(100));
    let hurried = part([
        part(step("later").takes(1)),
        part(shared("hurried").returns(2).deadline(20)),
    ]);
    story(parallel("all", [("x", slow), ("y", hurried)]).ignores_failures())
        .run(1)
        .lanes("all", "cf")
        .ended_at(100)
        .sound();
}

#[test]
fn a_deadline_that_passes_while_waiting_fails_the_step_without_an_attempt() {
    let told = story([group(
        "around",
        parallel(
            "all",
            [
                ("x", part(shared("slow").takes(100))),
                (
                    "y",
                    part([
                        part(step("later").takes(1)),
                        part(shared("hurried").deadline(20).fallback(step("no"))),
                    ]),
                ),
            ],
        ),
    )])
    .run(1)
    .failed(FailureKind::Branch)
    .saying("`hurried` did not end within its deadline")
    .calls("hurried", 0)
    .calls("no", 0);
    assert_eq!(told.record("around").status, Status::Failed);
}

#[test]
fn who_stands_still_for_an_answer_lets_another_one_make_the_result() {
    let asks = part(shared("asks").body(human("question").answered(50, 9)));
    let runs = part([part(step("later").takes(1)), part(shared("runs").returns(2))]);
    story(parallel("all", [("x", asks), ("y", runs)]))
        .run(1)
        .completed(Object::from([("x", 9), ("y", 2)]))
        .calls("runs", 1);
}

#[test]
fn a_loop_finds_what_an_iteration_before_it_made() {
    story(
        repeat("again", shared("a").returns(1))
            .exits(Does::Exit(false))
            .at_most(4),
    )
    .run(1)
    .calls("a", 1)
    .sound();
}
