//! The short ways: of an answer to the step that waits for it, and from one plain step of a sequence to the next.
//!
//! An answer goes to the step on top at once when neither the end of the run nor a hook nor a time limit has a say in it.
//!
//! A step is plain when an attempt that succeeds is one call of its agent, and the step has no limit of its own. When
//! the agent of a plain step has answered and another plain step follows, nothing can come in between if the run has
//! neither hooks nor limits nor a deadline and is not stopping. The way through the stages, the gate and the sequence
//! then comes to what [`Cursor::pass_on`] does, in the same order. A run is the same on either way.

use super::cursor::{Ask, Cursor, Next};
use super::frame::Frame;
use super::{Answer, CallId, Command, Domain, Input, Machine, NoticeKind, Pending, Role, Status, Time, step};
use crate::plan::NodeId;
use crate::usage::Usage;

impl<D: Domain> Machine<D> {
    /// What the next [`Machine::poll`] gives, unless it has to begin something first.
    #[inline]
    pub fn asked_next(&self) -> Option<&Command<D>> {
        self.commands.front()
    }

    /// Passes over what [`Machine::asked_next`] has shown.
    #[inline]
    pub fn skip(&mut self) {
        self.commands.pop_front();
    }

    /// Whether it shows anywhere when the call under way is answered. Where it doesn't, since another call of the same
    /// attempt follows on a value, a host that answers with one needn't ask its clock, and may give the time of the event
    /// before.
    #[inline]
    pub fn shows_time(&self) -> bool {
        let state = &self.state;
        let looked_at = state.options.notices
            || state.options.limits
            || state.limited > 0
            || state.stopping.is_some()
            || state.gate.is_waiting();
        match state.stack.last() {
            Some(Frame::Step(step)) if !looked_at && step.attempt_deadline.is_none() => {
                !step.is_followed(self.plan.node(step.opened.node))
            }
            _ => true,
        }
    }
}

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

    /// Whether an answer goes to the step on top, and nothing else has to look at it.
    #[inline]
    pub(super) fn is_for_step(&self, call: CallId, answer: &Answer<D>) -> bool {
        let state = &*self.state;
        state.pending == Pending::Call(call)
            && state.stopping.is_none()
            && !state.gate.is_waiting()
            && matches!(answer, Answer::Value { .. } | Answer::Done)
            && matches!(state.stack.last(), Some(Frame::Step(step)) if step.attempt_deadline.is_none())
    }

    /// Takes the answer there.
    #[inline]
    pub(super) fn tell_step(&mut self, answer: Answer<D>, at: Time) {
        self.state.pending = Pending::Nothing;
        self.pass_time(at);
        match step::answered(self, answer) {
            Next::Wait => {}
            next => self.follow(next),
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
