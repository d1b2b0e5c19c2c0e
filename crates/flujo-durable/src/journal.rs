//! The log of one run: entries are gathered, and written together.

use std::collections::{BTreeSet, VecDeque};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use flujo_core::machine::{CallId, Event, LaneId, Machine, Options, PauseId, Time};
use flujo_core::store::{Blob, BlobId, Change, Claim, Record, RunStore, StoreFuture, WallTime};
use flujo_core::usage::UsageLimits;
use futures_util::FutureExt;

use crate::blobs::Parted;
use crate::snapshot::Snapshot;
use crate::{DurableError, Entry, Happened, Recorded, Sleeping, Together};

/// More than this isn't written at once: stores can't hold it.
const LARGEST: usize = 512 * 1024 * 1024;
/// A log isn't replaced by a snapshot before it is so long.
const SHORT_LOG: u64 = 256 * 1024;
/// How many bytes may wait for the store while a run goes on that doesn't wait for each record.
const LAG: usize = 1024 * 1024;

/// When what happened must be in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Before the next step begins: no step that has ended runs again, whatever happens.
    #[default]
    Strict,
    /// Soon: what happened while one write is under way may be lost with the process, 1 MB at most.
    Async,
    /// At a pause and at the end: what came after the last pause is lost with the process.
    Exit,
}

/// Done when what was written is in the store.
pub type Written = Together<()>;

/// The log of one run that is claimed. Shared by its machines; what they tell is written in the order in which it is
/// told here.
#[derive(Debug)]
pub struct Journal<D> {
    store: Arc<dyn RunStore>,
    claim: Claim,
    /// The process that claimed it.
    process: u32,
    durability: Durability,
    /// See [`LogPlace::definition`].
    definition: Option<Arc<[u8]>>,
    log: Mutex<Log>,
    domain: PhantomData<fn() -> D>,
}

#[derive(Debug, Default)]
struct Log {
    /// Entries that wait to be written.
    waiting: Parted,
    /// The blobs of the run that are in the store.
    blobs: BTreeSet<BlobId>,
    last_record: u64,
    next_machine: u32,
    /// See [`LogPlace::limits`].
    limits: Option<UsageLimits>,
    /// Bytes written since the last snapshot, and those of that snapshot.
    since_snapshot: u64,
    snapshot: u64,
    /// What goes along with what is written next.
    along: Vec<Change>,
    /// What is on its way.
    under_way: VecDeque<Written>,
    /// Whether somebody is going to be woken to go on writing.
    watched: bool,
}

/// How far a log is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPlace {
    /// The number of its last record.
    pub last_record: u64,
    /// The number of the next machine that begins.
    pub next_machine: u32,
    /// How many bytes the snapshot takes that it begins behind.
    pub snapshot: u64,
    /// What the pipeline is, when it isn't what the run began with: it stands with each snapshot.
    pub definition: Option<Arc<[u8]>>,
    /// The limits that the run went on with after it was stopped, in place of its runner's own.
    pub limits: Option<UsageLimits>,
    /// The blobs that the run has in the store.
    pub blobs: BTreeSet<BlobId>,
}

impl<D: Recorded> Journal<D> {
    /// The log of a run that is claimed, to be continued.
    pub fn new(store: Arc<dyn RunStore>, claim: Claim, durability: Durability, place: LogPlace) -> Self {
        Self {
            store,
            claim,
            process: std::process::id(),
            durability,
            definition: place.definition,
            log: Mutex::new(Log {
                last_record: place.last_record,
                next_machine: place.next_machine,
                limits: place.limits,
                snapshot: place.snapshot,
                blobs: place.blobs,
                ..Log::default()
            }),
            domain: PhantomData,
        }
    }

    /// How far it is.
    pub fn place(&self) -> LogPlace {
        let log = self.lock();
        LogPlace {
            last_record: log.last_record,
            next_machine: log.next_machine,
            limits: log.limits,
            snapshot: log.snapshot,
            definition: self.definition.clone(),
            blobs: log.blobs.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        // Whole entries are put behind it, so it is good also after a panic.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The claim that it writes with.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }

    /// When what happened must be in the store.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// Takes in what a machine of this number is about to be told; `step` is the path of the step that it is about, `base`
    /// what the context of the call was that ends with it.
    ///
    /// # Errors
    /// [`DurableError::Unsavable`] for a value that can't be written down; then nothing was taken in, and the machine must
    /// be told of the failure instead.
    pub fn record(
        &self,
        number: u32,
        machine: &Machine<D>,
        step: Option<&Arc<str>>,
        event: &Event<D>,
        base: Option<&D::Base>,
    ) -> Result<(), DurableError> {
        if self.durability == Durability::Exit {
            return Ok(());
        }
        self.append(&[Entry {
            machine: number,
            step: step.cloned(),
            happened: Happened::of(machine, event, base),
        }])
    }

    /// Takes in that a call was answered by what can be made again: see [`Recorded::again`].
    pub fn record_again(&self, machine: u32, step: Option<&Arc<str>>, call: CallId, at: Time) {
        if self.durability != Durability::Exit {
            let entry: Entry<D> = Entry {
                machine,
                step: step.cloned(),
                happened: Happened::Again { call, at },
            };
            // Numbers can always be written.
            let _ = entry.write(self.lock().waiting.small());
        }
    }

    /// Writes what a call that is under way has recorded ([`Once`](crate::Once)), and gives what is to be waited for before
    /// the value is handed on, if anything.
    ///
    /// # Errors
    /// [`DurableError::Unsavable`], and nothing was taken in.
    pub fn record_once(
        &self,
        machine: u32,
        step: &Arc<str>,
        call: CallId,
        key: Arc<str>,
        value: D::Object,
    ) -> Result<Option<Written>, DurableError> {
        if self.durability == Durability::Exit {
            return Ok(None);
        }
        self.append(&[Entry {
            machine,
            step: Some(Arc::clone(step)),
            happened: Happened::Once { call, key, value },
        }])?;
        Ok(self.flush())
    }

    /// Writes that a machine begins to sleep, which nobody waits for: from then on the wait counts whether or not anybody
    /// runs the run.
    pub fn sleeps(&self, machine: u32, sleeping: Sleeping) {
        let Sleeping { timer, left, since } = sleeping;
        self.note(machine, Happened::Sleeps { timer, left, since });
        drop(self.flush());
    }

    /// Takes in when a question was asked.
    pub fn asks(&self, machine: u32, pause: PauseId, since: WallTime) {
        self.note(machine, Happened::Asks { pause, since });
    }

    /// Takes in what holds numbers alone, which can always be written.
    fn note(&self, machine: u32, happened: Happened<D>) {
        if self.durability != Durability::Exit {
            let _ = Entry::of(machine, happened).write(self.lock().waiting.small());
        }
    }

    /// Gives the run back as far as it came: it is free for others, whether or not anybody waits for that. A process that a
    /// fork has made leaves the runs of its parent alone.
    pub fn give_back(&self) {
        if self.process == std::process::id() {
            drop(self.write([Change::Release]));
        }
    }

    /// Takes in a change that is written in one transaction with what was taken in before.
    pub fn along(&self, change: Change) {
        self.lock().along.push(change);
    }

    /// Takes in entries.
    ///
    /// # Errors
    /// [`DurableError::Unsavable`], and nothing was taken in.
    pub fn append(&self, entries: &[Entry<D>]) -> Result<(), DurableError> {
        let mut bytes = Parted::with_room();
        for entry in entries {
            entry.put(&mut bytes)?;
        }
        let mut log = self.lock();
        fits("what happened", log.waiting.len() + bytes.len())?;
        log.waiting.append(bytes);
        Ok(())
    }

    /// Takes in that a lane begins, and gives its number.
    pub fn begin_lane(&self, parent: u32, lane: LaneId) -> u32 {
        let mut log = self.lock();
        let machine = log.next_machine;
        log.next_machine += 1;
        if self.durability != Durability::Exit {
            let began: Entry<D> = Entry::of(machine, Happened::Began { parent, lane });
            // Numbers can always be written.
            let _ = began.write(log.waiting.small());
        }
        machine
    }

    /// Takes in that the run goes on after it was stopped, within these limits if they aren't its runner's own: its machines
    /// are numbered anew.
    pub fn take_up(&self, options: Options, at: Time, limits: Option<UsageLimits>) {
        let mut log = self.lock();
        (log.next_machine, log.limits) = (1, limits);
        if self.durability != Durability::Exit {
            let taken_up: Entry<D> = Entry::of(0, Happened::TakenUp { options, at, limits });
            // Numbers can always be written.
            let _ = taken_up.write(log.waiting.small());
        }
    }

    /// The limits that the run went on with after it was stopped, if they aren't its runner's own.
    pub fn limits(&self) -> Option<UsageLimits> {
        self.lock().limits
    }

    /// The number of the next machine that begins.
    pub fn next_machine(&self) -> u32 {
        self.lock().next_machine
    }

    /// Before a step begins: writes what has been taken in, and gives what is to be waited for first, if anything.
    pub fn flush(&self) -> Option<Written> {
        self.flush_by(|changes| self.store.write(&self.claim, changes))
    }

    /// The same where nothing else of the run is under way meanwhile: see [`RunStore::write_now`].
    pub fn flush_alone(&self) -> Option<Written> {
        match self.durability {
            Durability::Strict => self.flush_by(|changes| self.store.write_now(&self.claim, changes)),
            Durability::Async | Durability::Exit => self.flush(),
        }
    }

    fn flush_by(&self, write: impl FnOnce(Vec<Change>) -> StoreFuture<()>) -> Option<Written> {
        let mut log = self.lock();
        log.settle();
        let behind = self.durability == Durability::Async;
        if behind && !log.under_way.is_empty() && log.waiting.len() < LAG {
            return None;
        }
        let full = log.waiting.len() >= LAG;
        let changes = log.batch();
        if !changes.is_empty() {
            let _kept = log.submit(write(changes));
        }
        log.under_way.back().filter(|_| !behind || full).cloned()
    }

    /// While a run waits: what it wrote behind goes on its way as soon as what was before it has arrived. `poller` is woken
    /// for that.
    pub fn go_on_writing(&self, poller: &mut Context<'_>) {
        if self.durability != Durability::Async {
            return;
        }
        let mut unheard = Context::from_waker(Waker::noop());
        let mut log = self.lock();
        log.watched = false;
        loop {
            let Some(first) = log.under_way.front_mut() else {
                let changes = log.batch();
                if changes.is_empty() {
                    return;
                }
                let _kept = self.submit(&mut log, changes);
                continue;
            };
            // Whoever is told by something shared that it is there would be told once more when it takes it.
            match first.poll_unpin(&mut unheard) {
                Poll::Pending if first.poll_unpin(poller).is_pending() => {
                    log.watched = true;
                    return;
                }
                Poll::Ready(Err(_)) => return,
                Poll::Ready(Ok(())) => drop(log.under_way.pop_front()),
                Poll::Pending => {} // just now
            }
        }
    }

    /// Whether something is on its way behind the run, and nobody is going to be woken for it yet.
    pub fn needs_watching(&self) -> bool {
        if self.durability != Durability::Async {
            return false;
        }
        let log = self.lock();
        !log.watched && !log.under_way.is_empty()
    }

    /// Whether the log has outgrown the snapshot before it, so that another one is to be written where that is possible.
    pub fn wants_snapshot(&self) -> bool {
        if self.durability == Durability::Exit {
            return false;
        }
        let log = self.lock();
        log.since_snapshot > (log.snapshot / 2).max(SHORT_LOG)
    }

    /// Writes a snapshot of the run as it is after all that has been taken in, with `more` in the same transaction.
    ///
    /// # Errors
    /// [`DurableError::Unsavable`]: nothing was written.
    pub fn snapshot(
        &self,
        snapshot: &Snapshot<D>,
        more: impl IntoIterator<Item = Change>,
    ) -> Result<Written, DurableError> {
        let parted = snapshot.parted(self.definition.as_deref())?;
        fits(STATE, parted.len())?;
        let mut log = self.lock();
        let size = parted.len() as u64;
        // What waits to be written is in the snapshot.
        log.waiting.clear();
        let (body, blobs) = parted.into_body();
        let through = log.last_record;
        let mut changes = vec![Change::Snapshot { through, body }];
        if !blobs.is_empty() || !log.blobs.is_empty() {
            // What it doesn't refer to is freed first, which makes room.
            let kept: BTreeSet<_> = blobs.iter().map(|blob| blob.id).collect();
            log.blobs.retain(|blob| kept.contains(blob));
            changes.push(Change::Keep(log.blobs.iter().copied().collect()));
            changes.extend(log.new_blobs(blobs));
        }
        changes.append(&mut log.along);
        changes.extend(more);
        (log.snapshot, log.since_snapshot) = (size, 0);
        Ok(self.submit(&mut log, changes))
    }

    /// Writes what has been taken in and `more`, in one transaction.
    pub fn write(&self, more: impl IntoIterator<Item = Change>) -> Written {
        let mut log = self.lock();
        let mut changes = log.batch();
        changes.append(&mut log.along);
        changes.extend(more);
        self.submit(&mut log, changes)
    }

    fn submit(&self, log: &mut Log, changes: Vec<Change>) -> Written {
        log.submit(self.store.write(&self.claim, changes))
    }
}

impl Log {
    /// Takes in what is on its way.
    fn submit(&mut self, asked: StoreFuture<()>) -> Written {
        let written = Together::new(asked);
        self.under_way.push_back(written.clone());
        written
    }

    /// What waits, as a record.
    fn batch(&mut self) -> Vec<Change> {
        if self.waiting.is_empty() {
            return Vec::new();
        }
        let parted = std::mem::take(&mut self.waiting);
        self.since_snapshot += parted.len() as u64;
        self.last_record += 1;
        let number = self.last_record;
        let (body, blobs) = parted.into_body();
        let mut changes = vec![Change::Append(vec![Record { number, body }])];
        changes.extend(self.new_blobs(blobs));
        changes.append(&mut self.along);
        changes
    }

    /// Those that are not in the store yet, to be put there.
    fn new_blobs(&mut self, blobs: Vec<Blob>) -> impl Iterator<Item = Change> {
        let known = &mut self.blobs;
        let new = blobs.into_iter().filter(|blob| known.insert(blob.id));
        new.map(Change::Blob)
    }

    /// Forgets what has arrived, up to the first that hasn't, or that failed.
    fn settle(&mut self) {
        while let Some(first) = self.under_way.front() {
            // Whoever waited for it has mostly found it.
            let told = first.peek().map(Result::is_ok);
            let told = told.or_else(|| Some(first.clone().now_or_never()?.is_ok()));
            if told != Some(true) {
                return;
            }
            self.under_way.pop_front();
        }
    }
}

/// What is too large for a store, in messages.
const STATE: &str = "the state of the run";

/// Whether a store can hold so many bytes.
fn fits(what: &str, bytes: usize) -> Result<(), DurableError> {
    if bytes > LARGEST {
        return Err(DurableError::TooLarge {
            what: what.to_owned(),
            bytes: bytes as u64,
            at_most: LARGEST as u64,
        });
    }
    Ok(())
}

/// What a run begins with, on its way into a store.
#[derive(Debug)]
pub struct FirstSnapshot {
    /// The snapshot.
    pub body: Arc<[u8]>,
    /// The blobs that it refers to.
    pub blobs: Vec<Blob>,
    /// How many bytes they are together.
    pub size: u64,
}

impl FirstSnapshot {
    /// A snapshot to begin a run with.
    ///
    /// # Errors
    /// [`DurableError::Unsavable`] for a value in it that can't be written down, [`DurableError::TooLarge`].
    pub fn of<D: Recorded>(snapshot: &Snapshot<D>) -> Result<Self, DurableError> {
        let parted = snapshot.parted(None)?;
        fits(STATE, parted.len())?;
        let size = parted.len() as u64;
        let (body, blobs) = parted.into_body();
        Ok(Self { body, blobs, size })
    }
}
