//! How attempts end, and with them the step.

use std::sync::Arc;

use super::body::body_finished;
use super::cached::keep;
use super::{Made, Stage, ask, begin_attempt};
use crate::cache::Uncached;
use crate::machine::cursor::{Cursor, Next};
use crate::machine::fault::{Fault, is_planted};
use crate::machine::frame::top;
use crate::machine::{Completion, Domain, Failure, FailureKind, NoticeKind, RetryAdvice, retry};
use crate::plan::Rejection;

#[inline]
pub(super) fn succeed<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    let (opened, attempt) = (frame.opened, frame.attempt);
    if let Some(view) = frame.view.take()
        && let Err(failure) = D::commit(&mut cursor.state.context, view)
    {
        let failure = cursor
            .located(failure, FailureKind::Context, opened.node, attempt)
            .permanent();
        return attempt_failed(cursor, failure);
    }
    let (frame, _) = top!(cursor, Step);
    let output = match std::mem::replace(&mut frame.made, Made::Nothing) {
        Made::Value(value) => value,
        Made::Nothing => frame.input.clone(),
    };
    if let Some(ticket) = frame.take_lead() {
        keep(cursor, ticket, &output);
    }
    let completion = Completion::Success(output);
    cursor.close(opened, &completion);
    Next::Return(completion)
}

/// The attempt failed: another one, now or later, else the fallback, else the step has failed.
pub(super) fn attempt_failed<D: Domain>(cursor: &mut Cursor<'_, D>, failure: Failure<D>) -> Next<D> {
    let failure = Arc::new(failure);
    let (now, deadline, seed) = (cursor.state.now, cursor.state.deadline, cursor.state.options.seed);
    let (frame, step) = top!(cursor, Step);
    frame.failure = Some(Arc::clone(&failure));
    let (opened, attempt) = (frame.opened, frame.attempt);
    if is_planted(Fault::FailedAttemptCommitted)
        && let Some(view) = frame.view.take()
    {
        let _ = D::commit(&mut cursor.state.context, view);
    }
    let mark = cursor.mark();
    if let Some(record) = cursor.record(opened.record) {
        let details = record.details_mut();
        details.attempt_failures.push(Arc::clone(&failure));
        details.attempts_failed.push(mark);
    }
    cursor.notify(
        NoticeKind::AttemptFailed(Arc::clone(&failure)),
        opened.node,
        opened.record,
        attempt,
    );
    if failure.retry != RetryAdvice::Never && attempt <= step.policy.max_retries && !cursor.too_late() {
        let lane = cursor.state.lane.as_deref();
        let wait = retry::wait(&step.policy, failure.retry, attempt, seed, lane, opened.node);
        let until = now.saturating_add(wait);
        if wait == 0 {
            return begin_attempt(cursor);
        }
        if deadline.is_none_or(|deadline| until < deadline) {
            let (frame, _) = top!(cursor, Step);
            frame.stage = Stage::Backoff;
            frame.view = None;
            return cursor.sleep(until);
        }
    }
    give_up(cursor)
}

pub(super) fn give_up<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let too_late = cursor.too_late();
    let next_record = u32::try_from(cursor.state.history.records.len()).unwrap_or(u32::MAX);
    let (frame, _) = top!(cursor, Step);
    let lead = frame.take_lead();
    let lead = lead.filter(|_| !is_planted(Fault::LeadForgotten));
    cursor.release(lead, Uncached::Failed);
    let (frame, step) = top!(cursor, Step);
    frame.view = None;
    let (opened, attempt) = (frame.opened, frame.attempt);
    match step.fallback {
        Some(fallback) if !too_late && !is_planted(Fault::FallbackSkipped) => {
            frame.stage = Stage::Fallback(next_record);
            let input = frame.input.clone();
            cursor.notify(NoticeKind::FallbackStarted, opened.node, opened.record, attempt);
            Next::Enter(fallback, input)
        }
        _ => persist_then_fail(cursor),
    }
}

pub(super) fn persist_then_fail<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, step) = top!(cursor, Step);
    if step.persist.is_none() {
        return fail(cursor);
    }
    frame.stage = Stage::Persist;
    ask(cursor)
}

pub(super) fn fail<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, step) = top!(cursor, Step);
    let opened = frame.opened;
    let Some(failure) = frame.failure.clone() else {
        return Next::Wait;
    };
    let rejected = matches!(failure.root().kind, FailureKind::Validator | FailureKind::Plugin)
        && step.on_rejection != Rejection::Discard;
    let output = match &frame.made {
        Made::Value(value) if rejected => Some(value.clone()),
        _ => None,
    };
    if let Some(record) = cursor.record(opened.record) {
        record.output = output;
    }
    let completion = Completion::Failed(failure);
    cursor.close(opened, &completion);
    Next::Return(completion)
}

/// The step's body or its fallback has ended.
pub(in crate::machine) fn child_finished<D: Domain>(
    cursor: &mut Cursor<'_, D>,
    completion: Completion<D>,
) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    if frame.stage == Stage::Body {
        return body_finished(cursor, completion);
    }
    let (opened, attempt) = (frame.opened, frame.attempt);
    let (Stage::Fallback(fallback), Some(primary)) = (frame.stage, frame.failure.clone()) else {
        return Next::Return(completion);
    };
    if let Some(record) = cursor.record(opened.record) {
        record.details_mut().fallback = Some((fallback, Arc::clone(&primary)));
    }
    match completion {
        Completion::Failed(second) => {
            let mut failure = both_failed(&primary, &second);
            failure.step = Arc::clone(&cursor.plan.node(opened.node).name);
            failure.attempt = attempt;
            let (frame, _) = top!(cursor, Step);
            frame.failure = Some(Arc::new(failure));
            persist_then_fail(cursor)
        }
        completion => {
            cursor.close(opened, &completion);
            Next::Return(completion)
        }
    }
}

/// Of a long chain of fallbacks a failure holds this many errors: the first and the last ones.
const CHAIN: usize = 8;

/// The failure of a step whose fallback failed too. Fallbacks of fallbacks, and of parts that had some, give a list of
/// errors, not a chain of causes, so that their number costs neither long texts nor deep nesting.
pub(in crate::machine) fn both_failed<D: Domain>(
    primary: &Arc<Failure<D>>,
    second: &Arc<Failure<D>>,
) -> Failure<D> {
    let flat = |failure: &Arc<Failure<D>>| {
        let inner = Failure::inside(Arc::clone(failure));
        match inner.kind {
            FailureKind::Fallback => inner.causes.clone(),
            _ => vec![Arc::clone(failure)],
        }
    };
    let mut causes = flat(primary);
    causes.extend(flat(second));
    causes.drain(1..causes.len().saturating_sub(CHAIN - 1).max(1));
    let mut message = String::new();
    for (place, error) in causes.iter().enumerate() {
        message.push_str(if place == 0 {
            "Original error: "
        } else {
            "; Fallback error: "
        });
        message.push_str(&error.to_string());
    }
    let mut failure =
        Failure::new(FailureKind::Fallback, Arc::clone(&primary.error_type), message).permanent();
    failure.error.clone_from(&primary.error);
    failure.causes = causes;
    failure
}
