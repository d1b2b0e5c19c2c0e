//! How often each construct met each outcome: a comparison of things that hardly happen says little.

use std::collections::BTreeMap;
use std::fmt;

use flujo_core::machine::{FailureKind, Status};

use super::view::{EndView, FailureView, StepView};

/// The outcomes that are counted. What happened to a step counts for every construct around it too.
pub const OUTCOMES: [&str; 7] = [
    "success",
    "failed",
    "retried",
    "timeout",
    "fallback",
    "cancelled",
    "limit",
];

/// Counts by construct and outcome.
#[derive(Debug, Clone, Default)]
pub struct Tally(BTreeMap<(String, &'static str), u32>);

impl Tally {
    /// Counts everything in a run.
    pub fn count(&mut self, end: &EndView) {
        self.steps(&end.steps);
    }

    /// How often a construct met an outcome.
    pub fn times(&self, construct: &str, outcome: &'static str) -> u32 {
        self.0.get(&(construct.to_owned(), outcome)).copied().unwrap_or(0)
    }

    /// Counts steps of one history; gives what happened to any of them.
    fn steps(&mut self, steps: &[StepView]) -> Vec<&'static str> {
        let mut happened: Vec<Vec<&'static str>> = steps.iter().map(own).collect();
        let mut all = Vec::new();
        // Children come after their parents.
        for (place, step) in steps.iter().enumerate().rev() {
            for end in step.lanes.iter().filter_map(|lane| lane.end.as_ref()) {
                let below = self.steps(&end.steps);
                happened[place].extend(below);
            }
            let mut mine = std::mem::take(&mut happened[place]);
            mine.sort_unstable();
            mine.dedup();
            if let Some(parent) = step.parent.and_then(|parent| happened.get_mut(parent as usize)) {
                parent.extend(&mine);
            }
            all.extend(&mine);
            mine.push(match step.status {
                Status::Running => "running",
                Status::Succeeded => "success",
                Status::Failed => "failed",
                Status::Cancelled => "cancelled",
                Status::LimitExceeded => "limit",
            });
            for outcome in mine {
                *self.0.entry((step.construct.clone(), outcome)).or_default() += 1;
            }
        }
        all
    }
}

/// What happened to the step itself.
fn own(step: &StepView) -> Vec<&'static str> {
    let late = |failure: &FailureView| matches!(failure.kind, FailureKind::Timeout | FailureKind::Deadline);
    let mut happened = Vec::new();
    if step.attempts > 1 {
        happened.push("retried");
    }
    if step.attempt_failures.iter().chain(&step.failure).any(late) {
        happened.push("timeout");
    }
    if step.fallback.is_some() {
        happened.push("fallback");
    }
    happened
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((construct, outcome), times) in &self.0 {
            writeln!(f, "{construct:12} {outcome:10} {times:6}")?;
        }
        Ok(())
    }
}
