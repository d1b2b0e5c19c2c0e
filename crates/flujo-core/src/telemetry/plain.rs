//! The obvious twin: told of every step and attempt as it begins and ends, it makes one span of each, with names and
//! attributes, and hands it over at once.

use std::collections::HashMap;
use std::sync::Arc;

use super::queue::Item;
use super::recorder::Recorded;
use super::span::{Compact, What};
use super::{AgentCall, Ending, Recorder, RunStart, SpanId, SpanIds, SpanQueue, SpanStatus, Telemetry};
use crate::machine::{Domain, Failure, History, LanePlace, Notice, NoticeKind, Time};
use crate::plan::NodeId;
use crate::stats::TelemetryStats;
use crate::usage::Usage;

/// Spans made as steps are told of, one by one.
#[derive(Debug, Clone)]
pub struct PlainTelemetry(Arc<SpanQueue>);

impl PlainTelemetry {
    /// Spans go into `queue`.
    pub fn new(queue: Arc<SpanQueue>) -> Self {
        Self(queue)
    }
}

impl<D: Domain> Telemetry<D> for PlainTelemetry {
    fn queue(&self) -> &Arc<SpanQueue> {
        &self.0
    }

    fn record(&self, run: &RunStart, ids: SpanIds, history: &History<D>) -> Box<dyn Recorder<D>> {
        let recorded = run.recorded(ids, self.0.settings());
        Box::new(OneByOne::new(recorded, Arc::clone(&self.0), history, run.at))
    }

    fn statistics(&self) -> TelemetryStats {
        self.0.statistics()
    }
}

struct OneByOne {
    recorded: Recorded,
    queue: Arc<SpanQueue>,
    /// Steps under way, by their record.
    open: HashMap<u32, OpenStep>,
    spans: u64,
}

#[derive(Debug)]
struct OpenStep {
    node: NodeId,
    parent: SpanId,
    started: Time,
    attempts: u32,
    fallback: bool,
    cache_hit: bool,
    usage: Usage,
    attempt: Option<OpenAttempt>,
}

#[derive(Debug, Clone, Copy)]
struct OpenAttempt {
    attempt: u32,
    started: Time,
}

/// How a step or attempt ended.
struct Ended<'a, D: Domain> {
    status: SpanStatus,
    failure: Option<&'a Failure<D>>,
    at: Time,
}

impl OneByOne {
    /// With a history there is already, the run goes on: spans begin anew for what is under way.
    fn new<D: Domain>(recorded: Recorded, queue: Arc<SpanQueue>, history: &History<D>, at: Time) -> Self {
        queue.begun(1);
        let mut open = HashMap::new();
        for (place, record) in (0u32..).zip(&history.records) {
            if SpanStatus::of(record.status).is_some() || !recorded.run.names.shows(record.node) {
                continue;
            }
            let details = record.details.as_deref();
            let failed = details.map_or(0, |details| details.attempts_failed.len());
            let attempts = recorded.run.names.attempts(record);
            let attempt = OpenAttempt {
                attempt: attempts,
                started: at,
            };
            let attempt = Some(attempt).filter(|open| open.attempt as usize > failed);
            queue.begun(1 + u64::from(attempt.is_some()));
            open.insert(
                place,
                OpenStep {
                    node: record.node,
                    parent: recorded.around_at(history, record.parent, place),
                    started: at,
                    attempts,
                    fallback: details.is_some_and(|details| details.fallback.is_some()),
                    cache_hit: details.is_some_and(|details| details.saved.is_some()),
                    usage: record.usage,
                    attempt,
                },
            );
        }
        Self {
            recorded,
            queue,
            open,
            spans: 0,
        }
    }

    fn begin<D: Domain>(&mut self, notice: &Notice<D>) {
        let ids = self.recorded.ids;
        let parent = notice
            .parent
            .and_then(|parent| Some((parent, self.open.get(&parent)?)));
        let parent = match parent {
            None => ids.own(),
            Some((record, around)) => match around.attempt {
                Some(open) => ids.attempt(record, open.attempt),
                None => ids.step(record),
            },
        };
        self.queue.begun(1);
        self.open.insert(
            notice.record,
            OpenStep {
                node: notice.node,
                parent,
                started: notice.at,
                attempts: 0,
                fallback: false,
                cache_hit: false,
                usage: Usage::ZERO,
                attempt: None,
            },
        );
    }

    fn end_attempt<D: Domain>(&mut self, record: u32, end: &Ended<'_, D>) {
        let Some(step) = self.open.get_mut(&record) else {
            return;
        };
        let Some(open) = step.attempt.take() else {
            return;
        };
        let node = step.node;
        let ids = self.recorded.ids;
        self.hand_over(Compact {
            id: ids.attempt(record, open.attempt),
            parent: Some(ids.step(record)),
            what: What::Attempt {
                node,
                attempt: open.attempt,
            },
            started: open.started,
            ended: end.at,
            status: end.status,
            beside: self.recorded.beside(Usage::ZERO, end.failure),
        });
    }

    fn end_step<D: Domain>(&mut self, record: u32, usage: Option<Usage>, end: &Ended<'_, D>) {
        self.end_attempt(record, end);
        let Some(step) = self.open.remove(&record) else {
            return;
        };
        self.hand_over(Compact {
            id: self.recorded.ids.step(record),
            parent: Some(step.parent),
            what: What::Step {
                node: step.node,
                attempts: step.attempts,
                fallback: step.fallback,
                cache_hit: self.recorded.run.names.cache_hit(step.node, step.cache_hit),
                only_attempt: None,
            },
            started: step.started,
            ended: end.at,
            status: end.status,
            beside: self.recorded.beside(usage.unwrap_or(step.usage), end.failure),
        });
    }

    fn hand_over(&mut self, span: Compact) {
        self.spans += 1;
        let span = span.export(&self.recorded.run);
        self.queue.put(Item::Whole(Box::new(span)));
    }
}

impl<D: Domain> Recorder<D> for OneByOne {
    fn hears(&self) -> bool {
        true
    }

    fn notice(&mut self, notice: &Notice<D>) {
        let (record, at) = (notice.record, notice.at);
        let mut end = Ended {
            status: SpanStatus::Ok,
            failure: None,
            at,
        };
        match &notice.kind {
            NoticeKind::StepStarted => self.begin(notice),
            NoticeKind::AttemptStarted => {
                if let Some(step) = self.open.get_mut(&record) {
                    step.attempts = notice.attempt;
                    step.attempt = Some(OpenAttempt {
                        attempt: notice.attempt,
                        started: at,
                    });
                    self.queue.begun(1);
                }
            }
            NoticeKind::AttemptFailed(failure) => {
                (end.status, end.failure) = (SpanStatus::Error, Some(&**failure));
                self.end_attempt(record, &end);
            }
            NoticeKind::FallbackStarted => {
                if let Some(step) = self.open.get_mut(&record) {
                    step.fallback = true;
                }
            }
            NoticeKind::CacheHit(_) => {
                if let Some(step) = self.open.get_mut(&record) {
                    step.cache_hit = true;
                }
            }
            NoticeKind::Paused | NoticeKind::Resumed => {}
            NoticeKind::StepFinished => self.end_step(record, Some(notice.usage), &end),
            NoticeKind::StepFailed(failure) => {
                (end.status, end.failure) = (SpanStatus::Error, Some(&**failure));
                self.end_step(record, Some(notice.usage), &end);
            }
            NoticeKind::StepStopped { status, failure } => {
                end.status = SpanStatus::of(*status).unwrap_or(SpanStatus::Cancelled);
                end.failure = failure.as_deref();
                self.end_step(record, Some(notice.usage), &end);
            }
        }
    }

    fn called(&mut self, call: AgentCall) {
        self.queue.begun(1);
        let span = self.recorded.call(call);
        self.hand_over(span);
    }

    fn waits(&mut self, _history: &History<D>, _at: Time) {}

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
        let status = match end.status {
            SpanStatus::Paused => SpanStatus::Paused,
            _ => SpanStatus::Cancelled,
        };
        let cut = Ended::<D> {
            status,
            failure: None,
            at: end.at,
        };
        let mut open: Vec<u32> = self.open.keys().copied().collect();
        open.sort_unstable_by(|one, two| two.cmp(one)); // what is inside ends first
        for record in open {
            let known = end.history.records.get(record as usize);
            self.end_step(record, known.map(|known| known.usage), &cut);
        }
        let own = self.recorded.own(end);
        self.hand_over(own);
        self.spans
    }
}
