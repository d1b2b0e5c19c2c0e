//! Where runs are kept that outlive their process: in memory, in a `SQLite` file, on a `PostgreSQL`
//! server. Each is a
//! [`RunStore`](flujo_core::store::RunStore) and passes the conformance kit, `flujo-store-conformance`.
//!
//! What is in a run is bytes to a store. Everything that waits (a disk, a lock, a server) does so on threads of the
//! store's own, which begin when they are first needed and are made anew in a process that a fork has made.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod failed;
mod log;
mod memory;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod queue;
pub mod runs;
#[cfg(feature = "encryption")]
mod seal;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sum;
mod worker;

pub use memory::Memory;
#[cfg(feature = "postgres")]
pub use postgres::{Postgres, PostgresOptions};
#[cfg(feature = "encryption")]
pub use seal::{Key, Sealed};
#[cfg(feature = "sqlite")]
pub use sqlite::{Sqlite, SqliteOptions};
pub use worker::{Listening, WorkerHandle, do_anyway};
