//! Why a store could not do what it was asked to.

use std::sync::Arc;
use std::time::Duration;

use super::{RunStatus, WorkerId};

/// Why a store could not do what it was asked to. Each says where, why and what to do, without secrets; none has left
/// anything half done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such run.
    #[error("there is no run `{run}` in {place}")]
    UnknownRun {
        /// The run.
        run: Arc<str>,
        /// The store.
        place: String,
    },
    /// The run isn't as it was seen any more: somebody else has it.
    #[error("run `{run}` is under way with {owner}: wait for it, or take it over once its lease has ended")]
    Owned {
        /// The run.
        run: Arc<str>,
        /// Who has it, as its process is described.
        owner: String,
    },
    /// The claim is out of date: somebody else has taken the run over.
    #[error("run `{run}` was taken over by another worker; what this one wanted to write is not written")]
    Fenced {
        /// The run.
        run: Arc<str>,
    },
    /// The run's status doesn't allow it.
    #[error("run `{run}` is {status}: {reason}")]
    WrongStatus {
        /// The run.
        run: Arc<str>,
        /// How it stands.
        status: RunStatus,
        /// What can't be done, and what can.
        reason: String,
    },
    /// Records must follow one another without a gap, and a snapshot covers what has been written.
    #[error("run `{run}` is at record {last}: {what} can't come next; nothing was written")]
    OutOfOrder {
        /// The run.
        run: Arc<str>,
        /// The number of its last record.
        last: u64,
        /// What was to be written.
        what: String,
    },
    /// The run's contents weren't stored, or not in a form that can be read here.
    #[error("run `{run}` in {place} can't be read: {reason}")]
    Withheld {
        /// The run.
        run: Arc<str>,
        /// The store.
        place: String,
        /// Why, and what would help.
        reason: String,
    },
    /// The worker was struck off.
    #[error("worker {} is no longer known to {place}: others have taken it for dead", worker.0)]
    UnknownWorker {
        /// The worker.
        worker: WorkerId,
        /// The store.
        place: String,
    },
    /// Others kept the store for too long.
    #[error("{place} was kept by other processes for {} ms: nothing was written; try again, or give it a longer busy time", waited.as_millis())]
    Busy {
        /// The store.
        place: String,
        /// For how long.
        waited: Duration,
    },
    /// There is no room.
    #[error("there is no room left in {place}: {reason}; nothing was written")]
    Full {
        /// The store.
        place: String,
        /// What its system says.
        reason: String,
    },
    /// It can't be written to.
    #[error("{place} can't be written to: {reason}")]
    ReadOnly {
        /// The store.
        place: String,
        /// What its system says.
        reason: String,
    },
    /// What is stored can't be right. It is left as it is.
    #[error("{}{place} is damaged at {location}: {reason}; it is left as it is", match run { Some(run) => format!("run `{run}` in "), None => String::new() })]
    Corrupt {
        /// The run it belongs to, where that is known.
        run: Option<Arc<str>>,
        /// The store.
        place: String,
        /// Where: a table, a record's number, a blob.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Made by a later version.
    #[error("{place} has the schema of a later version ({found}; this one knows {known}): use that version")]
    NewerSchema {
        /// The store.
        place: String,
        /// Its schema's version.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// It can't be reached.
    #[error("{place} can't be reached: {reason}")]
    Unreachable {
        /// The store.
        place: String,
        /// What its system says.
        reason: String,
    },
    /// Anything else.
    #[error("{place}: {reason}")]
    Other {
        /// The store.
        place: String,
        /// What its system says.
        reason: String,
    },
}
