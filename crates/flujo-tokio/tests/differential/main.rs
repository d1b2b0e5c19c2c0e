//! Random pipelines end on tokio as they end in the simulation: outputs, status, attempts, feedback, usage, contexts,
//! and the sequence of calls and events of each lane, whichever twins the optimised parts use. Time is tokio's paused
//! clock.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod flow;
mod kept;
mod scripted;
mod seen;

use flujo_simulation::differential::{self, Expectation, OUTCOMES, PROCESSING, Tally, View};
use scripted::CONSTRUCTS;
use serde_json::Value as Json;

const SEED: u64 = 1;
const CASES: u64 = 3_300;

fn cases() -> u64 {
    let wanted = std::env::var("FLUJO_DIFFERENTIAL_CASES").ok();
    wanted.and_then(|cases| cases.parse().ok()).unwrap_or(CASES)
}

/// What both hosts can say of a case. Tokio has no hooks, and its decisions made in place don't know the attempt.
fn comparable(view: &View) -> Json {
    let mut view = view.clone();
    for calls in view.calls.values_mut() {
        calls.retain(|call| !scripted::HOOKS.contains(&call.role.as_str()));
        for call in calls {
            if !PROCESSING.contains(&call.role.as_str()) {
                call.attempt = 0;
            }
        }
    }
    view.calls.retain(|_, calls| !calls.is_empty());
    serde_json::to_value(view).unwrap()
}

/// Where tokio and the simulation disagree, if they do.
fn disagreement(expectation: &Expectation, index: u64) -> Option<String> {
    let expected = comparable(&expectation.view);
    let seen = comparable(&seen::run(&expectation.case, &seen::config(index)));
    difference("", &expected, &seen)
}

/// The first place where two values differ.
fn difference(path: &str, expected: &Json, seen: &Json) -> Option<String> {
    match (expected, seen) {
        (Json::Object(one), Json::Object(two)) if one.keys().eq(two.keys()) => one
            .iter()
            .find_map(|(key, value)| difference(&format!("{path}.{key}"), value, &two[key])),
        (Json::Array(one), Json::Array(two)) if one.len() == two.len() => one
            .iter()
            .zip(two)
            .enumerate()
            .find_map(|(place, (one, two))| difference(&format!("{path}[{place}]"), one, two)),
        _ if expected == seen => None,
        _ => Some(format!("{path}:\n  simulation {expected}\n  tokio      {seen}")),
    }
}

/// The smallest case found by leaving out one thing at a time that still shows a disagreement.
fn smallest(mut expectation: Expectation, index: u64) -> Expectation {
    'smaller: loop {
        for case in differential::smaller(&expectation.case) {
            if let Ok(Some(smaller)) = differential::expected(case)
                && disagreement(&smaller, index).is_some()
            {
                expectation = smaller;
                continue 'smaller;
            }
        }
        return expectation;
    }
}

#[test]
fn random_pipelines_end_on_tokio_as_in_the_simulation() {
    let mut tally = Tally::default();
    let (mut compared, mut disagreed) = (0, Vec::new());
    for index in 0..cases() {
        let Some(expectation) = differential::expectation(SEED, index, CONSTRUCTS).unwrap() else {
            continue;
        };
        compared += 1;
        tally.count(&expectation.view.end);
        if disagreement(&expectation, index).is_some() {
            disagreed.push((index, expectation));
        }
    }
    println!("{compared} cases of seed {SEED}\n{tally}");
    if let Some((index, expectation)) = disagreed.first().cloned() {
        let small = smallest(expectation, index);
        panic!(
            "{} of {compared} cases disagree; the first is case {index} of seed {SEED} with {:?}, made smaller:\n{}\n{}",
            disagreed.len(),
            seen::config(index),
            disagreement(&small, index).unwrap_or_default(),
            serde_json::to_string(&small.case).unwrap()
        );
    }
    let base = ["step", "conditional", "parallel", "map", "group"];
    for construct in base.into_iter().chain(CONSTRUCTS.in_views()) {
        // Outside of lanes nothing stops a question: the run stands still for it.
        let outcomes = if construct == "human" {
            &OUTCOMES[..1]
        } else {
            &OUTCOMES
        };
        for outcome in outcomes {
            let times = tally.times(construct, outcome);
            assert!(times >= 50, "{construct} × {outcome} came up only {times} times");
        }
    }
}
