//! A part of the pipeline as the work of a step.

use super::end::attempt_failed;
use super::limits::stop_at_limit;
use super::{Made, Stage, advance};
use crate::machine::cursor::{Cursor, Next};
use crate::machine::frame::top;
use crate::machine::{Completion, Domain, Failure, FailureKind};
use crate::plan::NodeId;

/// Begins the part of the pipeline that does the step's work, in a context of its own: what it writes becomes part of
/// the attempt's when it succeeds.
pub(super) fn enter_body<D: Domain>(cursor: &mut Cursor<'_, D>, body: NodeId) -> Next<D> {
    let (frame, step) = top!(cursor, Step);
    frame.stage = Stage::Body;
    cursor.state.limited += u32::from(step.limits.is_some());
    let input = frame.value().clone();
    let inner = frame
        .view
        .take()
        .unwrap_or_else(|| D::fork(&cursor.state.context));
    let attempt_deadline = frame.attempt_deadline;
    let details = frame.details_mut();
    details.outer = Some(std::mem::replace(&mut cursor.state.context, inner));
    details.outer_deadline = std::mem::replace(&mut cursor.state.deadline, attempt_deadline);
    Next::Enter(body, input)
}

/// The part of the pipeline that does the step's work has ended.
pub(super) fn body_finished<D: Domain>(cursor: &mut Cursor<'_, D>, completion: Completion<D>) -> Next<D> {
    let now = cursor.state.now;
    let (frame, step) = top!(cursor, Step);
    let (opened, attempt) = (frame.opened, frame.attempt);
    let attempt_deadline = frame.attempt_deadline;
    if let Some(details) = &mut frame.details
        && let Some(outer) = details.outer.take()
    {
        cursor.state.deadline = details.outer_deadline.take();
        frame.view = Some(std::mem::replace(&mut cursor.state.context, outer));
    }
    let failure = match completion {
        Completion::Success(output) => {
            frame.made = Made::Value(output);
            let late = attempt_deadline.is_some_and(|deadline| now > deadline);
            late.then(|| cursor.late(opened.node, attempt))
        }
        Completion::Failed(cause)
            if cause.root().kind == FailureKind::Deadline
                && attempt_deadline.is_some_and(|deadline| now >= deadline) =>
        {
            (frame.view, frame.made) = (None, Made::Nothing);
            Some(cursor.late(opened.node, attempt))
        }
        Completion::Failed(cause) => {
            (frame.view, frame.made) = (None, Made::Nothing);
            let mut failure = Failure::clone(&cause);
            failure.retry = cause.root().retry;
            Some(failure)
        }
        Completion::Stopped(_) => {
            cursor.state.limited -= u32::from(step.limits.is_some());
            cursor.close(opened, &completion);
            return Next::Return(completion);
        }
    };
    if step.limits.is_some() {
        let breach = cursor.passed();
        cursor.state.limited -= 1;
        if let Some(breach) = breach {
            return stop_at_limit(cursor, breach, failure);
        }
    }
    match failure {
        Some(failure) => attempt_failed(cursor, failure),
        None => advance(cursor, Stage::Output(0)),
    }
}
