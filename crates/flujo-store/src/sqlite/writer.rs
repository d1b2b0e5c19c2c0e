//! Writing, by one thread at a time: the store's own, or whoever asks for it while nobody else does.
//!
//! **Group commit.** Whatever has been asked for while a transaction was being written goes into the next one: a hundred
//! runs that each wait for their own record share a wait for the disk. They were told together that they may go on, so
//! they ask again one after the other: each is written as it comes, while the next one is still at work, and the
//! transaction ends when as many have come as the last time, or nobody comes any more. One that is refused is refused
//! before it has written anything, and leaves the others alone; when one fails half-way, all of them are done again, each
//! by itself.
//!
//! **Alone.** A run that has the file to itself waits for the disk in its own thread, where that is a matter of less than a
//! millisecond: that two threads wake each other takes a sixth of what a disk does that takes 0.2 ms. Now and then, and for
//! all that may take longer, it waits as the others do, so that its thread has time for what else it is there for.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flujo_core::store::StoreError;
use rusqlite::Connection;

use super::engine::{Place, connected, ended};
use super::failure::Failure;
use super::file::{self, Use};
use super::known::Known;
use super::slot::Slot;
use super::statements::Statements;
use super::wal;
use crate::failed::Failed;
use crate::queue::Queue;

/// So many requests share a transaction at most.
const GROUP: usize = 512;
/// A transaction waits no longer than this for the next one of those that are expected: less than a disk takes.
const MOMENT: Duration = Duration::from_micros(100);
/// Nor longer than this for all of them: other processes write into the file too.
const PATIENCE: Duration = Duration::from_millis(2);
/// Of those that are expected it waits for so many at a time: they come on the processor that it would take.
const WANTED: usize = 32;
/// Nobody waits in a thread of their own for a disk that takes longer than this.
const SHORT: Duration = Duration::from_millis(1);
/// Nor longer than this before the thread has had time for something else.
const IN_A_ROW: Duration = Duration::from_millis(2);

/// Something to write.
pub(super) struct Write {
    pub(super) run: Option<Arc<str>>,
    /// The token of the claim it belongs to: when one fails, those behind it do too.
    pub(super) token: Option<u64>,
    pub(super) job: Box<dyn Job>,
}

/// What is done inside a transaction.
pub(super) trait Job: Send {
    /// Does it: more than once, when the transaction around it is lost.
    fn act(&mut self, at: &mut Statements<'_>, known: &mut Known) -> Result<(), Failure>;

    /// Tells whoever asked: what it came to, or why nothing was written. Only the first time counts.
    fn tell(&mut self, written: Result<(), StoreError>);
}

/// What a write came to.
type Told = Option<Result<(), StoreError>>;

/// What comes meanwhile, after so many.
type More<'m> = &'m mut dyn FnMut(usize) -> Vec<Write>;

/// Writes into one file.
pub(super) struct Writer {
    place: Arc<Place>,
    slot: Arc<Slot>,
    failed: Failed,
    known: Known,
    log: wal::Watch,
    /// How many shared the last transaction.
    shared: usize,
    /// The run that has written last, if it was the only one.
    alone: Option<Arc<str>>,
    /// How long a transaction takes that nobody shares.
    takes: Duration,
    /// How long those have waited who wrote in their own threads, since the store's own one did.
    in_a_row: Duration,
}

impl Writer {
    pub(super) fn new(place: Arc<Place>) -> Self {
        Self {
            slot: Slot::new(),
            failed: Failed::default(),
            known: Known::default(),
            log: wal::Watch::new(&place),
            place,
            shared: 1,
            alone: None,
            takes: SHORT,
            in_a_row: Duration::ZERO,
        }
    }

    /// The store's own thread.
    pub(super) fn work(writer: &Mutex<Self>, queue: &Queue<Write>) {
        let lock = || writer.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.wait() {
            // What is taken from the queue is written before anybody else writes.
            let written = lock().written(queue);
            tell(written);
            lock().tidy_up();
        }
        if let Some(connection) = lock().slot.lock().take() {
            wal::cut(&connection);
        }
    }

    /// Writes one in the caller's thread, where that takes but a moment, and tells of it; else gives it back.
    pub(super) fn here(writer: &Mutex<Self>, queue: &Queue<Write>, write: Write) -> Option<Write> {
        let Ok(mut this) = writer.try_lock() else {
            return Some(write);
        };
        // Nothing is between the queue and the writer while this one is held.
        let short = this.takes < SHORT && this.in_a_row < IN_A_ROW && !this.log.wants_care();
        if !short || this.alone != write.run || write.run.is_none() || !queue.is_idle() {
            return Some(write);
        }
        match this.alone_here(write) {
            Ok(written) => {
                drop(this);
                tell(written);
                None
            }
            Err(write) => Some(write),
        }
    }

    /// `Err` when others hold the file.
    fn alone_here(&mut self, write: Write) -> Result<Vec<(Write, Told)>, Write> {
        let slot = self.slot.clone();
        let mut slot = slot.lock();
        let Some(connection) = &*slot else {
            return Err(write);
        };
        file::be_patient(Duration::ZERO);
        let begin = Instant::now();
        if self.begin(connection).is_err() {
            return Err(write);
        }
        let (mut writes, mut told) = (vec![write], vec![None]);
        self.fill(connection, &mut writes, &mut told, &mut |_| Vec::new());
        self.log.written();
        let took = begin.elapsed();
        self.took(took);
        self.in_a_row += took;
        if is_unreachable(&told) {
            *slot = None;
        }
        Ok(writes.into_iter().zip(told).collect())
    }

    /// Writes what is in the queue, with what comes meanwhile.
    fn written(&mut self, queue: &Queue<Write>) -> Vec<(Write, Told)> {
        let mut writes = queue.meanwhile(GROUP, 0, Duration::ZERO);
        if writes.is_empty() {
            return Vec::new();
        }
        let mut told = vec![None; writes.len()];
        let (expected, begin) = (self.shared, Instant::now());
        let mut more = |so_far: usize| {
            let waits = so_far < expected && begin.elapsed() < PATIENCE;
            let patience = if waits { MOMENT } else { Duration::ZERO };
            queue.meanwhile(
                GROUP.saturating_sub(so_far),
                (expected - so_far.min(expected)).min(WANTED),
                patience,
            )
        };
        let slot = self.slot.clone();
        // Given back before anybody is told: whoever is woken may want what another thread has.
        self.group(&mut slot.lock(), &mut writes, &mut told, &mut more);
        (self.shared, self.in_a_row) = (writes.len(), Duration::ZERO);
        self.alone = None;
        if let [write] = &*writes {
            self.alone.clone_from(&write.run);
            self.took(begin.elapsed());
        }
        writes.into_iter().zip(told).collect()
    }

    fn took(&mut self, time: Duration) {
        self.takes = (self.takes * 3 + time) / 4;
    }

    /// Empties the log into the file when it has become long. Nobody waits for it but those who come now.
    fn tidy_up(&mut self) {
        let slot = self.slot.clone();
        let slot = slot.lock();
        if let Some(connection) = &*slot {
            self.log.tidy_up(connection);
        }
    }

    fn group(
        &mut self,
        slot: &mut Option<Connection>,
        writes: &mut Vec<Write>,
        told: &mut Vec<Told>,
        more: More<'_>,
    ) {
        file::be_patient(self.place.options.busy_timeout);
        if slot.is_none() {
            self.known.forget();
        }
        let connection = match connected(slot, &self.place, Use::Writing(&self.log)) {
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
        self.log.written();
        if is_unreachable(told) {
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
        more: More<'_>,
    ) -> bool {
        let Err(failure) = self.begin(connection) else {
            return self.fill(connection, writes, told, more);
        };
        let error = self.place.told(failure, None);
        for (write, told) in writes.iter().zip(told) {
            *told = Some(Err(self.fails(write, error.clone())));
        }
        true
    }

    fn begin(&mut self, connection: &Connection) -> Result<(), Failure> {
        let begun = execute(connection, "BEGIN IMMEDIATE").and_then(|()| self.known.begin(connection));
        if begun.is_err() {
            self.lose(connection);
        }
        begun
    }

    /// What a transaction holds that has begun, and its end.
    fn fill(
        &mut self,
        connection: &Connection,
        writes: &mut Vec<Write>,
        told: &mut Vec<Told>,
        more: More<'_>,
    ) -> bool {
        self.log.make_room();
        let (before, mut done) = (self.failed.clone(), 0);
        let mut statements = Statements::new(connection);
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
            let written = match passes.map(|()| write.job.act(&mut statements, &mut self.known)) {
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
        drop(statements);
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

/// Tells all of them before it clears away what they wrote: the first of them asks for the next thing meanwhile.
fn tell(mut written: Vec<(Write, Told)>) {
    for (write, told) in &mut written {
        let told = told.take();
        write
            .job
            .tell(told.unwrap_or_else(|| Err(ended("nothing was done"))));
    }
}

/// Whether the system failed the connection: it isn't asked again then.
fn is_unreachable(told: &[Told]) -> bool {
    let unreachable = |told: &Told| matches!(told, Some(Err(StoreError::Unreachable { .. })));
    told.iter().any(unreachable)
}

fn execute(connection: &Connection, sql: &str) -> Result<(), Failure> {
    connection.prepare_cached(sql)?.execute(())?;
    Ok(())
}
