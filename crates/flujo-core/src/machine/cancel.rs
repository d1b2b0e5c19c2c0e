//! How a run is stopped: what is under way is told to end and awaited, then every frame is taken down. A loop, never a
//! chain of frames that wait for one another.

use super::cursor::{Cursor, Next, Reply};
use super::gate::{Ended, Gate};
use super::{
    Answer, CallId, Command, Completion, Domain, Frame, Pending, RetryAdvice, State, Stop, Time, frame, gate,
    step,
};
use crate::cache::Uncached;
use crate::plan::{Kind, NodeId};
use crate::usage::Usage;

impl<D: Domain> Cursor<'_, D> {
    /// Begins to stop the run because somebody asked for it.
    pub(super) fn cancel(&mut self) -> Next<D> {
        if self.state.stopping.is_some() {
            return Next::Wait;
        }
        self.state.stopping = Some(Stop::Cancelled);
        match self.state.pending {
            Pending::Call(call) => self.commands.push_back(Command::CancelCall(call)),
            Pending::Timer(timer, _) => {
                self.commands.push_back(Command::CancelSleep(timer));
                self.state.pending = Pending::Nothing;
            }
            Pending::Pause(_) => self.state.pending = Pending::Nothing,
            Pending::Budget | Pending::Nothing => {}
        }
        self.go_on_stopping()
    }

    /// Takes in that a call was cancelled; `None`: it is not awaited.
    pub(super) fn call_cancelled(&mut self, call: CallId, at: Time) -> Option<Next<D>> {
        let gave_up = matches!(self.state.stack.last(), Some(Frame::Map(map)) if map.gave_up_reading());
        if self.state.pending == Pending::Call(call) && !gave_up {
            self.keep();
        }
        if !self.take_call(call, at) {
            return None;
        }
        if gave_up {
            return Some(self.reply(Reply::Answer(Answer::Item(None), None)));
        }
        self.state.stopping.get_or_insert(Stop::Cancelled);
        Some(self.reply(Reply::TimedOut(Usage::ZERO)))
    }

    /// Takes in the end of a call of a run that is stopping: what it used counts.
    pub(super) fn reply_while_stopping(&mut self, reply: &Reply<D>) -> Next<D> {
        let usage = match reply {
            Reply::Answer(Answer::Value { usage, .. }, _)
            | Reply::Failed(_, usage)
            | Reply::TimedOut(usage) => *usage,
            _ => Usage::ZERO,
        };
        if let Reply::Miss(Some(lead)) = reply {
            self.release(Some(lead.ticket), Uncached::Stopped);
        }
        if let Some(opened) = self.state.stack.last().and_then(Frame::opened) {
            self.spend(opened.record, usage);
            if let Some(kept) = self.kept {
                kept.spend(opened.record, usage);
            }
            step::release(self, usage, RetryAdvice::Never);
            self.give_back(opened.node, reply, usage);
        }
        self.go_on_stopping()
    }

    /// Gives back what had been reserved for the agent's call, which has ended or will not be made. Nothing waits for
    /// the answer.
    fn give_back(&mut self, node: NodeId, reply: &Reply<D>, actual: Usage) {
        let reserved = match self.state.stack.last() {
            Some(Frame::Step(step)) => step.holds_reservation(matches!(reply, Reply::Reserved)),
            _ => false,
        };
        if let (true, true, Kind::Step(step)) =
            (self.state.options.limits, reserved, &self.plan.node(node).kind)
        {
            self.commands.push_back(Command::Settle {
                node,
                estimate: step.estimate,
                actual,
            });
        }
    }

    /// Waits for what is under way, then takes everything down.
    pub(super) fn go_on_stopping(&mut self) -> Next<D> {
        self.cancel_lanes();
        let lanes_run = self
            .state
            .stack
            .last()
            .and_then(Frame::lanes)
            .is_some_and(super::lanes::Lanes::any_running);
        if lanes_run || self.state.pending != Pending::Nothing {
            return Next::Wait;
        }
        self.take_down()
    }

    /// Tells the lanes of the frame on top to end.
    pub(super) fn cancel_lanes(&mut self) {
        if let Some(lanes) = self.state.stack.last_mut().and_then(Frame::lanes_mut) {
            for lane in lanes.mark_cancelled() {
                self.commands.push_back(Command::CancelLane(lane));
            }
        }
    }

    fn take_down(&mut self) -> Next<D> {
        let stop = self.state.stopping.clone().unwrap_or(Stop::Cancelled);
        self.state.begin = None;
        let gate = std::mem::take(&mut self.state.gate);
        if matches!(gate, Gate::AfterNode(_)) {
            // A hook was being told of the end of the node on top: its record is closed.
            self.state.stack.pop();
        }
        while let Some(mut frame) = self.state.stack.pop() {
            if let Some(outer) = frame.take_outer() {
                self.state.context = outer;
            }
            if let Frame::Step(step) = &mut frame {
                let lead = step.take_lead();
                self.release(lead, Uncached::Stopped);
            }
            if let Some(opened) = frame.opened() {
                self.keep_unfinished(&frame, opened.record);
                self.close(opened, &Completion::Stopped(stop.clone()));
            }
        }
        match gate {
            // The last hook was being told: it is not told again, and why the run had ended stays.
            Gate::AfterRun(Ended::Success(_)) => self.conclude(Completion::Stopped(stop)),
            Gate::AfterRun(ended) => self.conclude(ended.into()),
            _ => gate::after_run(self, Completion::Stopped(stop)),
        }
    }

    /// Keeps in the record what the frame of a stopped node knows.
    fn keep_unfinished(&mut self, frame: &Frame<D>, record: u32) {
        if let Some(lanes) = frame.lanes() {
            let lanes = lanes.records(self.plan);
            if !lanes.is_empty()
                && let Some(record) = self.record(record)
            {
                record.details_mut().lanes = lanes;
            }
        }
    }

    /// After a restore: asks again for what was under way.
    pub(super) fn ask_again(&mut self) {
        if self.state.finished {
            return;
        }
        let pending = std::mem::replace(&mut self.state.pending, Pending::Nothing);
        let next = match pending {
            Pending::Timer(timer, until) => {
                self.state.pending = pending;
                self.commands.push_back(Command::Sleep { timer, until });
                Next::Wait
            }
            Pending::Call(_) if matches!(self.state.gate, Gate::AfterRun(_)) => gate::ask(self),
            Pending::Call(_) | Pending::Budget if self.state.stopping.is_some() => self.go_on_stopping(),
            Pending::Call(_) | Pending::Budget if self.state.gate.is_waiting() => gate::ask(self),
            Pending::Call(_) | Pending::Budget | Pending::Pause(_) => frame::ask_again(self),
            Pending::Nothing => Next::Wait,
        };
        self.follow(next);
    }
}

impl<D: Domain> State<D> {
    /// Has what it sleeps through, if it does, end after so long at the latest: time that nobody ran it counts for that, and
    /// for nothing else.
    pub fn sleep_at_most(&mut self, left: Time) {
        let latest = self.now.saturating_add(left);
        if let Pending::Timer(_, until) = &mut self.pending {
            *until = latest.min(*until);
        }
    }

    /// Moves every time in it so that what was `self.now` is `now`: timers and deadlines keep what remained of them, or
    /// by how much they had been passed.
    pub(super) fn shift_time(&mut self, now: Time) {
        let then = self.now;
        let shift = |time: &mut Time| {
            *time = if now >= then {
                time.saturating_add(now - then)
            } else {
                time.saturating_sub(then - now)
            };
        };
        self.now = now;
        self.deadline.iter_mut().for_each(shift);
        if let Pending::Timer(_, until) = &mut self.pending {
            shift(until);
        }
        for frame in &mut self.stack {
            if let Some(opened) = frame.opened_mut() {
                opened.outer_deadline.iter_mut().for_each(shift);
            }
            if let Frame::Step(step) = frame {
                step.attempt_deadline.iter_mut().for_each(shift);
                let details = step.details.as_mut();
                details
                    .and_then(|details| details.outer_deadline.as_mut())
                    .into_iter()
                    .for_each(shift);
            }
        }
        for record in &mut self.history.records {
            shift(&mut record.started);
            shift(&mut record.ended);
        }
    }
}
