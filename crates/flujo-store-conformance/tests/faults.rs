//! The kit finds what stores get wrong: each fault is planted in a store that is right otherwise.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::sync::Arc;

use flujo_core::store::{
    BlobId, Change, Claim, Created, Message, MessageId, NewRun, Page, Process, PurgeQuery, RunInfo, RunQuery,
    RunStore, Seen, StoreError, StoreFuture, StoredRun, Worker, WorkerId,
};
use flujo_store::Memory;
use flujo_store_conformance::{compare, run};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Says that a write is done, and does it without its last change.
    LosesTheLastChange,
    /// Takes a run from an owner that lives.
    IgnoresCounters,
    /// Writes whatever a stale owner asks for.
    IgnoresTokens,
    /// Shows one run less.
    ForgetsTheEndOfAPage,
    /// Purges what is under way.
    PurgesEverything,
    /// Keeps messages that were dealt with.
    KeepsMessages,
}

#[derive(Debug)]
struct Faulty {
    inner: Arc<Memory>,
    fault: Fault,
}

impl Faulty {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }
}

/// What the store in memory answers at once.
fn at_once<T>(mut asked: StoreFuture<T>) -> Result<T, StoreError> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match asked.as_mut().poll(&mut context) {
        std::task::Poll::Ready(told) => told,
        std::task::Poll::Pending => panic!("it waits"),
    }
}

impl RunStore for Faulty {
    fn kind(&self) -> &'static str {
        "faulty"
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn create(&self, run: NewRun, worker: Option<WorkerId>) -> StoreFuture<Created> {
        self.inner.create(run, worker)
    }

    fn claim(&self, run: Arc<str>, worker: WorkerId, mut seen: Seen) -> StoreFuture<Claim> {
        if let (Seen::Owned { beats, worker }, true) = (&mut seen, self.has(Fault::IgnoresCounters)) {
            let workers = at_once(self.inner.workers()).unwrap();
            *beats = workers
                .iter()
                .find(|known| known.id == *worker)
                .map_or(0, |known| known.beats);
        }
        self.inner.claim(run, worker, seen)
    }

    fn write(&self, claim: &Claim, mut changes: Vec<Change>) -> StoreFuture<()> {
        let mut claim = claim.clone();
        if self.has(Fault::LosesTheLastChange) && changes.len() > 1 {
            changes.pop();
        }
        if self.has(Fault::KeepsMessages) {
            changes.retain(|change| !matches!(change, Change::Taken(_)));
        }
        if self.has(Fault::IgnoresTokens) {
            let info = at_once(self.inner.info(claim.run.clone())).unwrap();
            if let Some(owner) = info.and_then(|info| info.owner) {
                claim.worker = owner.worker;
                let tokens = 1..100;
                let fits = |token: &u64| {
                    let claim = Claim {
                        token: *token,
                        ..claim.clone()
                    };
                    !matches!(
                        at_once(self.inner.write(&claim, Vec::new())),
                        Err(StoreError::Fenced { .. })
                    )
                };
                claim.token = tokens.into_iter().find(fits).unwrap_or(claim.token);
            }
        }
        self.inner.write(&claim, changes)
    }

    fn info(&self, run: Arc<str>) -> StoreFuture<Option<RunInfo>> {
        self.inner.info(run)
    }

    fn load(&self, run: Arc<str>) -> StoreFuture<StoredRun> {
        self.inner.load(run)
    }

    fn blob(&self, run: Arc<str>, blob: BlobId) -> StoreFuture<Arc<[u8]>> {
        self.inner.blob(run, blob)
    }

    fn list(&self, query: RunQuery) -> StoreFuture<Page> {
        let mut page = at_once(self.inner.list(query)).unwrap();
        if self.has(Fault::ForgetsTheEndOfAPage) && page.next.is_some() {
            page.runs.pop();
        }
        Box::pin(std::future::ready(Ok(page)))
    }

    fn purge(&self, query: PurgeQuery) -> StoreFuture<u64> {
        if self.has(Fault::PurgesEverything) {
            for worker in at_once(self.inner.workers()).unwrap() {
                at_once(self.inner.dismiss(worker.id, None)).unwrap();
            }
        }
        self.inner.purge(query)
    }

    fn post(&self, run: Arc<str>, message: Arc<[u8]>) -> StoreFuture<MessageId> {
        self.inner.post(run, message)
    }

    fn messages(&self, worker: WorkerId) -> StoreFuture<Vec<Message>> {
        self.inner.messages(worker)
    }

    fn enlist(&self, process: Process) -> StoreFuture<WorkerId> {
        self.inner.enlist(process)
    }

    fn beat(&self, worker: WorkerId) -> StoreFuture<()> {
        self.inner.beat(worker)
    }

    fn dismiss(&self, worker: WorkerId, seen: Option<u64>) -> StoreFuture<bool> {
        self.inner.dismiss(worker, seen)
    }

    fn workers(&self) -> StoreFuture<Vec<Worker>> {
        self.inner.workers()
    }

    fn flush(&self) -> StoreFuture<()> {
        self.inner.flush()
    }
}

/// An empty place whose store has a fault.
fn place(fault: Fault) -> impl Fn() -> Arc<dyn RunStore> {
    let inner = Arc::new(Memory::new());
    move || {
        let inner = inner.clone();
        Arc::new(Faulty { inner, fault })
    }
}

#[test]
fn every_fault_breaks_the_promise_that_is_about_it() {
    for (fault, promise) in [
        (Fault::LosesTheLastChange, "records come back in order"),
        (
            Fault::IgnoresCounters,
            "a worker whose counter moved keeps its run",
        ),
        (Fault::IgnoresTokens, "a stale owner writes nothing"),
        (
            Fault::ForgetsTheEndOfAPage,
            "a list shows the newest or the oldest first page by page",
        ),
        (Fault::PurgesEverything, "a purge leaves runs under way"),
        (Fault::KeepsMessages, "a message stays until it was dealt with"),
    ] {
        let broken = run(|| place(fault)).unwrap_err().to_string();
        assert!(
            broken.lines().any(|line| line.starts_with(promise)),
            "{fault:?} breaks {broken}"
        );
    }
    run(|| place(Fault::None)).unwrap();
}

#[test]
fn random_histories_find_a_lost_change() {
    compare(|| place(Fault::None), || place(Fault::None), 20).unwrap();
    let told = compare(|| place(Fault::LosesTheLastChange), || place(Fault::None), 200);
    assert!(told.unwrap_err().to_string().contains("Write"));
}
