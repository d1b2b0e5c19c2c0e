//! What tests write and look for.

use std::future::Future;
use std::sync::Arc;

use flujo_core::store::{
    Change, Claim, Created, NewRun, Process, Record, RunStatus, RunStore, Seen, StoreError, StoredRun,
    WorkerId,
};

/// Runs a future to its end, without a runtime's clock.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(future)
}

pub(crate) fn process(pid: u32) -> Process {
    Process {
        host: "elsewhere".into(),
        boot: "boot".into(),
        pid,
        began: 1,
    }
}

pub(crate) fn new(run: &str) -> NewRun {
    NewRun {
        id: run.into(),
        pipeline: "tests".into(),
        definition: b"definition".as_slice().into(),
        created: 1,
        forked_from: None,
        status: RunStatus::Running,
        snapshot: b"begin".as_slice().into(),
        blobs: Vec::new(),
    }
}

pub(crate) fn enlist(store: &dyn RunStore) -> WorkerId {
    wait(store.enlist(process(1))).unwrap()
}

/// A new run, or one that is there, for this worker.
pub(crate) fn have(store: &dyn RunStore, run: &str, worker: WorkerId) -> Claim {
    match wait(store.create(new(run), Some(worker))).unwrap() {
        Created::New(claim) => claim.unwrap(),
        Created::Exists(info) => {
            let seen = info.owner.map_or(Seen::Free, |owner| Seen::Owned {
                worker: owner.worker,
                beats: owner.beats,
            });
            wait(store.claim(run.into(), worker, seen)).unwrap()
        }
    }
}

/// What record `number` of a run holds, so many bytes of it.
pub(crate) fn body(run: &str, number: u64, size: usize) -> Arc<[u8]> {
    let word = format!("{run} {number} ").into_bytes();
    word.into_iter().cycle().take(size).collect()
}

pub(crate) fn append(run: &str, number: u64, size: usize) -> Change {
    let body = body(run, number, size);
    Change::Append(vec![Record { number, body }])
}

pub(crate) fn write(store: &dyn RunStore, claim: &Claim, number: u64, size: usize) -> Result<(), StoreError> {
    wait(store.write_now(claim, vec![append(&claim.run, number, size)]))
}

pub(crate) fn load(store: &dyn RunStore, run: &str) -> Result<StoredRun, StoreError> {
    wait(store.load(run.into()))
}

/// The run's records are the first so many, each as it was written; tells how many.
pub(crate) fn whole(store: &dyn RunStore, run: &str, size: usize) -> u64 {
    let stored = load(store, run).unwrap();
    for (number, record) in (1..).zip(&stored.records) {
        assert_eq!((record.number, &record.body), (number, &body(run, number, size)));
    }
    assert_eq!(stored.info.last_record, stored.records.len() as u64);
    stored.info.last_record
}
