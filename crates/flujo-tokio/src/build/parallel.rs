//! Branches that run at the same time, under construction.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::machine::{Answer, Chosen, LaneRecord, Outcome, Stop};
use flujo_core::plan::{LaneFailure, ParallelNode, Router};
use flujo_core::value::Value;

use super::Pipeline;
use super::merge::Merge;
use crate::Handler;
use crate::domain::{Raised, Tokio};

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

type Select = dyn Fn(&Value, &Context) -> Result<Vec<String>, Raised> + Send + Sync;

/// Runs all branches on the same input, isolated from one another; with a [router](Self::router), those it chooses.
#[derive(Clone)]
pub struct Parallel {
    name: Arc<str>,
    branches: Vec<(Arc<str>, Pipeline)>,
    router: Option<(Pipeline, Arc<Select>)>,
    on_failure: BranchFailure,
    max_concurrency: Option<u32>,
    merge: Merge,
    collect: Handler,
    deadline: Option<Duration>,
}

impl Parallel {
    /// No branches yet. The output is a map from the branches' names, in declared order, to their outputs.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            branches: Vec::new(),
            router: None,
            on_failure: BranchFailure::default(),
            max_concurrency: None,
            merge: Merge::default(),
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

    /// Runs first, on the same input; its output says which branches run: a list of names, one name, or null for none.
    /// An unknown name fails the step; none at all gives an empty output.
    #[must_use]
    pub fn router(self, router: impl Into<Pipeline>) -> Self {
        self.router_with(router, |output, _| names(output))
    }

    /// The same; `select` tells from the router's output and the context which branches run.
    #[must_use]
    pub fn router_with<F>(mut self, router: impl Into<Pipeline>, select: F) -> Self
    where
        F: Fn(&Value, &Context) -> Result<Vec<String>, Raised> + Send + Sync + 'static,
    {
        self.router = Some((router.into(), Arc::new(select)));
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

    /// How the contexts of the branches become one; [`MergeStrategy::ContextUpdate`](flujo_core::context::MergeStrategy::ContextUpdate)
    /// without this.
    #[must_use]
    pub fn merge(mut self, merge: impl Into<Merge>) -> Self {
        self.merge = merge.into();
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

/// The branches that a router's output names.
fn names(output: &Value) -> Result<Vec<String>, Raised> {
    let name = |value: &Value| value.as_str().map(str::to_owned);
    let names = match output {
        Value::Null => Some(Vec::new()),
        Value::List(values) => values.iter().map(name).collect(),
        one => name(one).map(|name| vec![name]),
    };
    names.ok_or_else(|| {
        let kind = output.kind();
        format!("a router must give a list of names of branches, one name or null, but gave a {kind}").into()
    })
}

/// Which branches run, from a router's output. `branches` are their names in declared order.
fn chosen(select: Arc<Select>, branches: Vec<Arc<str>>) -> Handler {
    Handler::inline(move |decision| {
        let names = select(decision.value(), decision.context)?.into_iter();
        Ok(Answer::Branches(
            names
                .map(|name| {
                    let place = branches.iter().position(|branch| **branch == *name);
                    Chosen {
                        key: name.into(),
                        branch: place.and_then(|place| u32::try_from(place).ok()),
                    }
                })
                .collect(),
        ))
    })
}

impl fmt::Debug for Parallel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parallel")
            .field("name", &self.name)
            .field("branches", &self.branches)
            .field("router", &self.router.as_ref().map(|(body, _)| body))
            .finish_non_exhaustive()
    }
}

impl From<Parallel> for Pipeline {
    fn from(parallel: Parallel) -> Self {
        let mut nodes = None;
        let names = parallel
            .branches
            .iter()
            .map(|(name, _)| Arc::clone(name))
            .collect();
        let router = parallel.router.map(|(body, select)| Router {
            body: body.place_in(&mut nodes),
            select: chosen(select, names),
        });
        let branches = parallel
            .branches
            .into_iter()
            .map(|(name, body)| (name, body.place_in(&mut nodes)))
            .collect();
        let node = ParallelNode {
            router,
            branches,
            on_failure: match parallel.on_failure {
                BranchFailure::Propagate => LaneFailure::Propagate,
                BranchFailure::Ignore => LaneFailure::Ignore,
            },
            max_concurrency: parallel.max_concurrency,
            merge: parallel.merge.handler(),
            collect: parallel.collect,
        };
        let mut nodes = nodes.unwrap_or_default();
        let id = nodes.parallel(parallel.name, node);
        Pipeline::of(nodes, id, parallel.deadline)
    }
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
        Some(Outcome::Stopped(Stop::Paused)) => "paused".to_owned(),
        Some(Outcome::Stopped(Stop::Aborted(reason))) => format!("aborted: {reason}"),
        Some(Outcome::Stopped(Stop::LimitExceeded(breach))) => breach.to_string(),
        Some(Outcome::Completed(_)) | None => "not started".to_owned(),
    }
}
