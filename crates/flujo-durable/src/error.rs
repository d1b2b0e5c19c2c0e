//! Why a run could not be written down, or not be made again from what was written.

use std::sync::Arc;

use flujo_core::store::StoreError;

use crate::ForkError;

/// Why a run could not be written down, or not be made again from what was written. What is stored stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DurableError {
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The runner has no store.
    #[error("the runner keeps no runs: give it a store")]
    NoStore,
    /// A value can't be written down.
    #[error("{what} can't be saved: {reason}")]
    Unsavable {
        /// What it is: the output of a step, a context.
        what: String,
        /// Where in it, and why.
        reason: String,
    },
    /// A value, or all of what is written at once, is larger than stores take.
    #[error("{what} can't be saved: it takes {} MB, and {} can be written at once", bytes >> 20, at_most >> 20)]
    TooLarge {
        /// What it is.
        what: String,
        /// How large it is.
        bytes: u64,
        /// How large it may be.
        at_most: u64,
    },
    /// The run went on elsewhere since it stood still here.
    #[error("run `{run}` went on in another process since: look it up in the store again")]
    WentOnElsewhere {
        /// The run.
        run: Arc<str>,
    },
    /// What is stored can't be read.
    #[error("run `{run}` is damaged at {location}: {reason}; what is stored is left as it is")]
    Corrupt {
        /// The run.
        run: Arc<str>,
        /// The snapshot, or a record's number.
        location: String,
        /// What is wrong.
        reason: String,
    },
    /// The pipeline doesn't ask for what was recorded: it isn't the one that the run began with.
    #[error(
        "run `{run}` doesn't fit the pipeline at {location}: {reason}; nothing was run, and what is stored is left as it is"
    )]
    Diverged {
        /// The run.
        run: Arc<str>,
        /// The record's number.
        location: String,
        /// What was recorded, and what the pipeline asks for.
        reason: String,
    },
    /// A run of this id is in the store already.
    #[error("there is a run `{run}` already: give the new one another id")]
    Exists {
        /// The id.
        run: Arc<str>,
    },
    /// The run asks nothing.
    #[error("run `{run}` waits for no answer")]
    NotPaused {
        /// The run.
        run: Arc<str>,
    },
    /// No question of the run that waits has this id, nor has its step this path or name.
    #[error("run `{run}` asks no question `{pause}`; open are {}", open.join(", "))]
    UnknownPause {
        /// The run.
        run: Arc<str>,
        /// What the answer was for.
        pause: Arc<str>,
        /// The ids of the open ones, with their steps.
        open: Vec<String>,
    },
    /// Several questions wait, and the answer doesn't say which one it is for.
    #[error("run `{run}` asks {} questions: address the answer to one of {}", open.len(), open.join(", "))]
    AmbiguousAnswer {
        /// The run.
        run: Arc<str>,
        /// Their ids, with their steps.
        open: Vec<String>,
    },
    /// The run can't be forked there.
    #[error("run `{run}` can't be forked: {error}")]
    Fork {
        /// The run.
        run: Arc<str>,
        /// Why.
        error: ForkError,
    },
    /// The pipeline isn't the one that the run began with.
    #[error(
        "run `{run}` began with another pipeline: {}; run it with the one it began with. Nothing was run, and what is \
         stored is left as it is", differences.join("; ")
    )]
    DefinitionChanged {
        /// The run.
        run: Arc<str>,
        /// What differs.
        differences: Vec<String>,
    },
}

impl DurableError {
    /// The name under which the error is known: `RunBusyError`, `CorruptRunError`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Store(StoreError::Owned { .. } | StoreError::Fenced { .. })
            | Self::WentOnElsewhere { .. } => "RunBusyError",
            Self::Store(StoreError::Busy { .. }) => "StoreBusyError",
            Self::Store(StoreError::Full { .. }) => "StoreFullError",
            Self::Store(StoreError::Corrupt { .. }) | Self::Corrupt { .. } => "CorruptRunError",
            Self::Store(StoreError::UnknownRun { .. }) => "RunNotFoundError",
            Self::Store(_) | Self::NoStore => "StoreError",
            Self::Exists { .. } => "RunExistsError",
            Self::Fork { .. } => "ForkError",
            Self::NotPaused { .. } => "ResumeError",
            Self::UnknownPause { .. } => "PauseNotFoundError",
            Self::AmbiguousAnswer { .. } => "AmbiguousAnswerError",
            Self::Unsavable { .. } | Self::TooLarge { .. } => "UnsavableValueError",
            Self::Diverged { .. } | Self::DefinitionChanged { .. } => "DefinitionChangedError",
        }
    }
}
