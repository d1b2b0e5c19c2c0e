//! Where runs are kept that outlive their process: in memory, in a `SQLite` file. Each is a
//! [`RunStore`](flujo_core::store::RunStore) and passes the conformance kit, `flujo-store-conformance`.
//!
//! What is in a run is bytes to a store. Everything that waits (a disk, a lock, a server) does so on threads of the
//! store's own, which begin when they are first needed and are made anew in a process that a fork has made.

mod log;
mod memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;
mod sum;
mod worker;

pub use memory::Memory;
#[cfg(feature = "sqlite")]
pub use sqlite::{Sqlite, SqliteOptions};
pub use worker::WorkerHandle;
