//! Runs in one `SQLite` file, for any number of processes of one machine.
//!
//! What was written is on the disk when its future is done: the file's log is synced with each transaction. Reads wait
//! for nobody.

mod end;
mod engine;
mod failure;
mod file;
mod known;
mod list;
mod purge;
mod read;
mod slot;
mod statements;
#[cfg(test)]
mod tests;
mod wal;
mod write;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flujo_core::store::{
    BlobId, Change, Claim, Created, Message, MessageId, NewRun, Page, Process, PurgeQuery, RunInfo, RunQuery,
    RunStore, Seen, StoreError, StoreFuture, StoredRun, Worker, WorkerId,
};
use flujo_shared::process::PerProcess;

use self::engine::{Engine, Of, Place, Whose};
use self::failure::named;
use self::known::Known;
use self::slot::Slot;
pub use self::slot::{after_fork, before_fork};
use self::statements::Statements;

/// How a file of runs is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// For how long a call waits for what other processes write.
    pub busy_timeout: Duration,
    /// The file never becomes larger than this, in bytes: [`StoreError::Full`] instead.
    pub max_bytes: Option<u64>,
    /// The log beside the file is emptied when it is larger than this, in bytes, as soon as readers let it.
    pub max_wal_bytes: u64,
}

impl Default for SqliteOptions {
    /// 5 seconds; as large as the disk lets it; 64 MB.
    fn default() -> Self {
        Self {
            busy_timeout: Duration::from_secs(5),
            max_bytes: None,
            max_wal_bytes: 64_000_000,
        }
    }
}

/// Runs in one file.
///
/// A commit waits for the disk. Compiled with `LIBSQLITE3_FLAGS="-DHAVE_FDATASYNC=1"` in the environment, or in `[env]` of
/// `.cargo/config.toml` as in Flujo's own repository, `SQLite` waits for what it has written alone (`fdatasync`), and not for
/// the time at which the file was changed last.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// use flujo_core::store::{RunQuery, RunStore};
/// use flujo_store::Sqlite;
///
/// let store = Sqlite::open(folder.path().join("runs.db"))?;
/// let page = store.list(RunQuery::default()); // a future, for any executor
/// # drop(page);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Sqlite {
    place: Arc<Place>,
    engine: PerProcess<Engine>,
}

impl Sqlite {
    /// Opens a file, or makes it, readable by its owner alone, with the folders above it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        Self::with(path, SqliteOptions::default())
    }

    /// The same with options.
    pub fn with(path: impl Into<PathBuf>, options: SqliteOptions) -> Result<Self, StoreError> {
        let path = path.into();
        // While this is held the process doesn't fork.
        let slot = Slot::new();
        let preparing = slot.lock();
        file::prepare(&path, &options)?;
        drop(preparing);
        Ok(Self {
            place: Arc::new(Place { path, options }),
            engine: PerProcess::default(),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.place.path
    }

    /// Does what has been asked for, empties the log into the file and closes it; nothing is done after it. Blocks. A
    /// store that is dropped does the same, and nobody waits for it.
    pub fn close(&self) {
        self.engine.get().close();
    }

    fn read<T: Send + 'static>(
        &self,
        run: Option<Arc<str>>,
        act: impl FnOnce(&rusqlite::Connection) -> Result<T, failure::Failure> + Send + 'static,
    ) -> StoreFuture<T> {
        self.engine.get().read(&self.place, run, act)
    }

    fn write<T: Send + 'static>(
        &self,
        run: Option<Arc<str>>,
        mut act: impl FnMut(&rusqlite::Connection, &mut Known) -> Result<T, failure::Failure> + Send + 'static,
    ) -> StoreFuture<T> {
        let act = move |at: &mut Statements<'_>, known: &mut Known| act(at.connection, known);
        self.engine.get().write(&self.place, Of::Runs, (run, None), act)
    }

    fn of_workers<T: Send + 'static>(
        &self,
        mut act: impl FnMut(&rusqlite::Connection) -> Result<T, failure::Failure> + Send + 'static,
    ) -> StoreFuture<T> {
        let act = move |at: &mut Statements<'_>, _: &mut Known| act(at.connection);
        self.engine
            .get()
            .write(&self.place, Of::Workers, (None, None), act)
    }
}

/// What is to be written with a claim, and whose it is.
fn claimed(
    claim: &Claim,
    changes: Vec<Change>,
) -> (
    Whose,
    impl FnMut(&mut Statements<'_>, &mut Known) -> Result<(), failure::Failure> + Send + 'static,
) {
    let claim = claim.clone();
    let of = (Some(claim.run.clone()), Some(claim.token));
    (of, move |at, known| write::write(at, known, &claim, &changes))
}

impl RunStore for Sqlite {
    fn kind(&self) -> &'static str {
        "sqlite"
    }

    fn place(&self) -> String {
        named(&self.place.path)
    }

    fn create(&self, run: NewRun, worker: Option<WorkerId>) -> StoreFuture<Created> {
        let (id, place) = (run.id.clone(), self.place());
        self.write(Some(id), move |connection, _| {
            write::create(connection, &run, worker, &place)
        })
    }

    fn claim(&self, run: Arc<str>, worker: WorkerId, seen: Seen) -> StoreFuture<Claim> {
        let place = self.place();
        self.write(Some(run.clone()), move |connection, known| {
            write::claim(connection, known, &run, worker, seen, &place)
        })
    }

    fn write(&self, claim: &Claim, changes: Vec<Change>) -> StoreFuture<()> {
        let (of, act) = claimed(claim, changes);
        self.engine.get().write(&self.place, Of::Runs, of, act)
    }

    fn write_now(&self, claim: &Claim, changes: Vec<Change>) -> StoreFuture<()> {
        let (of, act) = claimed(claim, changes);
        self.engine.get().write_now(&self.place, of, act)
    }

    fn info(&self, run: Arc<str>) -> StoreFuture<Option<RunInfo>> {
        self.read(Some(run.clone()), move |connection| read::info(connection, &run))
    }

    fn load(&self, run: Arc<str>) -> StoreFuture<StoredRun> {
        self.read(Some(run.clone()), move |connection| read::load(connection, &run))
    }

    fn blob(&self, run: Arc<str>, blob: BlobId) -> StoreFuture<Arc<[u8]>> {
        self.read(Some(run.clone()), move |connection| {
            read::blob(connection, &run, blob)
        })
    }

    fn list(&self, query: RunQuery) -> StoreFuture<Page> {
        self.read(None, move |connection| list::list(connection, &query))
    }

    fn purge(&self, query: PurgeQuery) -> StoreFuture<u64> {
        self.write(query.run.clone(), move |connection, known| {
            purge::purge(connection, known, &query)
        })
    }

    fn post(&self, run: Arc<str>, message: Arc<[u8]>) -> StoreFuture<MessageId> {
        self.write(Some(run.clone()), move |connection, _| {
            write::post(connection, &run, &message)
        })
    }

    fn messages(&self, worker: WorkerId) -> StoreFuture<Vec<Message>> {
        self.read(None, move |connection| read::messages(connection, worker))
    }

    fn enlist(&self, process: Process) -> StoreFuture<WorkerId> {
        self.of_workers(move |connection| write::enlist(connection, &process))
    }

    fn beat(&self, worker: WorkerId) -> StoreFuture<()> {
        let place = self.place();
        self.of_workers(move |connection| write::beat(connection, worker, &place))
    }

    fn dismiss(&self, worker: WorkerId, seen: Option<u64>) -> StoreFuture<bool> {
        self.of_workers(move |connection| write::dismiss(connection, worker, seen))
    }

    fn workers(&self) -> StoreFuture<Vec<Worker>> {
        self.of_workers(read::workers)
    }

    fn flush(&self) -> StoreFuture<()> {
        self.write(None, |_, _| Ok(()))
    }
}

impl fmt::Debug for Sqlite {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Sqlite")
            .field("path", &self.place.path)
            .field("options", &self.place.options)
            .finish_non_exhaustive()
    }
}
