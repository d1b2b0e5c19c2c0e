//! Where spans wait to be exported: bounded, so that a slow or dead exporter costs spans and never a run.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::span::{Compact, RunFacts};
use super::{SampleRate, Span};
use crate::machine::Time;
use crate::stats::TelemetryStats;

/// Of this many runs one is timed, to know what a span costs on the step's own thread.
const TIMED: u64 = 16;

/// So many buffers are kept at most.
const SPARE: usize = 64;

/// What is recorded, and how much of it may wait.
#[derive(Debug, Clone, Copy)]
pub struct SpanSettings {
    /// Which runs are recorded.
    pub rate: SampleRate,
    /// Whether inputs, outputs and messages of errors are recorded. Without it none of them leaves the process.
    pub capture_content: bool,
    /// How many spans may wait; those beyond are dropped and counted.
    pub capacity: usize,
    /// Reads a clock that never goes back, in nanoseconds, to time what recording costs; nothing is timed without one.
    pub clock: Option<fn() -> Time>,
}

impl Default for SpanSettings {
    /// Every run, no content, 32,768 spans, not timed.
    fn default() -> Self {
        Self {
            rate: SampleRate::ALL,
            capture_content: false,
            capacity: 32_768,
            clock: None,
        }
    }
}

/// Spans that wait to be exported, with what was counted on the way. Runs put them in, an exporter takes them out.
pub struct SpanQueue {
    settings: SpanSettings,
    waiting: Mutex<Waiting>,
    /// Buffers of batches that were taken out, for new ones: else one thread would allocate and another give back.
    spare: Mutex<Vec<Vec<Compact>>>,
    wake: Condvar,
    runs: AtomicU64,
    started: AtomicU64,
    ended: AtomicU64,
    dropped: AtomicU64,
    flushes: AtomicU64,
    timed_spans: AtomicU64,
    timed_nanos: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Item>,
    spans: usize,
    most: usize,
    /// Somebody asked the exporter not to wait any longer.
    hurried: bool,
}

pub(super) enum Item {
    /// So many spans of one run, compact.
    Batch(Arc<RunFacts>, usize, Vec<Compact>),
    /// One span, ready.
    Whole(Box<Span>),
}

impl Item {
    fn len(&self) -> usize {
        match self {
            Self::Batch(_, spans, _) => *spans,
            Self::Whole(_) => 1,
        }
    }
}

impl fmt::Debug for SpanQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanQueue")
            .field("settings", &self.settings)
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

impl SpanQueue {
    /// An empty queue.
    pub fn new(settings: SpanSettings) -> Self {
        Self {
            settings,
            waiting: Mutex::default(),
            spare: Mutex::default(),
            wake: Condvar::new(),
            runs: AtomicU64::new(0),
            started: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            timed_spans: AtomicU64::new(0),
            timed_nanos: AtomicU64::new(0),
        }
    }

    /// What is recorded.
    pub fn settings(&self) -> &SpanSettings {
        &self.settings
    }

    pub(super) fn put(&self, item: Item) {
        let spans = item.len();
        if spans == 0 {
            return;
        }
        self.ended.fetch_add(spans as u64, Ordering::Relaxed);
        let mut waiting = self.lock();
        let before = waiting.spans;
        if before + spans > self.settings.capacity {
            drop(waiting);
            self.dropped.fetch_add(spans as u64, Ordering::Relaxed);
            return;
        }
        waiting.items.push_back(item);
        waiting.spans = before + spans;
        waiting.most = waiting.most.max(waiting.spans);
        let half = self.settings.capacity / 2;
        let filled = before < half && waiting.spans >= half;
        drop(waiting);
        if filled {
            self.wake.notify_all();
        }
    }

    /// An empty buffer.
    pub(super) fn buffer(&self) -> Vec<Compact> {
        self.spare().pop().unwrap_or_default()
    }

    /// Keeps a buffer that is empty.
    fn keep(&self, buffer: Vec<Compact>) {
        let mut spare = self.spare();
        if spare.len() < SPARE {
            spare.push(buffer);
        }
    }

    /// Counts spans that have begun.
    pub(super) fn begun(&self, spans: u64) {
        self.started.fetch_add(spans, Ordering::Relaxed);
    }

    /// The clock, when this run is to be timed.
    pub(super) fn timer(&self) -> Option<fn() -> Time> {
        let clock = self.settings.clock?;
        self.runs
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(TIMED)
            .then_some(clock)
    }

    pub(super) fn timed(&self, spans: u64, nanos: u64) {
        self.timed_spans.fetch_add(spans, Ordering::Relaxed);
        self.timed_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Waits for the exporter's next turn: at most this long, and no longer once the queue is half full or somebody has
    /// [hurried](Self::hurry) it.
    pub fn wait(&self, at_most: Duration) {
        let half = self.settings.capacity / 2;
        let waiting = self.lock();
        let waits = |waiting: &mut Waiting| !waiting.hurried && waiting.spans < half.max(1);
        let ended = self.wake.wait_timeout_while(waiting, at_most, waits);
        let (mut waiting, _) = ended.unwrap_or_else(PoisonError::into_inner);
        waiting.hurried = false;
    }

    /// Ends the exporter's [wait](Self::wait), or its next one.
    pub fn hurry(&self) {
        self.lock().hurried = true;
        self.wake.notify_all();
    }

    /// Takes out spans, oldest first: as many as wait, but no more once there are `enough`.
    pub fn take(&self, enough: usize) -> Vec<Span> {
        let mut taken = Vec::new();
        let mut count = 0;
        {
            let mut waiting = self.lock();
            while count < enough
                && let Some(item) = waiting.items.pop_front()
            {
                count += item.len();
                taken.push(item);
            }
            waiting.spans -= count;
        }
        let mut spans = Vec::with_capacity(count);
        for item in taken {
            match item {
                Item::Batch(run, _, mut batch) => {
                    for mut span in batch.drain(..) {
                        let attempt = span.take_attempt();
                        spans.extend(attempt.map(|attempt| attempt.export(&run)));
                        spans.push(span.export(&run));
                    }
                    self.keep(batch);
                }
                Item::Whole(span) => spans.push(*span),
            }
        }
        spans
    }

    /// How many spans wait.
    pub fn len(&self) -> usize {
        self.lock().spans
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lets go of the spans that wait; gives how many they were.
    pub fn discard(&self) -> u64 {
        let mut waiting = self.lock();
        waiting.items.clear();
        std::mem::take(&mut waiting.spans) as u64
    }

    /// Counts a batch that an exporter was handed, with how many of its spans it could not deliver.
    pub fn flushed(&self, undelivered: u64) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.dropped.fetch_add(undelivered, Ordering::Relaxed);
    }

    /// What was counted. Spans that have begun and not ended are counted as begun once they are taken in, at the
    /// latest when their run or lane ends.
    #[allow(clippy::cast_precision_loss)] // a float is asked for
    pub fn statistics(&self) -> TelemetryStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let timed = read(&self.timed_spans).max(1);
        let high_water = self.lock().most as u64;
        TelemetryStats {
            spans_started: read(&self.started),
            spans_ended: read(&self.ended),
            spans_dropped: read(&self.dropped),
            flushes: read(&self.flushes),
            queue_high_water: high_water,
            overhead_per_span: read(&self.timed_nanos) as f64 / timed as f64 / 1e9,
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<Compact>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here panics half-way through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
