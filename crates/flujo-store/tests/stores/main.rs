//! Every store keeps the promises of the conformance kit, and what it has told is written survives what can happen.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test fails by panicking

mod behind;
mod child;
mod damage;
#[cfg(unix)]
mod killed;
mod kills;
mod locks;
mod postgres;
mod power;
mod room;
mod runs;
mod seal;
mod served;
mod server;
#[cfg(unix)]
mod taken_over;
mod versions;
mod worker;

use std::sync::Arc;

use flujo_core::store::RunStore;
use flujo_store::{Memory, Sqlite};
use flujo_store_conformance::{Place, compare, run};

/// A folder with a file of runs.
struct File(tempfile::TempDir);

impl File {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Place for File {
    fn open(&self) -> Arc<dyn RunStore> {
        Arc::new(Sqlite::open(self.0.path().join("runs.db")).unwrap())
    }
}

fn memory() -> impl Place {
    let store: Arc<dyn RunStore> = Arc::new(Memory::new());
    move || store.clone()
}

#[test]
fn memory_keeps_every_promise() {
    run(memory).unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn sqlite_keeps_every_promise() {
    run(File::new).unwrap_or_else(|broken| panic!("{broken}"));
}

#[test]
fn sqlite_and_memory_answer_alike_whatever_happens() {
    compare(File::new, memory, 32).unwrap_or_else(|broken| panic!("{broken}"));
}
