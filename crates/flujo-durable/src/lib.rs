//! What is written of a run so that it outlives its process, and how it is made again from that.
//!
//! A machine does the same with the same events, so what is written is what happened: each event becomes an
//! [`Entry`], entries are written in batches, one [record](flujo_core::store::Record) each, by a [`Journal`] into a
//! [store](flujo_core::store::RunStore). [`Replay`] feeds them to machines again, without a call of user code, and
//! gives machines that go on where the last record was written. A [`Snapshot`] stands for all records before it.
//!
//! Nothing here waits, reads a clock or knows a runtime: hosts do.

mod blobs;
mod contents;
mod definition;
mod drift;
mod entry;
mod error;
mod journal;
mod posted;
mod question;
mod raw;
mod recorded;
mod replay;
mod retention;
mod sleeping;
mod snapshot;
mod together;

pub use blobs::{LARGE, load, loaded};
pub use contents::Contents;
pub use definition::Definition;
pub use drift::{Drift, Migrate, Migration};
pub use entry::{Entry, Happened, Host, instead};
pub use error::DurableError;
pub use flujo_core::machine::Once;
pub use journal::{Durability, FirstSnapshot, Journal, LogPlace, Written};
pub use posted::{Inbox, Posted};
pub use question::Questions;
pub use raw::{Raw, RawIn, RawValue, Uncalled};
pub use recorded::Recorded;
pub use replay::{ForkError, ForkPoint, GoingOn, OpenQuestion, Replay, Restored};
pub use retention::{Purging, Retention};
pub use sleeping::{Sleeping, passed};
pub use snapshot::{Saved, Snapshot, Start};
pub use together::Together;
