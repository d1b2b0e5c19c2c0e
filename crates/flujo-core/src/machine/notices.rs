//! Telling what happens, when anybody listens.

use std::sync::Arc;

use super::cursor::Cursor;
use super::{Command, Domain, Failure, Round, Status, Time};
use crate::plan::NodeId;
use crate::usage::Usage;

/// Something that happened, for progress and event streams.
#[derive(Debug, Clone)]
pub struct Notice<D: Domain> {
    /// What.
    pub kind: NoticeKind<D>,
    /// Where.
    pub node: NodeId,
    /// The step's record in this machine's history.
    pub record: u32,
    /// The record of the step around it, as steps are told of: never one that is [inner](crate::plan::Node::inner).
    pub parent: Option<u32>,
    /// The attempt, from 1; 0 outside attempts. Of a step that has ended: how many were made.
    pub attempt: u32,
    /// The turns of the loops and state machines around.
    pub round: Option<Arc<Round>>,
    /// What the step has used so far, failed attempts and everything below it included.
    pub usage: Usage,
    /// When.
    pub at: Time,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum NoticeKind<D: Domain> {
    /// A step began.
    StepStarted,
    /// An attempt began.
    AttemptStarted,
    /// An attempt failed and another one or a fallback follows, or nothing.
    AttemptFailed(Arc<Failure<D>>),
    /// The step's result was found in the cache, where it had been put by a step that used this.
    CacheHit(Usage),
    /// The step's fallback begins.
    FallbackStarted,
    /// A step asked a question and waits.
    Paused,
    /// The question was answered.
    Resumed,
    /// A step succeeded.
    StepFinished,
    /// A step failed.
    StepFailed(Arc<Failure<D>>),
    /// A step was stopped.
    StepStopped {
        /// As what its record shows it: cancelled, at a limit, or failed for good.
        status: Status,
        /// What is wrong with the pipeline, when it failed for good.
        failure: Option<Arc<Failure<D>>>,
    },
}

impl<D: Domain> Cursor<'_, D> {
    #[inline]
    pub(super) fn notify(&mut self, kind: NoticeKind<D>, node: NodeId, record: u32, attempt: u32) {
        if self.state.options.notices {
            self.tell(kind, node, record, attempt);
        }
    }

    #[cold]
    fn tell(&mut self, kind: NoticeKind<D>, node: NodeId, record: u32, attempt: u32) {
        let pauses = matches!(kind, NoticeKind::Paused | NoticeKind::Resumed);
        if pauses || !self.plan.node(node).inner {
            let records = &self.state.history.records;
            let entry = records.get(record as usize);
            let (usage, at) = (entry.map_or(Usage::ZERO, |entry| entry.usage), self.state.now);
            let mut parent = entry.and_then(|entry| entry.parent);
            while let Some(around) = parent.and_then(|parent| records.get(parent as usize))
                && self.plan.node(around.node).inner
            {
                parent = around.parent;
            }
            self.commands.push_back(Command::Notify(Notice {
                kind,
                node,
                record,
                parent,
                attempt,
                round: self.state.round.clone(),
                usage,
                at,
            }));
        }
    }
}
