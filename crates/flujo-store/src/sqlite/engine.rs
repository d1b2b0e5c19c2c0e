//! The threads of a store in one process: those that write, and some that read. They begin when they are first needed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;

use flujo_core::store::{StoreError, StoreFuture};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::SqliteOptions;
use super::failure::{Failure, named};
use super::file::{self, Use};
use super::known::Known;
use super::slot::Slot;
use super::statements::Statements;
use super::writer::{Job, Write, Writer};
use crate::queue::Queue;

/// So many threads read at a time.
const READERS: usize = 2;
/// A store's file, as every thread needs it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) options: SqliteOptions,
}

impl Place {
    pub(super) fn told(&self, failure: Failure, run: Option<&Arc<str>>) -> StoreError {
        failure.told(&self.path, self.options.busy_timeout, run)
    }
}

/// Something to read; then it tells whoever asked, once the connection is free.
type Read = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Tell + Send>;
type Tell = Box<dyn FnOnce()>;

/// The run that something is written for, and the token of its claim.
pub(super) type Whose = (Option<Arc<str>>, Option<u64>);

/// Who writes. The workers' counters have a thread and a connection of their own: the other one may have to wait for
/// those whom it tells that their runs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Runs,
    Workers,
}

/// What is to be written, and what writes it.
#[derive(Default)]
struct Desk {
    queue: OnceLock<Arc<Queue<Write>>>,
    writer: OnceLock<Arc<Mutex<Writer>>>,
}

/// The threads of one process.
#[derive(Default)]
pub(super) struct Engine {
    threads: Mutex<Vec<JoinHandle<()>>>,
    runs: Desk,
    workers: Desk,
    reads: OnceLock<Arc<Queue<Read>>>,
}

impl Engine {
    /// Asks for something to be written.
    pub(super) fn write<T: Send + 'static>(
        &self,
        place: &Arc<Place>,
        of: Of,
        whose: Whose,
        act: impl FnMut(&mut Statements<'_>, &mut Known) -> Result<T, Failure> + Send + 'static,
    ) -> StoreFuture<T> {
        let (write, answered) = asked(whose, act);
        let (queue, _) = self.desk(of, place);
        put(queue, write);
        answered
    }

    /// The same for a run, before whoever asks would go on: in the caller's thread if that takes but a moment.
    pub(super) fn write_now<T: Send + 'static>(
        &self,
        place: &Arc<Place>,
        whose: Whose,
        act: impl FnMut(&mut Statements<'_>, &mut Known) -> Result<T, Failure> + Send + 'static,
    ) -> StoreFuture<T> {
        let (write, answered) = asked(whose, act);
        let (queue, writer) = self.desk(Of::Runs, place);
        if let Some(write) = Writer::here(writer, queue, write) {
            put(queue, write);
        }
        answered
    }

    fn desk(&self, of: Of, place: &Arc<Place>) -> (&Queue<Write>, &Mutex<Writer>) {
        let desk = match of {
            Of::Runs => &self.runs,
            Of::Workers => &self.workers,
        };
        if let (Some(queue), Some(writer)) = (desk.queue.get(), desk.writer.get()) {
            return (queue, writer);
        }
        let new = || Arc::new(Mutex::new(Writer::new(place.clone())));
        let writer = desk.writer.get_or_init(new);
        let (writes, name) = (writer.clone(), "flujo-store-w");
        let work = move |queue: &Queue<Write>, _| Writer::work(&writes, queue);
        (self.queue(&desk.queue, place, name, 1, work), writer)
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
        for desk in [&self.runs, &self.workers] {
            desk.queue.get_or_init(Arc::default).close();
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

/// Something to write that whoever asked for it waits for.
struct Asked<T, A> {
    act: A,
    outcome: Option<T>,
    answer: Option<oneshot::Sender<Result<T, StoreError>>>,
}

impl<T, A> Job for Asked<T, A>
where
    T: Send,
    A: FnMut(&mut Statements<'_>, &mut Known) -> Result<T, Failure> + Send,
{
    fn act(&mut self, at: &mut Statements<'_>, known: &mut Known) -> Result<(), Failure> {
        self.outcome = None;
        self.outcome = Some((self.act)(at, known)?);
        Ok(())
    }

    fn tell(&mut self, written: Result<(), StoreError>) {
        let outcome = self.outcome.take();
        let told = written.and_then(|()| outcome.ok_or_else(|| ended("nothing was done")));
        if let Some(answer) = self.answer.take() {
            // Who asked may have gone: it was written all the same.
            drop(answer.send(told));
        }
    }
}

/// Something to write, and where its answer comes.
fn asked<T: Send + 'static>(
    (run, token): Whose,
    act: impl FnMut(&mut Statements<'_>, &mut Known) -> Result<T, Failure> + Send + 'static,
) -> (Write, StoreFuture<T>) {
    let (answer, answered) = oneshot::channel();
    let job = Box::new(Asked {
        act,
        outcome: None,
        answer: Some(answer),
    });
    (Write { run, token, job }, wait(answered))
}

fn put(queue: &Queue<Write>, write: Write) {
    if let Err(mut write) = queue.push(write) {
        write.job.tell(Err(ended("it is closed")));
    }
}

fn wait<T: Send + 'static>(answered: oneshot::Receiver<Result<T, StoreError>>) -> StoreFuture<T> {
    Box::pin(async {
        answered
            .await
            .unwrap_or_else(|_| Err(ended("its thread has ended")))
    })
}

pub(super) fn ended(reason: &str) -> StoreError {
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

pub(super) fn connected<'c>(
    slot: &'c mut Option<Connection>,
    place: &Place,
    r#use: Use<'_>,
) -> Result<&'c Connection, StoreError> {
    if slot.is_none() {
        let opened = file::open(&place.path, &place.options, r#use);
        *slot = Some(opened.map_err(|failure| place.told(failure, None))?);
    }
    slot.as_ref().ok_or_else(|| ended(&named(&place.path)))
}
