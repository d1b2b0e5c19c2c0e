//! The fast twin: steps are not told to it. It reads the machine's own record of them when the run waits or has ended,
//! makes compact entries of one size without names, and hands them over by the batch.

use std::sync::Arc;

use super::queue::Item;
use super::recorder::Recorded;
use super::span::{Compact, What};
use super::{AgentCall, Ending, Recorder, RunStart, SpanIds, SpanQueue, SpanStatus, Telemetry};
use crate::machine::{Domain, History, LanePlace, Notice, Record, Time};
use crate::stats::TelemetryStats;
use crate::usage::Usage;

/// So many spans are handed over at once, or as many as there are when the oldest has waited for [`PATIENCE`].
const BATCH: usize = 256;
const PATIENCE: Time = 1_000_000_000;

/// Spans read from the machine's records and handed over in batches.
#[derive(Debug, Clone)]
pub struct OptimizedTelemetry(Arc<SpanQueue>);

impl OptimizedTelemetry {
    /// Spans go into `queue`.
    pub fn new(queue: Arc<SpanQueue>) -> Self {
        Self(queue)
    }
}

impl<D: Domain> Telemetry<D> for OptimizedTelemetry {
    fn queue(&self) -> &Arc<SpanQueue> {
        &self.0
    }

    fn record(&self, run: &RunStart, ids: SpanIds, history: &History<D>) -> Box<dyn Recorder<D>> {
        let recorded = run.recorded(ids, self.0.settings());
        Box::new(Batching::new(recorded, Arc::clone(&self.0), history, run.at))
    }

    fn statistics(&self) -> TelemetryStats {
        self.0.statistics()
    }
}

struct Batching {
    recorded: Recorded,
    queue: Arc<SpanQueue>,
    /// Records from here on have not been looked at.
    next: usize,
    /// Those before that had not ended, each with how many attempts had failed before the run went on.
    open: Vec<(u32, u32)>,
    batch: Vec<Compact>,
    /// Spans in the batch.
    in_batch: usize,
    /// When the oldest entry of the batch was made.
    oldest: Time,
    spans: u64,
}

impl Batching {
    /// With a history there is already, the run goes on: what has ended was recorded before.
    fn new<D: Domain>(recorded: Recorded, queue: Arc<SpanQueue>, history: &History<D>, at: Time) -> Self {
        let running = (0u32..).zip(&history.records);
        let running = running.filter(|(_, record)| SpanStatus::of(record.status).is_none());
        Self {
            recorded,
            queue,
            next: history.records.len(),
            open: running.map(|(place, record)| (place, failed(record))).collect(),
            batch: Vec::new(),
            in_batch: 0,
            oldest: at,
            spans: 0,
        }
    }

    /// Makes entries of what has ended, and of everything else too when the recording ends with `cut`.
    fn read<D: Domain>(&mut self, history: &History<D>, at: Time, cut: Option<SpanStatus>) {
        if self.batch.is_empty() {
            self.oldest = at;
            if self.batch.capacity() == 0 {
                self.batch = self.queue.buffer();
            }
            let new = history.records.len().saturating_sub(self.next) + self.open.len();
            self.batch.reserve((new + 1).min(BATCH)); // at the end the run
        }
        // What is open is one inside the other, so the last one ends first.
        // What is being read counts as read, so that a panic costs that one alone.
        while let Some((place, failed)) = self.open.pop() {
            let record = history.records.get(place as usize);
            if record.is_some_and(|record| !self.enter(history, place, record, failed, at, cut)) {
                self.open.push((place, failed));
                break;
            }
        }
        for (place, record) in (0u32..).zip(&history.records).skip(self.next) {
            self.next = place as usize + 1;
            if !self.enter(history, place, record, 0, at, cut) {
                self.open.push((place, 0));
            }
        }
    }

    /// The entries of a step and its attempts; whether there is nothing more to be said about it.
    fn enter<D: Domain>(
        &mut self,
        history: &History<D>,
        place: u32,
        record: &Record<D>,
        failed_before: u32,
        at: Time,
        cut: Option<SpanStatus>,
    ) -> bool {
        if !self.recorded.run.names.shows(record.node) {
            return true;
        }
        let ended = SpanStatus::of(record.status);
        let Some(status) = ended.or(cut) else {
            return false;
        };
        let end = if ended.is_some() { record.ended } else { at };
        let (ids, since) = (self.recorded.ids, self.recorded.since);
        let failure = record.failure.as_deref().filter(|_| status == SpanStatus::Error);
        let parent = self.recorded.around_at(history, record.parent, place);
        let names = &self.recorded.run.names;
        let attempts = names.attempts(record);
        let details = record.details.as_deref();
        let saved = details.is_some_and(|details| details.saved.is_some());
        let cache_hit = names.cache_hit(record.node, saved);
        let is_all = attempts == 1 && failed_before == 0 && record.attempt_times(1) == (record.started, None);
        let known = if is_all { attempts } else { failed_before };
        for attempt in known + 1..=attempts {
            let (begun, failed) = record.attempt_times(attempt);
            let details = details.filter(|_| failed.is_some());
            let own = details.and_then(|details| details.attempt_failures.get(attempt as usize - 1));
            self.push(Compact {
                id: ids.attempt(place, attempt),
                parent: Some(ids.step(place)),
                what: What::Attempt {
                    node: record.node,
                    attempt,
                },
                started: begun.max(since),
                ended: failed.unwrap_or(end),
                status: if failed.is_some() {
                    SpanStatus::Error
                } else {
                    status
                },
                beside: self
                    .recorded
                    .beside(Usage::ZERO, own.map(Arc::as_ref).or(failure)),
            });
        }
        self.push(Compact {
            id: ids.step(place),
            parent: Some(parent),
            what: What::Step {
                node: record.node,
                attempts,
                fallback: details.is_some_and(|details| details.fallback.is_some()),
                cache_hit,
                only_attempt: is_all.then(|| ids.attempt(place, 1)),
            },
            started: record.started.max(since),
            ended: end,
            status,
            beside: self.recorded.beside(record.usage, failure),
        });
        if self.in_batch >= BATCH {
            self.hand_over();
        }
        true
    }

    #[inline]
    fn push(&mut self, span: Compact) {
        self.in_batch += span.spans();
        self.batch.push(span);
    }

    fn hand_over(&mut self) {
        let spans = std::mem::take(&mut self.in_batch);
        if spans > 0 {
            self.spans += spans as u64;
            self.queue.begun(spans as u64);
            let batch = std::mem::take(&mut self.batch);
            let run = Arc::clone(&self.recorded.run);
            self.queue.put(Item::Batch(run, spans, batch));
        }
    }
}

impl Drop for Batching {
    /// One that was given up half-way hands over what it has.
    fn drop(&mut self) {
        self.hand_over();
    }
}

/// How many attempts have failed.
fn failed<D: Domain>(record: &Record<D>) -> u32 {
    let failed = record
        .details
        .as_ref()
        .map_or(0, |details| details.attempts_failed.len());
    u32::try_from(failed).unwrap_or(u32::MAX)
}

impl<D: Domain> Recorder<D> for Batching {
    fn hears(&self) -> bool {
        false
    }

    fn notice(&mut self, _notice: &Notice<D>) {}

    fn called(&mut self, call: AgentCall) {
        if self.batch.is_empty() {
            self.oldest = call.ended;
        }
        self.push(self.recorded.call(call));
    }

    fn waits(&mut self, history: &History<D>, at: Time) {
        if self.next < history.records.len() {
            self.read(history, at, None);
        }
        let waited = at.saturating_sub(self.oldest);
        if self.in_batch >= BATCH || (waited >= PATIENCE && !self.batch.is_empty()) {
            self.hand_over();
        }
    }

    fn lane(
        &self,
        place: &LanePlace,
        around: &History<D>,
        lane: &History<D>,
        now: Time,
    ) -> Box<dyn Recorder<D>> {
        let since = now.max(self.recorded.run.base);
        let recorded = self.recorded.lane(place, around, since);
        Box::new(Self::new(recorded, Arc::clone(&self.queue), lane, since))
    }

    fn end(&mut self, end: &Ending<'_, D>) -> u64 {
        let cut = (end.status == SpanStatus::Paused).then_some(SpanStatus::Paused);
        self.read(end.history, end.at, cut.or(Some(SpanStatus::Cancelled)));
        self.push(self.recorded.own(end));
        self.hand_over();
        self.spans
    }
}
