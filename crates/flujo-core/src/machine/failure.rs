//! Why something in a run failed, as plain data with the original error attached.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use super::{Domain, Time};
use crate::usage::{Usage, UsageLimits};

/// The part of a step or construct in which something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The step's agent raised an error.
    Agent,
    /// An attempt took longer than the step's `timeout_s`.
    Timeout,
    /// The deadline of the step, of a construct around it or of the run passed.
    Deadline,
    /// A prompt processor raised an error.
    PromptProcessor,
    /// An output processor raised an error.
    OutputProcessor,
    /// A plugin raised an error or rejected the output.
    Plugin,
    /// A validator raised an error or rejected the output.
    Validator,
    /// The output could not be merged into the context.
    Context,
    /// A condition raised an error.
    Condition,
    /// No branch has the key that the condition gave.
    UnknownBranch,
    /// A mapper of a construct's input or output raised an error.
    Mapper,
    /// The input of a map is not a collection, or reading it raised an error.
    Items,
    /// One branch of a parallel step failed.
    Branch,
    /// One item of a map failed.
    Item,
    /// The body of a loop failed.
    LoopBody,
    /// A loop made as many iterations as it may and had not done.
    LoopLimit,
    /// The contexts of the branches could not be merged, or their outputs not be collected.
    Merge,
    /// The step failed, and so did its fallback.
    Fallback,
    /// A model without a price was to be used under a limit on cost.
    Pricing,
    /// The host could not do what the machine asked.
    Host,
}

/// Whether another attempt may be made after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum RetryAdvice {
    /// Another attempt may succeed.
    #[default]
    Allowed,
    /// Another attempt may succeed, not before this many nanoseconds have passed.
    After(Time),
    /// It would fail the same way again.
    Never,
}

/// One failure: what, in which stage, on which attempt, with the original error.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub struct Failure<D: Domain> {
    /// The stage.
    pub kind: FailureKind,
    /// The error's type, as its host names it (a class name in Python).
    pub error_type: Arc<str>,
    /// The error's own text.
    pub message: Arc<str>,
    /// The original error object.
    #[serde(serialize_with = "stored_error::<D, _>")]
    pub error: Option<D::Object>,
    /// Whether another attempt may be made.
    pub retry: RetryAdvice,
    /// The step in which it failed.
    pub step: Arc<str>,
    /// The attempt on which it failed, from 1; 0 outside attempts.
    pub attempt: u32,
    /// What led to it: the failed primary and the failed fallbacks after it, the failed step behind a failed branch.
    pub causes: Vec<Arc<Failure<D>>>,
}

#[allow(clippy::ref_option)] // as serde calls it
fn stored_error<D: Domain<Object: Serialize>, S: Serializer>(
    error: &Option<D::Object>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    error.as_ref().and_then(D::stored_error).serialize(serializer)
}

impl<D: Domain> Failure<D> {
    /// A failure of the given stage.
    pub fn new(kind: FailureKind, error_type: impl Into<Arc<str>>, message: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            error_type: error_type.into(),
            message: message.into(),
            error: None,
            retry: RetryAdvice::Allowed,
            step: Arc::from(""),
            attempt: 0,
            causes: Vec::new(),
        }
    }

    /// The same, not to be retried.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.retry = RetryAdvice::Never;
        self
    }

    /// The same with what led to it.
    #[must_use]
    pub fn caused_by(mut self, cause: Arc<Self>) -> Self {
        self.causes.push(cause);
        self
    }

    /// The failure at the root: the first cause of the first cause.
    pub fn root(&self) -> &Self {
        let mut failure = self;
        while let Some(cause) = failure.causes.first() {
            failure = cause;
        }
        failure
    }

    /// What failed inside a construct that failed with it. It is named itself, not through every construct around it:
    /// the records tell those, and depth costs neither long texts nor long chains.
    pub(super) fn inside(cause: Arc<Self>) -> Arc<Self> {
        match (cause.kind, cause.causes.first()) {
            (
                FailureKind::Branch | FailureKind::Item | FailureKind::LoopBody | FailureKind::LoopLimit,
                Some(inner),
            ) => Arc::clone(inner),
            _ => cause,
        }
    }
}

impl<D: Domain> fmt::Display for Failure<D> {
    /// What failed and in which stage, as `StepResult.feedback` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            FailureKind::Agent => write!(
                f,
                "Agent execution failed with {}: {}",
                self.error_type, self.message
            )?,
            FailureKind::Validator => write!(f, "Validation failed: {}", self.message)?,
            FailureKind::Plugin => write!(f, "Plugin rejected the output: {}", self.message)?,
            FailureKind::PromptProcessor => {
                write!(
                    f,
                    "Prompt processor failed with {}: {}",
                    self.error_type, self.message
                )?;
            }
            FailureKind::OutputProcessor => {
                write!(
                    f,
                    "Output processor failed with {}: {}",
                    self.error_type, self.message
                )?;
            }
            FailureKind::Context => write!(f, "Context validation failed: {}", self.message)?,
            FailureKind::Condition => {
                write!(f, "Condition failed with {}: {}", self.error_type, self.message)?;
            }
            FailureKind::Mapper => write!(f, "Mapper failed with {}: {}", self.error_type, self.message)?,
            _ => f.write_str(&self.message)?,
        }
        if self.attempt > 0 {
            write!(f, " (attempt {})", self.attempt)?;
        }
        Ok(())
    }
}

/// A usage limit that was reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitBreach {
    /// The limits in force.
    pub limits: UsageLimits,
    /// Which of them was reached.
    pub which: LimitKind,
    /// What had been used by then.
    pub used: Usage,
    /// What was reserved by calls under way.
    pub reserved: Usage,
    /// The step that was refused, or whose usage passed the limit.
    pub step: Arc<str>,
    /// Whether the step was refused before its call; else its call passed the limit.
    pub refused: bool,
}

/// Which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitKind {
    /// Money.
    Cost,
    /// Tokens.
    Tokens,
    /// Requests.
    Requests,
    /// Money again: cost is limited, and a call's price is not known.
    Price,
}

impl fmt::Display for LimitBreach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.which {
            LimitKind::Cost => {
                write!(
                    f,
                    "Cost limit of {} exceeded",
                    self.limits.cost.unwrap_or_default()
                )
            }
            LimitKind::Tokens => {
                write!(
                    f,
                    "Token limit of {} exceeded",
                    self.limits.tokens.unwrap_or_default()
                )
            }
            LimitKind::Requests => {
                write!(
                    f,
                    "Request limit of {} exceeded",
                    self.limits.requests.unwrap_or_default()
                )
            }
            LimitKind::Price => {
                write!(
                    f,
                    "step `{}` uses a model without a price, but cost is limited to {}: give the model a price \
                     (in flujo.toml, for instance), or limit tokens or requests in place of cost",
                    self.step,
                    self.limits.cost.unwrap_or_default()
                )
            }
        }
    }
}
