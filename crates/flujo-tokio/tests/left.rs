//! What a process leaves of a run that dies.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::sync::Arc;

use flujo_core::store::{Change, Created, NewRun, Process, Record, RunStatus, RunStore, StoredRun};
use flujo_store::Memory;

/// A store with the first records of a run, as its process would have left it had it died behind them.
pub(crate) async fn first_of(stored: &StoredRun, records: usize) -> Arc<Memory> {
    let store = Arc::new(Memory::new());
    let process = Process {
        host: "here".into(),
        boot: "now".into(),
        pid: 1,
        began: 1,
    };
    let worker = store.enlist(process).await.unwrap();
    let run = NewRun {
        id: Arc::clone(&stored.info.id),
        pipeline: Arc::clone(&stored.info.pipeline),
        definition: Arc::clone(&stored.definition),
        created: stored.info.created,
        forked_from: None,
        status: RunStatus::Running,
        snapshot: Arc::clone(&stored.snapshot),
        blobs: Vec::new(),
    };
    let Created::New(Some(claim)) = store.create(run, Some(worker)).await.unwrap() else {
        panic!("it is there already");
    };
    let kept = (1..)
        .zip(&stored.records[..records])
        .map(|(number, record)| Record {
            number,
            body: Arc::clone(&record.body),
        });
    let changes = vec![Change::Append(kept.collect()), Change::Release];
    store.write(&claim, changes).await.unwrap();
    store
}
