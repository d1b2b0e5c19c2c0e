//! A test that cannot fail is a defect: each fault planted in the machine is caught by what must hold for every run.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use flujo_core::machine::{Fault, plant};
use flujo_simulation::{Case, Simulation, generate, invariant};

/// What is wrong with the runs of these cases, one line for each case that is caught.
fn caught(cases: &[Case]) -> Vec<String> {
    let one = |case: &Case| {
        let plan = case.plan().unwrap();
        match Simulation::new(case).and_then(Simulation::run) {
            Ok(ran) => invariant::broken(&plan, &ran).into_iter().next(),
            Err(stuck) => Some(stuck.to_string()),
        }
    };
    cases.iter().filter_map(one).collect()
}

#[test]
fn every_planted_fault_is_caught_and_nothing_is_caught_without_one() {
    let cases = generate::cases(11, 600);
    plant(None);
    assert_eq!(caught(&cases), Vec::<String>::new());
    let faults = [
        (Fault::RetryUsageLost, "used"),
        (Fault::LanesReversed, "declared order"),
        (Fault::FallbackSkipped, "fallback"),
        (Fault::FailedAttemptCommitted, "failed attempts or lanes wrote"),
        (Fault::SiblingNotCancelled, "after another had failed"),
        (Fault::DeadlineIgnored, "after its deadline"),
        (Fault::FailedIterationCommitted, "failed attempts or lanes wrote"),
        (Fault::LoopRunsOver, "are allowed"),
        (Fault::AnsweredAskedAgain, "asked"),
        (Fault::LeadForgotten, "still to be made"),
        (Fault::WrittenResultKept, "although it wrote"),
    ];
    for (fault, expected) in faults {
        plant(Some(fault));
        let found = caught(&cases);
        plant(None);
        let expected = found.iter().filter(|line| line.contains(expected)).count();
        println!(
            "{fault:?}: caught {} times, {expected} of them for what it is",
            found.len()
        );
        assert!(expected > 0, "{fault:?} is not caught: {found:?}");
    }
}
