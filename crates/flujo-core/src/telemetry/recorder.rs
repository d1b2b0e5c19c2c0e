//! What both twins have in common: whose spans a recorder writes, and which of them is around another.

use std::sync::Arc;

use super::span::{Beside, CallFacts, Compact, RunFacts, What};
use super::{AgentCall, Names, SpanId, SpanIds, SpanStatus};
use crate::machine::{Domain, Failure, Finish, History, LanePlace, Outcome, Stop, Time};
use crate::plan::NodeId;
use crate::usage::Usage;

/// The run or lane whose spans are recorded.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) run: Arc<RunFacts>,
    pub(super) ids: SpanIds,
    /// The span around its own.
    pub(super) parent: Option<SpanId>,
    /// The construct of a lane and its place in it.
    pub(super) lane: Option<(NodeId, u32)>,
    /// When it began, or went on.
    pub(super) since: Time,
    pub(super) capture_content: bool,
}

/// The span around what began inside the record `inside`, or inside the run or lane itself, when there were `began`
/// records; `u32::MAX` says now.
pub(super) fn around<D: Domain>(
    names: &Names,
    ids: SpanIds,
    history: &History<D>,
    inside: Option<u32>,
    began: u32,
) -> SpanId {
    match names.shown(history, inside) {
        None => ids.own(),
        Some((place, record)) => match record.attempt_at(began) {
            Some(attempt) if names.attempts(record) > 0 => ids.attempt(place, attempt),
            _ => ids.step(place),
        },
    }
}

/// How a run or lane has ended, or why it stands still.
pub struct Ending<'a, D: Domain> {
    /// How.
    pub status: SpanStatus,
    /// Why it failed.
    pub failure: Option<&'a Failure<D>>,
    /// What is recorded of it.
    pub history: &'a History<D>,
    /// What it has used.
    pub usage: Usage,
    /// When.
    pub at: Time,
}

impl<'a, D: Domain> Ending<'a, D> {
    /// Of a run or lane that has ended, at `at`.
    pub fn of(finish: &'a Finish<D>, at: Time) -> Self {
        let (status, failure) = match &finish.outcome {
            Outcome::Completed(_) => (SpanStatus::Ok, None),
            Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => {
                (SpanStatus::Error, Some(&**failure))
            }
            Outcome::Stopped(Stop::LimitExceeded(_)) => (SpanStatus::LimitExceeded, None),
            Outcome::Stopped(Stop::Paused) => (SpanStatus::Paused, None),
            Outcome::Stopped(Stop::Cancelled | Stop::Aborted(_)) => (SpanStatus::Cancelled, None),
        };
        Self {
            status,
            failure,
            history: &finish.history,
            usage: finish.usage,
            at,
        }
    }
}

impl Recorded {
    /// The same of a lane of it.
    pub(super) fn lane<D: Domain>(&self, place: &LanePlace, history: &History<D>, since: Time) -> Self {
        Self {
            run: Arc::clone(&self.run),
            ids: self.ids.lane(place.record, place.index),
            parent: Some(self.around_at(history, Some(place.record), place.record)),
            lane: Some((place.node, place.index)),
            since,
            capture_content: self.capture_content,
        }
    }

    /// The span around what began inside the record `inside` when there were `began` records.
    pub(super) fn around_at<D: Domain>(
        &self,
        history: &History<D>,
        inside: Option<u32>,
        began: u32,
    ) -> SpanId {
        around(&self.run.names, self.ids, history, inside, began)
    }

    /// The span of the run or lane.
    pub(super) fn own<D: Domain>(&self, end: &Ending<'_, D>) -> Compact {
        Compact {
            id: self.ids.own(),
            parent: self.parent,
            what: match self.lane {
                None => What::Run,
                Some((node, index)) => What::Lane { node, index },
            },
            started: self.since,
            ended: end.at,
            status: end.status,
            beside: self.beside(end.usage, end.failure),
        }
    }

    /// The span of an agent's call.
    pub(super) fn call(&self, call: AgentCall) -> Compact {
        let parent = match call.record {
            Some(record) if call.attempt > 0 => self.ids.attempt(record, call.attempt),
            Some(record) => self.ids.step(record),
            None => self.ids.own(),
        };
        Compact {
            id: self.ids.call(call.call),
            parent: Some(parent),
            what: What::Call(Box::new(CallFacts {
                node: call.node,
                attempt: call.attempt,
                model: call.model,
                tokens: call.tokens,
                content: call.content.filter(|_| self.capture_content),
            })),
            started: call.started,
            ended: call.ended,
            status: call.status,
            beside: Beside::of(call.usage, call.error_type, None),
        }
    }

    /// What was used, and what went wrong; its text when that may leave the process.
    pub(super) fn beside<D: Domain>(
        &self,
        usage: Usage,
        failure: Option<&Failure<D>>,
    ) -> Option<Box<Beside>> {
        let message = failure.filter(|_| self.capture_content);
        Beside::of(
            usage,
            failure.map(|failure| Arc::clone(&failure.error_type)),
            message.map(|failure| Arc::clone(&failure.message)),
        )
    }
}
