//! The threads of a store in one process: one that writes, and some that read. They begin when they are first needed.
//!
//! **Group commit.** Whatever has been asked for while a transaction was being written goes into the next one: a hundred
//! runs that each wait for their own record share a wait for the disk. They were told together that they may go on, so
//! they ask again one after the other: each is written as it comes, while the next one is still at work, and the
//! transaction ends when as many have come as the last time, or nobody comes any more. One that is refused is refused
//! before it has written anything, and leaves the others alone; when one fails half-way, all of them are done again, each
//! by itself.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flujo_core::store::{StoreError, StoreFuture};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::failure::{Failure, named};
use super::file::{self, Use};
use super::known::Known;
use super::slot::Slot;
use super::{SqliteOptions, wal};
use crate::failed::Failed;
use crate::queue::Queue;

/// So many threads read at a time.
const READERS: usize = 2;
/// So many requests share a transaction at most.
const GROUP: usize = 512;
/// A transaction waits no longer than this for the next one of those that are expected: less than a disk takes.
const MOMENT: Duration = Duration::from_micros(100);
/// Nor longer than this for all of them: other processes write into the file too.
const PATIENCE: Duration = Duration::from_millis(2);

/// A store's file, as every thread needs it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) options: SqliteOptions,
}

impl Place {
    fn told(&self, failure: Failure, run: Option<&Arc<str>>) -> StoreError {
        failure.told(&self.path, self.options.busy_timeout, run)
    }
}

/// Something to write. It may be done more than once: when the transaction around it is lost.
pub(super) struct Write {
    pub(super) run: Option<Arc<str>>,
    /// The token of the claim it belongs to: when one fails, those behind it do too.
    pub(super) token: Option<u64>,
    act: Act,
    /// Tells whoever asked: what `act` came to, or why nothing was written.
    done: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
}

/// What a write came to.
type Told = Option<Result<(), StoreError>>;

type Act = Box<dyn FnMut(&Connection, &mut Known) -> Result<(), Failure> + Send>;

/// Something to read; then it tells whoever asked, once the connection is free.
type Read = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Tell + Send>;
type Tell = Box<dyn FnOnce()>;

/// Who writes. The workers' counters have a thread and a connection of their own: the other one may have to wait for
/// those whom it tells that their runs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Runs,
    Workers,
}

/// The threads of one process.
#[derive(Default)]
pub(super) struct Engine {
    threads: Mutex<Vec<JoinHandle<()>>>,
    runs: OnceLock<Arc<Queue<Write>>>,
    workers: OnceLock<Arc<Queue<Write>>>,
    reads: OnceLock<Arc<Queue<Read>>>,
}

impl Engine {
    /// Asks for something to be written.
    pub(super) fn write<T: Send + 'static>(
        &self,
        place: &Arc<Place>,
        of: Of,
        run: Option<Arc<str>>,
        token: Option<u64>,
        mut act: impl FnMut(&Connection, &mut Known) -> Result<T, Failure> + Send + 'static,
    ) -> StoreFuture<T> {
        let (answer, answered) = oneshot::channel();
        let outcome = Arc::new(Mutex::new(None));
        let kept = outcome.clone();
        let done = move |written: Result<(), StoreError>| {
            let outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
            let told = written.and_then(|()| outcome.ok_or_else(|| ended("nothing was done")));
            // Who asked may have gone: it was written all the same.
            drop(answer.send(told));
        };
        let write = Write {
            run,
            token,
            act: Box::new(move |connection, known| {
                let outcome = act(connection, known)?;
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
                Ok(())
            }),
            done: Box::new(done),
        };
        let queue = match of {
            Of::Runs => &self.runs,
            Of::Workers => &self.workers,
        };
        let work = |queue: &Queue<Write>, place| Writer::new(place).work(queue);
        let queue = self.queue(queue, place, "flujo-store-w", 1, work);
        if let Err(write) = queue.push(write) {
            (write.done)(Err(ended("it is closed")));
        }
        wait(answered)
    }

    /// Asks for something to be read, in a transaction of its own.
    pub(super) fn read<T: Send + 'static>(
        &self,
        place: &Arc<Place>,
        run: Option<Arc<str>>,
        act: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> StoreFuture<T> {
        let (answer, answered) = oneshot::channel();
        let at = place.clone();
        let read = move |connection: Result<&Connection, StoreError>| {
            let found = connection.and_then(|connection| {
                let read = || {
                    let transaction = connection.unchecked_transaction()?;
                    let found = act(&transaction);
                    // There is nothing to commit, and what can't be read would be told again.
                    transaction.rollback()?;
                    found
                };
                read().map_err(|failure| at.told(failure, run.as_ref()))
            });
            let tell: Tell = Box::new(move || drop(answer.send(found)));
            tell
        };
        let queue = self.queue(&self.reads, place, "flujo-store-r", READERS, |queue, place| {
            answer_reads(queue, &place);
        });
        if let Err(read) = queue.push(Box::new(read)) {
            read(Err(ended("it is closed")))();
        }
        wait(answered)
    }

    /// Lets the threads finish what has been asked for, and waits for them, unless it is one of them that asks.
    pub(super) fn close(&self) {
        self.let_end();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.thread().id() != std::thread::current().id() {
                drop(thread.join());
            }
        }
    }

    fn let_end(&self) {
        // A queue that nobody has used is closed too.
        for queue in [&self.runs, &self.workers] {
            queue.get_or_init(Arc::default).close();
        }
        self.reads.get_or_init(Arc::default).close();
    }

    /// A queue; its threads begin when it is first asked for.
    fn queue<'q, T: Send + 'static>(
        &self,
        queue: &'q OnceLock<Arc<Queue<T>>>,
        place: &Arc<Place>,
        name: &str,
        count: usize,
        work: impl FnOnce(&Queue<T>, Arc<Place>) + Clone + Send + 'static,
    ) -> &'q Queue<T> {
        queue.get_or_init(|| {
            let queue = Arc::<Queue<T>>::default();
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            let before = threads.len();
            for _ in 0..count {
                let (queue, place, work) = (queue.clone(), place.clone(), work.clone());
                let thread = std::thread::Builder::new().name(name.to_owned());
                threads.extend(thread.spawn(move || work(&queue, place)));
            }
            if threads.len() == before {
                queue.close();
            }
            queue
        })
    }
}

impl Drop for Engine {
    /// What has been asked for is done all the same; nobody waits for it.
    fn drop(&mut self) {
        self.let_end();
    }
}

fn wait<T: Send + 'static>(answered: oneshot::Receiver<Result<T, StoreError>>) -> StoreFuture<T> {
    Box::pin(async {
        answered
            .await
            .unwrap_or_else(|_| Err(ended("its thread has ended")))
    })
}

fn ended(reason: &str) -> StoreError {
    StoreError::Other {
        place: "the store of runs".to_owned(),
        reason: reason.to_owned(),
    }
}

/// A reading thread.
fn answer_reads(queue: &Queue<Read>, place: &Place) {
    let slot = Slot::new();
    while let Some(reads) = queue.take(1) {
        for read in reads {
            let mut connection = slot.lock();
            file::be_patient(place.options.busy_timeout);
            let tell = read(connected(&mut connection, place, Use::Reading));
            drop(connection);
            tell();
        }
    }
}

fn connected<'c>(
    slot: &'c mut Option<Connection>,
    place: &Place,
    r#use: Use,
) -> Result<&'c Connection, StoreError> {
    if slot.is_none() {
        let opened = file::open(&place.path, &place.options, r#use);
        *slot = Some(opened.map_err(|failure| place.told(failure, None))?);
    }
    slot.as_ref().ok_or_else(|| ended(&named(&place.path)))
}

/// The writing thread.
struct Writer {
    place: Arc<Place>,
    slot: Arc<Slot>,
    failed: Failed,
    known: Known,
    log: wal::Watch,
}

impl Writer {
    fn new(place: Arc<Place>) -> Self {
        Self {
            slot: Slot::new(),
            failed: Failed::default(),
            known: Known::default(),
            log: wal::Watch::new(&place),
            place,
        }
    }

    fn work(mut self, queue: &Queue<Write>) {
        let mut expected = 1;
        while let Some(mut writes) = queue.take(GROUP) {
            let mut told = vec![None; writes.len()];
            let slot = self.slot.clone();
            let mut connection = slot.lock();
            let begin = Instant::now();
            let mut more = |so_far: usize| {
                let waits = so_far < expected && begin.elapsed() < PATIENCE;
                queue.meanwhile(
                    GROUP.saturating_sub(so_far),
                    if waits { MOMENT } else { Duration::ZERO },
                )
            };
            self.group(&mut connection, &mut writes, &mut told, &mut more);
            expected = writes.len();
            // Whoever is woken may want what another thread has.
            drop(connection);
            for (write, told) in writes.into_iter().zip(told) {
                (write.done)(told.unwrap_or_else(|| Err(ended("nothing was done"))));
            }
        }
        if let Some(connection) = self.slot.lock().take() {
            wal::cut(&connection);
        }
    }

    fn group(
        &mut self,
        slot: &mut Option<Connection>,
        writes: &mut Vec<Write>,
        told: &mut Vec<Told>,
        more: &mut dyn FnMut(usize) -> Vec<Write>,
    ) {
        file::be_patient(self.place.options.busy_timeout);
        if slot.is_none() {
            self.known.forget();
        }
        let connection = match connected(slot, &self.place, Use::Writing) {
            Ok(connection) => connection,
            Err(error) => return told.fill(Some(Err(error))),
        };
        if !self.transaction(connection, writes, told, more) {
            // What one of them met (no room, say) took the others with it: each by itself, in the same order.
            for (write, told) in std::mem::take(writes).into_iter().zip(told.iter_mut()) {
                file::be_patient(self.place.options.busy_timeout);
                let (mut alone, mut of_it) = (vec![write], vec![None]);
                self.transaction(connection, &mut alone, &mut of_it, &mut |_| Vec::new());
                *told = of_it.pop().flatten();
                writes.append(&mut alone);
            }
        }
        self.log.written(connection);
        // A connection that the system failed is not asked again.
        let unreachable = |told: &Option<_>| matches!(told, Some(Err(StoreError::Unreachable { .. })));
        if told.iter().any(unreachable) {
            *slot = None;
        }
    }

    /// Writes them in one transaction, with those that come meanwhile. `false` when it was lost and they are to be tried one
    /// by one.
    fn transaction(
        &mut self,
        connection: &Connection,
        writes: &mut Vec<Write>,
        told: &mut Vec<Told>,
        more: &mut dyn FnMut(usize) -> Vec<Write>,
    ) -> bool {
        let begun = execute(connection, "BEGIN IMMEDIATE").and_then(|()| self.known.begin(connection));
        if let Err(failure) = begun {
            self.lose(connection);
            let error = self.place.told(failure, None);
            for (write, told) in writes.iter().zip(told) {
                *told = Some(Err(self.fails(write, error.clone())));
            }
            return true;
        }
        self.log.make_room();
        let (before, mut done) = (self.failed.clone(), 0);
        loop {
            if done == writes.len() {
                writes.append(&mut more(done));
                told.resize(writes.len(), None);
            }
            let alone = writes.len() == 1;
            let (Some(write), Some(told)) = (writes.get_mut(done), told.get_mut(done)) else {
                break;
            };
            let passes = self.failed.passes(write.run.as_ref(), write.token);
            let written = match passes.map(|()| (write.act)(connection, &mut self.known)) {
                Ok(Ok(())) => Ok(()),
                // Refused before it wrote anything.
                Ok(Err(failure)) if failure.is_refusal() => Err(self.place.told(failure, write.run.as_ref())),
                Ok(Err(failure)) => {
                    self.lose(connection);
                    if !alone {
                        self.failed = before;
                        return false;
                    }
                    let error = self.place.told(failure, write.run.as_ref());
                    *told = Some(Err(self.fails(write, error)));
                    return true;
                }
                Err(error) => Err(error),
            };
            *told = Some(written.map_err(|error| self.fails(write, error)));
            done += 1;
        }
        let Err(failure) = execute(connection, "COMMIT") else {
            return true;
        };
        self.lose(connection);
        if let ([write], [told]) = (&**writes, &mut **told) {
            if !matches!(told, Some(Err(_))) {
                let error = self.place.told(failure, write.run.as_ref());
                *told = Some(Err(self.fails(write, error)));
            }
            return true;
        }
        self.failed = before;
        false
    }

    /// Takes back what a transaction has done, if it isn't taken back yet.
    fn lose(&mut self, connection: &Connection) {
        self.known.forget();
        // Some failures take the transaction back by themselves.
        if !connection.is_autocommit() {
            drop(execute(connection, "ROLLBACK"));
        }
    }

    /// Notes that a write failed, so that those behind it do.
    fn fails(&mut self, write: &Write, error: StoreError) -> StoreError {
        self.failed.note(write.run.as_ref(), write.token, &error);
        error
    }
}

fn execute(connection: &Connection, sql: &str) -> Result<(), Failure> {
    connection.prepare_cached(sql)?.execute(())?;
    Ok(())
}
