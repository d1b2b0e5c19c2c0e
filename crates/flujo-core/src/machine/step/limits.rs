//! The calls of an agent under limits of the step, or of one around it.

use std::sync::Arc;

use super::{Made, Stage, StepFrame, ask, begin_attempt, replied};
use crate::machine::cursor::{Cursor, Next, Reply};
use crate::machine::frame::{Frame, top};
use crate::machine::{
    CallId, Command, Completion, Domain, Failure, LimitBreach, LimitKind, Options, Pending, RetryAdvice, Time,
};
use crate::plan::{Kind, NodeId};
use crate::usage::{Usage, UsageLimits};

/// Stops the run at a step by which a limit of its own, or of a step around it, was passed; what the passing call gave
/// is kept.
pub(super) fn exceeded<D: Domain>(
    cursor: &mut Cursor<'_, D>,
    breach: LimitBreach,
    actual: Usage,
    failure: Option<Failure<D>>,
) -> Next<D> {
    let limits = cursor.state.options.limits;
    let (frame, definition) = top!(cursor, Step);
    let (opened, estimate) = (frame.opened, definition.estimate);
    if limits {
        // Nothing waits for the answer: the run stops here.
        cursor.commands.push_back(Command::Settle {
            node: opened.node,
            estimate,
            actual,
        });
    }
    stop_at_limit(cursor, breach, failure)
}

pub(super) fn stop_at_limit<D: Domain>(
    cursor: &mut Cursor<'_, D>,
    breach: LimitBreach,
    failure: Option<Failure<D>>,
) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    let (opened, output) = (frame.opened, frame.value().clone());
    if let Some(record) = cursor.record(opened.record) {
        match failure {
            Some(failure) => record.details_mut().attempt_failures.push(Arc::new(failure)),
            None => record.output = Some(output),
        }
    }
    let stop = Completion::Stopped(Arc::new(breach).into());
    cursor.close(opened, &stop);
    Next::Return(stop)
}

/// The next thing is a call of the agent: it is reserved first when usage is limited, and admitted when its rate is. It is
/// refused when it has no price where cost is limited by the step or by one around it.
#[inline]
pub(super) fn reach_agent<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let Options {
        limits, rates: rated, ..
    } = cursor.state.options;
    let (frame, step) = top!(cursor, Step);
    let limited = step.limits.is_some() || cursor.state.limited > 0;
    frame.stage = if limits { Stage::Reserve } else { Stage::Agent };
    let rated = rated || frame.is_rated(step);
    if limited {
        let (opened, estimate) = (frame.opened, frame.estimate(step));
        let unpriced = |limits: &UsageLimits, _| limits.needs_price_of(estimate).then_some(LimitKind::Price);
        if let Some(breach) = cursor.breach(unpriced) {
            let stop = Completion::Stopped(Arc::new(breach).into());
            cursor.close(opened, &stop);
            return Next::Return(stop);
        }
    }
    if rated && !limits {
        return wait_for_admission(cursor);
    }
    ask(cursor)
}

/// The budget allows the call of the agent.
pub(super) fn reserved<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let rated = cursor.state.options.rates;
    let (frame, step) = top!(cursor, Step);
    if rated || frame.is_rated(step) {
        return wait_for_admission(cursor);
    }
    frame.stage = Stage::Agent;
    ask(cursor)
}

impl<D: Domain> Cursor<'_, D> {
    /// Asks the host to let an agent be called.
    pub(super) fn admit(
        &mut self,
        node: NodeId,
        tokens: u64,
        deadline: Option<Time>,
        agent: Option<D::Object>,
    ) -> Next<D> {
        let call = CallId(self.next_id());
        self.state.pending = Pending::Call(call);
        self.commands.push_back(Command::Admit {
            call,
            node,
            tokens,
            deadline,
            agent,
        });
        Next::Wait
    }
}

/// Waits until the rate limits let the agent be called. The time limit of the attempt stands still meanwhile, deadlines
/// don't.
fn wait_for_admission<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (now, deadline) = (cursor.state.now, cursor.state.deadline);
    let (frame, step) = top!(cursor, Step);
    frame.stage = Stage::Admit;
    if step.policy.timeout.is_some() {
        let left = frame.attempt_deadline.map(|limit| limit.saturating_sub(now));
        frame.details_mut().time_left = left;
        frame.attempt_deadline = deadline;
    }
    ask(cursor)
}

/// The time of an attempt that had been stopped goes on.
fn begin_time<D: Domain>(frame: &mut StepFrame<D>, now: Time, deadline: Option<Time>) {
    if let Some(left) = frame
        .details
        .as_mut()
        .and_then(|details| details.time_left.take())
    {
        let own = now.saturating_add(left);
        frame.attempt_deadline = Some(deadline.map_or(own, |deadline| deadline.min(own)));
    }
}

/// The rate limits let the agent be called.
pub(super) fn admitted<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (now, deadline) = (cursor.state.now, cursor.state.deadline);
    let (frame, _) = top!(cursor, Step);
    frame.stage = Stage::Agent;
    begin_time(frame, now, deadline);
    ask(cursor)
}

/// Goes on with a step that was stopped: what it had been doing is done again. A call of the agent that was broken off
/// begins its attempt anew, since it may have written to the attempt's context.
pub(in crate::machine) fn take_up<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (now, deadline) = (cursor.state.now, cursor.state.deadline);
    let (frame, _) = top!(cursor, Step);
    match frame.stage {
        // The meter that the run goes on with knows of the call.
        Stage::Settle => replied(cursor, Reply::Reserved),
        Stage::Reserve | Stage::Admit => {
            begin_time(frame, now, deadline);
            reach_agent(cursor)
        }
        Stage::Prompt(_) | Stage::Agent => {
            (frame.made, frame.view, frame.details) = (Made::Nothing, None, None);
            frame.attempt = frame.attempt.saturating_sub(1);
            let (record, again) = (frame.opened.record, frame.attempt > 0);
            if let Some(record) = cursor.record(record).filter(|_| again) {
                record.details_mut().attempts_begun.pop();
            }
            begin_attempt(cursor)
        }
        _ => ask(cursor),
    }
}

/// A call of the agent has ended, or will not be made although it was admitted: whoever shares its rate limits may be
/// next.
pub(in crate::machine) fn release<D: Domain>(cursor: &mut Cursor<'_, D>, usage: Usage, advice: RetryAdvice) {
    let rated = cursor.state.options.rates;
    let Some(Frame::Step(frame)) = cursor.state.stack.last() else {
        return;
    };
    let Kind::Step(step) = &cursor.plan.node(frame.opened.node).kind else {
        return;
    };
    if matches!(frame.stage, Stage::Agent | Stage::Admit) && (rated || frame.is_rated(step)) {
        let hold = match advice {
            RetryAdvice::After(wait) => Some(wait),
            RetryAdvice::Allowed | RetryAdvice::Never => None,
        };
        let tokens = usage.tokens;
        cursor.commands.push_back(Command::Release { tokens, hold });
    }
}
