//! A step's whole life: what runs in which order, what is tried again, what is kept.

use flujo_core::machine::{FailureKind, Role, Status};
use flujo_core::plan::Rejection;
use flujo_simulation::story::{calls, fail, group, map, part, step, story};
use flujo_simulation::{Act, Does, Object, OnCancel, Script, Write};

fn taking(milliseconds: u64, does: Does) -> Script {
    Script::always(Act {
        takes: milliseconds * 1_000_000,
        does,
        ..Act::default()
    })
}

fn writing(field: &str) -> Script {
    Script::always(Act {
        writes: vec![(field.into(), Write::Set(1.into()))],
        ..Act::default()
    })
}

#[test]
fn processors_plugins_and_validators_work_on_the_value_in_order() {
    let told = story(
        step("a")
            .prompt(Does::Add(10))
            .does(Does::Natural)
            .output(Does::Add(100))
            .plugin(Does::Natural)
            .validator(Does::Natural)
            .applies(),
    )
    .run(1)
    .completed(111)
    .context("a", 111);
    let roles: Vec<Role> = told.ran.trace.calls.iter().map(|call| call.role).collect();
    let order = [
        Role::PromptProcessor,
        Role::Agent,
        Role::OutputProcessor,
        Role::Plugin,
        Role::Validator,
        Role::Apply,
    ];
    assert_eq!(roles, order);
}

#[test]
fn a_failed_attempt_is_tried_again_from_the_original_input() {
    story(step("a").prompt(Does::Add(1)).adds(1).fails(2).retries(2))
        .run(1)
        .completed(3)
        .calls("a", 3)
        .attempts("a", 3)
        .notices(
            "a",
            [
                "started",
                "attempt",
                "attempt failed",
                "attempt",
                "attempt failed",
                "attempt",
                "finished",
            ],
        );
}

#[test]
fn without_retries_there_is_exactly_one_attempt_and_later_steps_are_absent() {
    story([step("a").always_fails(), step("b")])
        .run(1)
        .failed(FailureKind::Agent)
        .saying("Agent execution failed with ScriptedError")
        .calls("a", 1)
        .history(["a"])
        .status("a", Status::Failed);
}

#[test]
fn a_failing_prompt_processor_and_a_permanent_error_are_not_retried() {
    story(step("a").prompt(fail()).retries(3))
        .run(1)
        .failed(FailureKind::PromptProcessor)
        .attempts("a", 1);
    story(step("a").always_fails().permanently().retries(3))
        .run(1)
        .failed(FailureKind::Agent)
        .calls("a", 1);
}

#[test]
fn failing_output_processors_plugins_and_validators_are_retried() {
    let script = || calls([fail(), Does::Natural]);
    story(step("a").output(script()).retries(1))
        .run(1)
        .completed(1)
        .calls("a", 2);
    story(step("a").plugin(script()).retries(1))
        .run(1)
        .completed(1)
        .calls("a", 2);
    story(step("a").validator(script()).retries(1))
        .run(1)
        .completed(1)
        .calls("a", 2);
}

#[test]
fn every_validator_is_asked_and_the_feedback_holds_all_rejections() {
    story(
        step("a")
            .adds(1)
            .validator(Does::Reject)
            .validator(Does::Natural)
            .validator(Does::Reject),
    )
    .run(1)
    .failed(FailureKind::Validator)
    .saying("call 1 rejects as written; call 1 rejects as written (attempt 1)")
    .calls_of("a", Role::Validator, 3);
}

#[test]
fn the_rejected_output_stays_in_the_record() {
    let told = story(step("a").returns(7).validator(Does::Reject))
        .run(1)
        .failed(FailureKind::Validator);
    assert_eq!(told.record("a").output, Some(Object::Int(7)));
}

#[test]
fn a_rejected_output_is_kept_by_nobody_where_the_step_discards_it() {
    let told = story(
        step("a")
            .returns(7)
            .validator(Does::Reject)
            .on_rejection(Rejection::Discard),
    )
    .run(1)
    .failed(FailureKind::Validator);
    assert_eq!(told.record("a").output, None);
}

#[test]
fn a_rejected_output_passes_on_where_the_step_says_so_and_the_record_tells_why() {
    let told = story([
        step("a")
            .adds(1)
            .retries(3)
            .validator(Does::Reject)
            .validator(Does::Natural)
            .on_rejection(Rejection::PassOn)
            .applies(),
        step("b").adds(1),
    ])
    .run(1)
    .completed(3)
    .calls("a", 1)
    .context("a", 2);
    let details = told.record("a").details.as_ref().unwrap();
    let reasons: Vec<&str> = details.rejections.iter().map(|reason| &**reason).collect();
    assert_eq!(reasons, ["call 1 rejects as written"]);
    assert!(details.attempt_failures.is_empty());
    let told = story(step("a").validator(Does::Natural).on_rejection(Rejection::PassOn))
        .run(1)
        .completed(1);
    assert!(told.record("a").details.is_none());
}

#[test]
fn a_plugin_replaces_the_output_for_those_after_it() {
    story(step("a").plugin(Does::Return(5.into())).plugin(Does::Add(1)))
        .run(1)
        .completed(6);
}

#[test]
fn a_plugin_redirects_to_another_agent_and_a_cycle_is_fatal() {
    story(step("a").plugin(calls([Does::Redirect(7), Does::Natural])))
        .run(1)
        .completed([7, 1])
        .calls("a", 1)
        .calls_of("a", Role::Redirect, 1);
    story(step("a").retries(5).fallback(step("b")).plugin(calls([
        Does::Redirect(7),
        Does::Redirect(8),
        Does::Redirect(7),
    ])))
    .run(1)
    .fatal()
    .saying("redirects to an agent that has already run")
    .calls("b", 0)
    .status("a", Status::Failed);
}

#[test]
fn only_the_successful_attempt_writes_into_the_context() {
    let first_writes = Script {
        acts: vec![writing("leak").acts[0].clone(), Act::default()],
    };
    story(
        step("a")
            .output(first_writes)
            .validator(calls([Does::Reject, Does::Natural]))
            .writes("kept", 1)
            .retries(1),
    )
    .run(1)
    .completed(1)
    .context("leak", Object::Null)
    .context("kept", 1);
}

#[test]
fn a_write_that_cannot_be_taken_over_fails_the_step_without_a_retry() {
    story(step("a").applies_with(writing("sealed")).retries(3))
        .run(1)
        .failed(FailureKind::Context)
        .calls("a", 1)
        .context("sealed", Object::Null);
}

#[test]
fn feedback_of_a_failed_step_is_persisted_into_the_context() {
    story(step("a").always_fails().retries(1).persists())
        .run(1)
        .failed(FailureKind::Agent)
        .context(
            "a.feedback",
            "Agent execution failed with ScriptedError: call 2 fails as written (attempt 2)",
        );
}

#[test]
fn backoff_is_waited_for_and_an_error_may_ask_for_a_longer_wait() {
    story(step("a").fails(2).retries(2).backoff(10).takes(1))
        .run(1)
        .completed(1)
        .ended_at(23);
    story(step("a").fails(1).retries(1).asks_to_wait(40))
        .run(1)
        .completed(1)
        .ended_at(40);
}

#[test]
fn backoff_never_sleeps_past_a_deadline() {
    story(step("a").always_fails().retries(9).backoff(10).deadline(25))
        .run(1)
        .failed(FailureKind::Agent)
        .calls("a", 3)
        .ended_at(20);
    story(step("a").always_fails().retries(9).backoff(10))
        .deadline(15)
        .run(1)
        .failed(FailureKind::Agent)
        .ended_at(10);
}

#[test]
fn each_attempt_has_its_own_time_limit() {
    story(step("a").takes(30).timeout(10).retries(2))
        .run(1)
        .failed(FailureKind::Timeout)
        .calls("a", 3)
        .ended_at(30)
        .saying("took longer than its time limit of 10ms");
}

#[test]
fn a_deadline_covers_all_attempts_and_ends_them_for_good() {
    story(
        step("a")
            .takes(30)
            .timeout(10)
            .retries(9)
            .fallback(step("b"))
            .deadline(25),
    )
    .run(1)
    .failed(FailureKind::Deadline)
    .calls("a", 3)
    .calls("b", 0)
    .ended_at(25);
}

#[test]
fn a_time_limit_also_holds_for_processors_plugins_and_validators() {
    let slow = || taking(30, Does::Natural);
    for late in [
        step("a").prompt(slow()),
        step("a").output(slow()),
        step("a").plugin(slow()),
        step("a").validator(slow()),
    ] {
        story(late.timeout(10))
            .run(1)
            .failed(FailureKind::Timeout)
            .ended_at(10);
    }
}

#[test]
fn an_inline_call_that_returns_late_counts_as_a_timeout_and_its_usage_counts() {
    story(step("a").takes(30).timeout(10).inline().uses(5).writes("late", 1))
        .run(1)
        .failed(FailureKind::Timeout)
        .ended_at(30)
        .used(5)
        .context("late", Object::Null);
    story(step("a").takes(10).timeout(10).inline())
        .run(1)
        .completed(1);
}

#[test]
fn what_an_abandoned_call_does_later_reaches_neither_context_nor_totals() {
    let slow = step("a")
        .takes(2_000)
        .timeout(100)
        .retries(2)
        .uses(5)
        .writes("x", 1);
    story([part(
        slow.on_cancel(OnCancel::Abandon).fallback(step("b").takes(3_000)),
    )])
    .run(1)
    .completed(1)
    .attempts("a", 3)
    .ended_at(3_300)
    .used(0)
    .context("x", Object::Null);
}

#[test]
fn a_call_that_lingers_is_awaited_before_the_next_attempt() {
    story(
        step("a")
            .takes(30)
            .timeout(10)
            .retries(1)
            .on_cancel(OnCancel::Linger(5_000_000)),
    )
    .run(1)
    .failed(FailureKind::Timeout)
    .ended_at(30);
}

#[test]
fn usage_of_every_attempt_counts_the_failed_primary_too() {
    let primary = || step("a").always_fails().uses(10).retries(1);
    story(primary().fallback(step("b").uses(5)))
        .run(1)
        .completed(1)
        .used(25)
        .attempts("a", 2);
    story(primary().fallback(step("b").always_fails().uses(5)))
        .run(1)
        .failed(FailureKind::Fallback)
        .used(25);
    story(map("m", primary().fallback(step("b").uses(5))))
        .run([1, 2])
        .completed([1, 2])
        .used(50);
}

#[test]
fn a_fallback_runs_with_the_original_input_and_its_record_names_the_original_error() {
    let told = story(
        step("a")
            .prompt(Does::Add(5))
            .always_fails()
            .fallback(step("b").adds(1)),
    )
    .run(1)
    .completed(2)
    .history(["a", "b"])
    .status("a", Status::Succeeded)
    .notices(
        "a",
        ["started", "attempt", "attempt failed", "fallback", "finished"],
    );
    let (record, original) = told
        .record("a")
        .details
        .as_ref()
        .unwrap()
        .fallback
        .clone()
        .unwrap();
    assert_eq!((record, original.kind), (1, FailureKind::Agent));
}

#[test]
fn when_the_fallback_fails_too_the_feedback_holds_both_errors() {
    story(
        step("a")
            .always_fails()
            .fallback(step("b").validator(Does::Reject)),
    )
    .run(1)
    .failed(FailureKind::Fallback)
    .saying("Original error: Agent execution failed")
    .saying("Fallback error: Validation failed");
}

#[test]
fn fallbacks_form_chains_and_may_be_pipelines() {
    let chain = step("c")
        .always_fails()
        .fallback(group("g", [step("d").adds(1), step("e").adds(1)]));
    story(
        step("a")
            .always_fails()
            .fallback(step("b").always_fails().fallback(chain)),
    )
    .run(0)
    .completed(2)
    .history(["a", "b", "c", "g", "d", "e"]);
}

#[test]
fn an_agent_may_abort_the_run_and_nothing_swallows_it() {
    story([
        step("a").does(Does::Abort).retries(3).fallback(step("b")),
        step("c"),
    ])
    .run(1)
    .aborted()
    .calls("a", 1)
    .history(["a"])
    .status("a", Status::Cancelled);
}

#[test]
fn a_fatal_failure_is_neither_retried_nor_caught() {
    story(step("a").does(Does::Fatal).retries(3).fallback(step("b")))
        .run(1)
        .fatal()
        .calls("a", 1)
        .calls("b", 0);
}
