//! Run stores: where runs are kept that outlive their process. Here is only what one looks like, without I/O; stores
//! are in `flujo-store`, with the conformance kit that each must pass.
//!
//! A stored run is a snapshot and an ordered log of records that came after it. Both are bytes to a store: it keeps
//! them whole, in order and in the hands of one owner at a time, and knows nothing of what is in them.
//!
//! **Ownership.** A process that runs runs is a *worker*: a row whose counter it raises again and again while it lives.
//! A run that is under way belongs to a worker, and whoever takes it over gets a higher *fencing token*: each write
//! names its token, and one that isn't the run's token any more is refused in its own transaction, so that a worker
//! that was thought dead can't harm what others go on with. Wall time plays no part in it.

mod error;
mod run;

use std::fmt::{self, Debug};
use std::sync::Arc;
use std::time::Duration;

pub use error::StoreError;
pub use run::{
    Blob, BlobId, NewRun, Order, Owner, Page, PurgeQuery, Record, RunInfo, RunQuery, RunStatus, StoredRun,
    Summary, WallTime,
};

use crate::agent::BoxFuture;

/// What a store answers with, later. It may be polled by any executor, on any thread: what blocks, and what needs a
/// runtime, is done on threads of the store's own. Dropping it takes nothing back.
pub type StoreFuture<T> = BoxFuture<'static, Result<T, StoreError>>;

/// A store of runs. All of what one call asks for happens, or none of it; once its future is done it outlasts the end of
/// the process, and that of the machine where the store is on a disk.
pub trait RunStore: Debug + Send + Sync + 'static {
    /// What kind it is, in messages: `sqlite`, `postgres`, `memory`.
    fn kind(&self) -> &'static str;

    /// Where it is, in messages: a file, a server and its database, without passwords.
    fn place(&self) -> String;

    /// Begins a run. With a worker it belongs to it at once; without, it waits to be claimed.
    fn create(&self, run: NewRun, worker: Option<WorkerId>) -> StoreFuture<Created>;

    /// Takes a run, if it is still as `seen` says: with nobody, or with an owner whose counter stands where it stood.
    /// The run's token is raised. [`StoreError::Owned`] when it isn't so any more. Of a run that the worker owns itself
    /// the counter isn't compared: it takes it anew, and what it began with the claim before is fenced.
    fn claim(&self, run: Arc<str>, worker: WorkerId, seen: Seen) -> StoreFuture<Claim>;

    /// Writes to a run that is claimed. Writes of one claim happen in the order they were asked for, whether or not the
    /// one before has been waited for; when one fails, those asked for after it fail too, until the run is claimed again.
    fn write(&self, claim: &Claim, changes: Vec<Change>) -> StoreFuture<()>;

    /// The same for whoever has nothing else to do until it is written: a store may write in the caller's thread, which
    /// waits for the disk then, where that is a matter of less than a millisecond.
    fn write_now(&self, claim: &Claim, changes: Vec<Change>) -> StoreFuture<()> {
        self.write(claim, changes)
    }

    /// What is known of a run without its contents.
    fn info(&self, run: Arc<str>) -> StoreFuture<Option<RunInfo>>;

    /// A run with its contents.
    fn load(&self, run: Arc<str>) -> StoreFuture<StoredRun>;

    /// A blob of a run.
    fn blob(&self, run: Arc<str>, blob: BlobId) -> StoreFuture<Arc<[u8]>>;

    /// Runs, page by page; what it costs grows with the page, not with how many runs there are.
    fn list(&self, query: RunQuery) -> StoreFuture<Page>;

    /// Deletes runs, whole, and tells how many. One that is under way is left, and so is everything of it.
    fn purge(&self, query: PurgeQuery) -> StoreFuture<u64>;

    /// Leaves something for whoever owns the run, or will: an answer, a request to stop.
    fn post(&self, run: Arc<str>, message: Arc<[u8]>) -> StoreFuture<MessageId>;

    /// What has been left for runs that a worker owns, in the order it was left. It stays until
    /// [`Change::Taken`] says that it has been dealt with.
    fn messages(&self, worker: WorkerId) -> StoreFuture<Vec<Message>>;

    /// Makes a worker, with a description of its process.
    fn enlist(&self, process: Process) -> StoreFuture<WorkerId>;

    /// Raises a worker's counter; [`StoreError::UnknownWorker`] when others have struck it off.
    fn beat(&self, worker: WorkerId) -> StoreFuture<()>;

    /// Ends a worker: what it owned is free. Also how a worker is struck off whose process is dead, if its counter is
    /// still what was seen.
    fn dismiss(&self, worker: WorkerId, seen: Option<u64>) -> StoreFuture<bool>;

    /// All workers.
    fn workers(&self) -> StoreFuture<Vec<Worker>>;

    /// Done when all that was asked for before is done.
    fn flush(&self) -> StoreFuture<()>;
}

/// Names a worker; never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub i64);

/// Names a message of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub i64);

/// The process of a worker, so that others on its machine can see whether it is alive, and people know who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// The machine's name.
    pub host: Arc<str>,
    /// The machine's boot, so that a process id means something.
    pub boot: Arc<str>,
    /// The process id.
    pub pid: u32,
    /// When the process began, as its system tells it: process ids are used again.
    pub began: u64,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {}", self.pid, self.host)
    }
}

/// A worker as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its name.
    pub id: WorkerId,
    /// Its process.
    pub process: Process,
    /// Its counter.
    pub beats: u64,
}

/// How a run was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It belongs to nobody.
    Free,
    /// It belongs to a worker, whose counter stood at this number and hasn't moved.
    Owned {
        /// The worker.
        worker: WorkerId,
        /// Its counter.
        beats: u64,
    },
}

/// A run that a worker owns. Each write names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The run.
    pub run: Arc<str>,
    /// Whose it is.
    pub worker: WorkerId,
    /// The fencing token.
    pub token: u64,
}

/// What came of [`RunStore::create`].
#[derive(Debug, Clone, PartialEq)]
pub enum Created {
    /// There was none of that id. Owned when a worker was named.
    New(Option<Claim>),
    /// There is one already; nothing was written.
    Exists(Box<RunInfo>),
}

/// A change to a run that is claimed.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Records behind the last one, in order and without a gap.
    Append(Vec<Record>),
    /// A snapshot of the run after the record of this number: it replaces the one before and all records up to there.
    Snapshot {
        /// The number of the last record that is in it.
        through: u64,
        /// The snapshot.
        body: Arc<[u8]>,
    },
    /// Bytes that records or snapshots refer to; written once for a run, however often they are asked for.
    Blob(Blob),
    /// Of the run's blobs only these stay, and what is written behind it: nothing refers to the others any more.
    Keep(Vec<BlobId>),
    /// How it stands, for lists.
    Summary(Summary),
    /// A message has been dealt with.
    Taken(MessageId),
    /// It belongs to nobody any more; nothing can be written with this claim after it.
    Release,
    /// It is gone, with all that belongs to it.
    Delete,
}

/// Something left for a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Names it.
    pub id: MessageId,
    /// The run.
    pub run: Arc<str>,
    /// What was left.
    pub body: Arc<[u8]>,
}

/// For how long a counter must be seen unchanged, and how often it is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// A worker whose counter hasn't moved for so long is taken for dead.
    pub lasts: Duration,
    /// A worker raises its counter so often.
    pub renewed: Duration,
}

impl Default for Lease {
    /// 10 seconds, renewed every 3.
    fn default() -> Self {
        Self {
            lasts: Duration::from_secs(10),
            renewed: Duration::from_secs(3),
        }
    }
}
