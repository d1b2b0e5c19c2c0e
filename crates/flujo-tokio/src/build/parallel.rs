//! Branches that run at the same time, under construction.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::MergeStrategy;
use flujo_core::machine::{LaneRecord, Outcome, Stop};
use flujo_core::plan::{LaneFailure, ParallelNode};
use flujo_core::value::Value;

use super::Pipeline;
use crate::Handler;
use crate::domain::Tokio;

/// What the failure of one branch means for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BranchFailure {
    /// The others are cancelled and awaited, and the step fails.
    #[default]
    Propagate,
    /// The others go on; the step succeeds when at least one branch does. The output of a failed branch is a map with
    /// the key `error`.
    Ignore,
}

/// Runs all branches on the same input, isolated from one another.
#[derive(Debug, Clone)]
pub struct Parallel {
    name: Arc<str>,
    branches: Vec<(Arc<str>, Pipeline)>,
    on_failure: BranchFailure,
    max_concurrency: Option<u32>,
    merge: MergeStrategy,
    collect: Handler,
    deadline: Option<Duration>,
}

impl Parallel {
    /// No branches yet. The output is a map from the branches' names, in declared order, to their outputs.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            branches: Vec::new(),
            on_failure: BranchFailure::default(),
            max_concurrency: None,
            merge: MergeStrategy::default(),
            collect: Handler::collect(|lanes| Ok(outputs_by_name(lanes))),
            deadline: None,
        }
    }

    /// Adds a branch.
    #[must_use]
    pub fn branch(mut self, name: impl Into<Arc<str>>, body: impl Into<Pipeline>) -> Self {
        self.branches.push((name.into(), body.into()));
        self
    }

    /// What the failure of one branch means for the others; [`BranchFailure::Propagate`] without this.
    #[must_use]
    pub fn on_branch_failure(mut self, policy: BranchFailure) -> Self {
        self.on_failure = policy;
        self
    }

    /// How many branches run at the same time, at most; all of them without this.
    #[must_use]
    pub fn max_concurrency(mut self, limit: u32) -> Self {
        self.max_concurrency = Some(limit);
        self
    }

    /// How the contexts of the branches become one; [`MergeStrategy::ContextUpdate`] without this.
    #[must_use]
    pub fn merge(mut self, strategy: MergeStrategy) -> Self {
        self.merge = strategy;
        self
    }

    /// Makes the output from the branches; see [`Handler::collect`].
    #[must_use]
    pub fn collect(mut self, collect: Handler) -> Self {
        self.collect = collect;
        self
    }

    /// The longest time the whole may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

impl From<Parallel> for Pipeline {
    fn from(parallel: Parallel) -> Self {
        let mut nodes = None;
        let branches = parallel
            .branches
            .into_iter()
            .map(|(name, body)| (name, body.place_in(&mut nodes)))
            .collect();
        let node = ParallelNode {
            router: None,
            branches,
            on_failure: match parallel.on_failure {
                BranchFailure::Propagate => LaneFailure::Propagate,
                BranchFailure::Ignore => LaneFailure::Ignore,
            },
            max_concurrency: parallel.max_concurrency,
            merge: merge_handler(parallel.merge),
            collect: parallel.collect,
        };
        let mut nodes = nodes.unwrap_or_default();
        let id = nodes.parallel(parallel.name, node);
        Pipeline::of(nodes, id, parallel.deadline)
    }
}

pub(super) fn merge_handler(strategy: MergeStrategy) -> Option<Handler> {
    (strategy != MergeStrategy::NoMerge).then(|| Handler::merge(strategy))
}

fn outputs_by_name(lanes: &[LaneRecord<Tokio>]) -> Value {
    let outputs = lanes.iter().map(|lane| {
        let output = lane.output().cloned();
        (
            Arc::clone(&lane.name),
            output.unwrap_or_else(|| failed_entry(lane)),
        )
    });
    Value::Map(Arc::new(outputs.collect()))
}

/// The output that stands for a lane that failed.
pub(super) fn failed_entry(lane: &LaneRecord<Tokio>) -> Value {
    Value::map([("error", Value::from(lane_error(lane)))])
}

/// Why a lane has no output.
pub fn lane_error(lane: &LaneRecord<Tokio>) -> String {
    match lane.finish.as_ref().map(|finish| &finish.outcome) {
        Some(Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure))) => {
            format!("step '{}': {failure}", failure.step)
        }
        Some(Outcome::Stopped(Stop::Cancelled)) => "cancelled".to_owned(),
        Some(Outcome::Stopped(Stop::Aborted(reason))) => format!("aborted: {reason}"),
        Some(Outcome::Stopped(Stop::LimitExceeded(breach))) => breach.to_string(),
        Some(Outcome::Completed(_)) | None => "not started".to_owned(),
    }
}
