//! The short way from one plain step of a sequence to the next.
//!
//! A step is plain when an attempt that succeeds is one call of its agent, and the step has no limit of its own. When
//! the agent of a plain step has answered and another plain step follows, nothing can come in between if the run has
//! neither hooks nor limits nor a deadline and is not stopping. The way through the stages, the gate and the sequence
//! then comes to what [`Cursor::pass_on`] does, in the same order. A run is the same on either way.

use super::cursor::{Ask, Cursor};
use super::frame::Frame;
use super::{CallId, Domain, Input, NoticeKind, Pending, Role, Status, Time};
use crate::plan::NodeId;
use crate::usage::Usage;

impl<D: Domain> Cursor<'_, D> {
    /// The plain step that follows the one that waits for the answer to `call`, when the short way is allowed.
    #[inline]
    pub(super) fn plain_successor(&self, call: CallId) -> Option<NodeId> {
        let state = &*self.state;
        let free = state.pending == Pending::Call(call)
            && !state.options.hooks
            && !state.options.limits
            && !state.options.rates
            && state.deadline.is_none()
            && state.limited == 0
            && state.stopping.is_none();
        match state.stack.last() {
            Some(Frame::Step(step)) if free && step.awaits_only_agent() => {
                self.plan.plain_successor(step.opened.node)
            }
            _ => None,
        }
    }

    /// Ends the step on top, whose agent has answered, and asks for the first attempt at the step that follows it.
    pub(super) fn pass_on(&mut self, successor: NodeId, output: D::Object, usage: Usage, at: Time) {
        self.pass_time(at);
        let Some(ended) = self.state.stack.last().and_then(Frame::opened) else {
            return;
        };
        self.spend(ended.record, usage);
        if let Some(record) = self.record(ended.record)
            && record.output.is_none()
        {
            // As it is for every record that is open, and told so to the compiler there is nothing to drop.
            record.output = Some(output.clone());
        }
        self.end(ended, Status::Succeeded, NoticeKind::StepFinished);
        let opened = self.open(successor);
        if let Some(record) = self.record(opened.record) {
            record.attempts = 1;
        }
        self.notify(NoticeKind::AttemptStarted, successor, opened.record, 1);
        let input = Input::Value(output.clone());
        if let [.., Frame::Sequence { next, .. }, Frame::Step(step)] = self.state.stack.as_mut_slice() {
            *next += 1;
            step.begin_plain(opened, output);
        }
        self.call(Ask {
            node: successor,
            role: Role::Agent,
            index: 0,
            input,
            view: None,
            attempt: 1,
            deadline: None,
        });
    }
}
