//! The calls of an agent under limits of the step, or of one around it.

use std::sync::Arc;

use super::{Stage, ask};
use crate::machine::cursor::{Cursor, Next};
use crate::machine::frame::top;
use crate::machine::{Command, Completion, Domain, Failure, LimitBreach, LimitKind};
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

/// The next thing is a call of the agent: it is reserved first when usage is limited, and refused when it has no price
/// where cost is limited by the step or by one around it.
#[inline]
pub(super) fn reach_agent<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let limits = cursor.state.options.limits;
    let (frame, step) = top!(cursor, Step);
    let limited = step.limits.is_some() || cursor.state.limited > 0;
    frame.stage = if limits { Stage::Reserve } else { Stage::Agent };
    if limited {
        let (opened, estimate) = (frame.opened, frame.estimate(step));
        let unpriced = |limits: &UsageLimits, _| limits.needs_price_of(estimate).then_some(LimitKind::Price);
        if let Some(breach) = cursor.breach(unpriced) {
            let stop = Completion::Stopped(Arc::new(breach).into());
            cursor.close(opened, &stop);
            return Next::Return(stop);
        }
    }
    ask(cursor)
}
