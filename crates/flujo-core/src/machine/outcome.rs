//! How a node, a lane or a run ended.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Domain, Failure, FailureKind, History, Kept, LimitBreach, LimitKind};
use crate::usage::Usage;

/// Why a run stopped without having succeeded or failed. Control flow is never an error value: no retry, no fallback,
/// no plugin can swallow it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub enum Stop<D: Domain> {
    /// Cancelled from outside, or by the construct around it.
    Cancelled,
    /// It has not ended: it stands still for an answer. No machine ends like this; see [`Machine::so_far`].
    ///
    /// [`Machine::so_far`]: super::Machine::so_far
    Paused,
    /// A hook or callable asked for the end of the run.
    Aborted(Arc<str>),
    /// A usage limit was reached.
    LimitExceeded(Arc<LimitBreach>),
    /// Something is wrong with the pipeline itself, so that no attempt could succeed: no agent, no price, agents that
    /// redirect to one another for ever.
    Fatal(Arc<Failure<D>>),
}

impl<D: Domain> From<Arc<LimitBreach>> for Stop<D> {
    /// Without a price nobody can keep a limit on cost: then the pipeline itself is at fault, however often it is tried.
    fn from(breach: Arc<LimitBreach>) -> Self {
        if breach.which != LimitKind::Price {
            return Self::LimitExceeded(breach);
        }
        let text = breach.to_string();
        let mut failure = Failure::new(FailureKind::Pricing, "PricingNotConfiguredError", text).permanent();
        failure.step = Arc::clone(&breach.step);
        Self::Fatal(Arc::new(failure))
    }
}

/// How a node ended, as its parent sees it.
#[derive(Debug, Clone)]
pub(super) enum Completion<D: Domain> {
    Success(D::Object),
    Failed(Arc<Failure<D>>),
    Stopped(Stop<D>),
}

/// How a run or lane ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub enum Outcome<D: Domain> {
    /// With this output.
    Completed(D::Object),
    /// A step failed and nothing caught it.
    Failed(Arc<Failure<D>>),
    /// It was stopped.
    Stopped(Stop<D>),
}

impl<D: Domain> Outcome<D> {
    /// Its name in results: `completed`, `failed`, `paused`, `cancelled` or `limit_exceeded`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Completed(_) => "completed",
            Self::Failed(_) | Self::Stopped(Stop::Fatal(_)) => "failed",
            Self::Stopped(Stop::Paused) => "paused",
            Self::Stopped(Stop::LimitExceeded(_)) => "limit_exceeded",
            Self::Stopped(Stop::Cancelled | Stop::Aborted(_)) => "cancelled",
        }
    }
}

/// A run or lane that has ended: its outcome, final context, history and usage.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub struct Finish<D: Domain> {
    /// How it ended.
    pub outcome: Outcome<D>,
    /// The context as it was committed last.
    pub context: D::Context,
    /// What happened, step by step.
    pub history: History<D>,
    /// The sum over all steps and attempts.
    pub usage: Usage,
    /// What it can go on from, when a limit on the run's usage stopped it or it was cancelled. It is not saved.
    #[serde(skip)]
    pub kept: Option<Box<Kept<D>>>,
}

impl<D: Domain> From<Completion<D>> for Outcome<D> {
    fn from(completion: Completion<D>) -> Self {
        match completion {
            Completion::Success(output) => Self::Completed(output),
            Completion::Failed(failure) => Self::Failed(failure),
            Completion::Stopped(stop) => Self::Stopped(stop),
        }
    }
}
