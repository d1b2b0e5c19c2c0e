//! Promises that hold for every pipeline, every script and every interleaving.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::cell::RefCell;
use std::collections::BTreeMap;

use flujo_core::machine::{History, NoticeKind, Outcome, Status, Stop};
use flujo_core::plan::{Kind, Plan};
use flujo_simulation::{Callable, Case, Ran, Simulated, Simulation, generate, invariant};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

const CASES: u32 = 3_000;

fn run(case: &Case) -> Result<Ran, TestCaseError> {
    Simulation::new(case)
        .and_then(Simulation::run)
        .map_err(|stuck| TestCaseError::fail(stuck.to_string()))
}

/// The same cases every time.
fn runner(cases: u32) -> TestRunner {
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 3_000,
        ..Config::default()
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
}

fn check(cases: u32, test: impl Fn(&Case) -> Result<(), TestCaseError>) {
    let result = runner(cases).run(&generate::case(), |case| test(&case));
    match result {
        Err(TestError::Fail(reason, case)) => {
            panic!(
                "{reason}\nThe smallest case found: {}",
                serde_json::to_string(&case).unwrap()
            )
        }
        Err(failure) => panic!("{failure}"),
        Ok(()) => {}
    }
}

#[test]
fn every_run_is_sound_and_every_construct_meets_every_outcome() {
    let seen = RefCell::new(BTreeMap::new());
    check(CASES, |case| {
        let ran = run(case)?;
        let plan = case
            .plan()
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        let broken = invariant::broken(&plan, &ran);
        prop_assert!(broken.is_empty(), "{}", broken.join("\n"));
        count(&plan, &ran, &mut seen.borrow_mut());
        Ok(())
    });
    let seen = seen.into_inner();
    for ((construct, outcome), times) in &seen {
        println!("{construct:12} {outcome:10} {times:6}");
    }
    let outcomes = ["success", "failed", "cancelled", "limit"];
    for construct in ["step", "conditional", "parallel", "map", "group"] {
        for outcome in outcomes {
            let times = seen.get(&(construct, outcome)).copied().unwrap_or(0);
            assert!(times >= 50, "{construct} × {outcome} came up only {times} times");
        }
    }
    for outcome in ["retried", "timeout", "deadline", "fallback"] {
        let times = seen.get(&("step", outcome)).copied().unwrap_or(0);
        assert!(times >= 50, "step × {outcome} came up only {times} times");
    }
}

fn count(plan: &Plan<Callable>, ran: &Ran, seen: &mut BTreeMap<(&'static str, &'static str), u32>) {
    let mut histories: Vec<&History<Simulated>> = vec![&ran.finish.history];
    let mut see = |construct, outcome| *seen.entry((construct, outcome)).or_default() += 1;
    while let Some(history) = histories.pop() {
        for record in &history.records {
            let construct = match plan.node(record.node).kind {
                Kind::Step(_) => "step",
                Kind::Conditional(_) => "conditional",
                Kind::Parallel(_) => "parallel",
                Kind::Map(_) => "map",
                Kind::Group(_) => "group",
                Kind::Loop(_) => "loop",
                Kind::States(_) => "states",
                Kind::Human(_) => "human",
                Kind::Guard(_) => "guard",
                Kind::Sequence(_) => "sequence",
            };
            see(
                construct,
                match record.status {
                    Status::Running => "running",
                    Status::Succeeded => "success",
                    Status::Failed => "failed",
                    Status::Cancelled => "cancelled",
                    Status::LimitExceeded => "limit",
                },
            );
            if record.attempts > 1 {
                see(construct, "retried");
            }
            let details = record.details.as_ref();
            if details.is_some_and(|details| details.fallback.is_some()) {
                see(construct, "fallback");
            }
            for failure in details.iter().flat_map(|details| &details.attempt_failures) {
                match failure.kind {
                    flujo_core::machine::FailureKind::Timeout => see(construct, "timeout"),
                    flujo_core::machine::FailureKind::Deadline => see(construct, "deadline"),
                    _ => {}
                }
            }
            histories.extend(
                record
                    .lanes()
                    .iter()
                    .filter_map(|lane| Some(&lane.finish.as_ref()?.history)),
            );
        }
    }
    see(
        "run",
        match &ran.finish.outcome {
            Outcome::Completed(_) => "success",
            Outcome::Failed(_) => "failed",
            Outcome::Stopped(Stop::Cancelled) => "cancelled",
            Outcome::Stopped(Stop::Paused) => "paused",
            Outcome::Stopped(Stop::Aborted(_)) => "aborted",
            Outcome::Stopped(Stop::LimitExceeded(_)) => "limit",
            Outcome::Stopped(Stop::Fatal(_)) => "fatal",
        },
    );
}

#[test]
fn saving_and_restoring_at_any_command_changes_nothing() {
    let saves = RefCell::new(0);
    check(CASES / 5, |case| {
        let unbroken = run(case)?;
        let mut broken_up = case.clone();
        broken_up.schedule.save_after = (1..40).chain((40..400).step_by(7)).collect();
        let restored = run(&broken_up)?;
        *saves.borrow_mut() += restored.trace.saves;
        prop_assert_eq!(unbroken.text(), restored.text());
        prop_assert_eq!(unbroken.notices_text(), restored.notices_text());
        Ok(())
    });
    let saves = saves.into_inner();
    println!("{saves} saves");
    assert!(saves > 1_000, "only {saves} saves");
}

#[test]
fn the_same_seed_gives_the_same_notices_and_the_case_survives_json() {
    check(CASES / 10, |case| {
        let text = serde_json::to_string(case).unwrap();
        let read: Case = serde_json::from_str(&text).unwrap();
        let (one, two) = (run(case)?, run(&read)?);
        prop_assert_eq!(one.text(), two.text());
        prop_assert_eq!(one.notices_text(), two.notices_text());
        Ok(())
    });
}

#[test]
fn a_run_cancelled_at_any_command_ends_sound_and_keeps_its_history() {
    check(CASES / 10, |case| {
        let mut case = case.clone();
        case.schedule.cancel_after = None;
        let whole = u32::try_from(run(&case)?.trace.commands).unwrap_or(u32::MAX);
        let plan = case
            .plan()
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        for after in (1..=whole.min(60)).step_by(3) {
            case.schedule.cancel_after = Some(after);
            let ran = run(&case)?;
            let broken = invariant::broken(&plan, &ran);
            prop_assert!(broken.is_empty(), "after {after}: {}", broken.join("\n"));
            let told = |kind: &NoticeKind<Simulated>| matches!(kind, NoticeKind::StepStarted);
            let begun = ran
                .trace
                .notices
                .iter()
                .filter(|notice| told(&notice.notice.kind))
                .count();
            prop_assert!(records(&ran.finish.history) == begun, "history is not kept");
        }
        Ok(())
    });
}

fn records(history: &History<Simulated>) -> usize {
    let below = |history: &History<Simulated>| -> usize {
        let lanes = history
            .records
            .iter()
            .flat_map(flujo_core::machine::Record::lanes);
        lanes
            .filter_map(|lane| Some(records(&lane.finish.as_ref()?.history)))
            .sum()
    };
    history.records.len() + below(history)
}
