//! What the promises are written with.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use flujo_core::store::{
    Blob, Change, Claim, Created, NewRun, Process, Record, RunStatus, RunStore, StoreError, StoredRun,
    Summary, WorkerId,
};
use flujo_core::usage::{Cost, Usage};

use crate::{Broken, Place};

/// Fails the promise unless the two are equal.
macro_rules! equal {
    ($left:expr, $right:expr) => {{
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err($crate::Broken(format!(
                "{} is {left:?}, not {right:?} (line {} of {})",
                stringify!($left),
                line!(),
                file!()
            )));
        }
    }};
}

/// Fails the promise unless the pattern fits.
macro_rules! fits {
    ($value:expr, $pattern:pat $(if $guard:expr)?) => {{
        let value = &$value;
        if !matches!(value, $pattern $(if $guard)?) {
            return Err($crate::Broken(format!(
                "{} is {value:?}, not {} (line {} of {})",
                stringify!($value), stringify!($pattern $(if $guard)?), line!(), file!()
            )));
        }
    }};
}

pub(crate) use {equal, fits};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future on this thread until it is done.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

/// A store with a worker of its own, asked and waited for.
pub(crate) struct Asked {
    pub(crate) store: Arc<dyn RunStore>,
    pub(crate) worker: WorkerId,
}

impl Asked {
    pub(crate) fn open(place: &dyn Place) -> Result<Self, Broken> {
        let store = place.open();
        let worker = wait(store.enlist(process(1)))?;
        Ok(Self { store, worker })
    }

    /// A new run of the pipeline `checks` that this worker owns.
    pub(crate) fn begin(&self, run: &str) -> Result<Claim, Broken> {
        self.begin_as(new(run))
    }

    pub(crate) fn begin_as(&self, new: NewRun) -> Result<Claim, Broken> {
        match wait(self.store.create(new, Some(self.worker)))? {
            Created::New(Some(claim)) => Ok(claim),
            other => Err(Broken(format!("a new run with a worker gave {other:?}"))),
        }
    }

    pub(crate) fn write(&self, claim: &Claim, changes: Vec<Change>) -> Result<(), StoreError> {
        wait(self.store.write_now(claim, changes))
    }

    pub(crate) fn load(&self, run: &str) -> Result<StoredRun, StoreError> {
        wait(self.store.load(run.into()))
    }

    /// How often this worker, or another one, is said to have raised its counter.
    pub(crate) fn beats(&self, worker: WorkerId) -> Result<u64, Broken> {
        let workers = wait(self.store.workers())?;
        let found = workers.iter().find(|known| known.id == worker);
        found
            .map(|known| known.beats)
            .ok_or_else(|| Broken(format!("{worker:?} isn't listed")))
    }
}

pub(crate) fn process(pid: u32) -> Process {
    Process {
        host: "host".into(),
        boot: "boot".into(),
        pid,
        began: u64::from(pid) * 7,
    }
}

pub(crate) fn new(run: &str) -> NewRun {
    NewRun {
        id: run.into(),
        pipeline: "checks".into(),
        definition: bytes(b"definition"),
        created: 1000,
        forked_from: None,
        status: RunStatus::Running,
        snapshot: bytes(b"first"),
        blobs: Vec::new(),
    }
}

pub(crate) fn bytes(body: &[u8]) -> Arc<[u8]> {
    body.into()
}

pub(crate) fn blob(body: &[u8]) -> Blob {
    Blob::of(body.into())
}

pub(crate) fn record(number: u64) -> Record {
    let body = format!("record {number}").into_bytes().into();
    Record { number, body }
}

/// Records of these numbers.
pub(crate) fn append(numbers: impl IntoIterator<Item = u64>) -> Change {
    Change::Append(numbers.into_iter().map(record).collect())
}

pub(crate) fn summary(status: RunStatus, updated: i64) -> Summary {
    Summary {
        status,
        updated,
        due: None,
        steps: 3,
        usage: Usage {
            cost: Cost::from_nanos(12_345).unwrap_or(Cost::ZERO),
            tokens: u64::MAX,
            requests: 4,
            unpriced: true,
        },
        message: Some("it \u{1f426} asks".into()),
    }
}

/// The numbers of a run's records.
pub(crate) fn numbers(run: &StoredRun) -> Vec<u64> {
    run.records.iter().map(|record| record.number).collect()
}
