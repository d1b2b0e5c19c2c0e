//! What the host answered to what a step asked.

use std::sync::Arc;

use super::cached::{hit, miss};
use super::end::{attempt_failed, fail, succeed};
use super::limits::{admitted, exceeded, reach_agent, release, reserved};
use super::{Made, Redirect, Stage, advance, ask, begin_attempt};
use crate::machine::cursor::{Cursor, Next, Reply};
use crate::machine::fault::{Fault, is_planted};
use crate::machine::frame::top;
use crate::machine::{Answer, Completion, Domain, Failure, FailureKind, RetryAdvice, Stop};
use crate::usage::Usage;

pub(in crate::machine) fn replied<D: Domain>(cursor: &mut Cursor<'_, D>, reply: Reply<D>) -> Next<D> {
    let now = cursor.state.now;
    let (frame, _) = top!(cursor, Step);
    let (stage, node, record, attempt) = (frame.stage, frame.opened.node, frame.opened.record, frame.attempt);
    match reply {
        Reply::Answer(answer, view) => {
            if view.is_some() {
                frame.view = view;
            }
            if frame.attempt_deadline.is_some_and(|deadline| now > deadline) && stage != Stage::Persist {
                let usage = match answer {
                    Answer::Value { usage, .. } => usage,
                    _ => Usage::ZERO,
                };
                return timed_out(cursor, usage);
            }
            answered(cursor, answer)
        }
        Reply::Hit(output, saved) => hit(cursor, output, saved),
        Reply::Miss(lead) => miss(cursor, lead),
        Reply::TimedOut(_) | Reply::Failed(..) if stage == Stage::LookUp => miss(cursor, None),
        Reply::TimedOut(usage) => timed_out(cursor, usage),
        Reply::Failed(failure, usage) => {
            if !is_planted(Fault::RetryUsageLost) {
                cursor.spend(record, usage);
            }
            let kind = match stage {
                Stage::Prompt(_) => FailureKind::PromptProcessor,
                Stage::Output(_) => FailureKind::OutputProcessor,
                Stage::Plugin(_) => FailureKind::Plugin,
                Stage::Validator(_) => FailureKind::Validator,
                Stage::Apply => FailureKind::Context,
                Stage::Persist => return fail(cursor),
                _ => FailureKind::Agent,
            };
            let mut failure = cursor.located(*failure, kind, node, attempt);
            if matches!(kind, FailureKind::PromptProcessor | FailureKind::Context) {
                failure.retry = RetryAdvice::Never;
            }
            agent_done(cursor, usage, Some(failure))
        }
        Reply::Woke => begin_attempt(cursor),
        Reply::Reserved => match (stage, frame.failure.take()) {
            (Stage::Reserve, _) => reserved(cursor),
            (_, Some(failure)) => attempt_failed(cursor, Arc::unwrap_or_clone(failure)),
            (_, None) => advance(cursor, Stage::Output(0)),
        },
        Reply::Refused(breach) => {
            let stop = Completion::Stopped(breach.into());
            let (opened, failure) = (frame.opened, frame.failure.take());
            let output = frame.value().clone();
            if stage == Stage::Settle
                && let Some(record) = cursor.record(record)
            {
                match failure {
                    Some(failure) => record.details_mut().attempt_failures.push(failure),
                    None => record.output = Some(output),
                }
            }
            cursor.close(opened, &stop);
            Next::Return(stop)
        }
        Reply::Lane(..) => Next::Wait,
    }
}

/// What the step on top waited for was answered, in time.
pub(in crate::machine) fn answered<D: Domain>(cursor: &mut Cursor<'_, D>, answer: Answer<D>) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    let (stage, record) = (frame.stage, frame.opened.record);
    let usage = match answer {
        Answer::Value { value, usage } => {
            frame.made = Made::Value(value);
            cursor.spend(record, usage);
            usage
        }
        Answer::Rejected { feedback } => {
            if let Stage::Validator(index) = stage {
                frame.details_mut().rejections.push(feedback);
                return advance(cursor, Stage::Validator(index + 1));
            }
            let (node, attempt) = (frame.opened.node, frame.attempt);
            let failure = Failure::new(FailureKind::Plugin, "PluginError", feedback);
            let failure = cursor.located(failure, FailureKind::Plugin, node, attempt);
            return attempt_failed(cursor, failure);
        }
        Answer::Redirect {
            agent,
            identity,
            unpriced,
            rated,
        } => {
            return redirect(
                cursor,
                Redirect {
                    agent,
                    identity,
                    unpriced,
                    rated,
                },
            );
        }
        _ => Usage::ZERO,
    };
    match stage {
        Stage::Prompt(index) => advance(cursor, Stage::Prompt(index + 1)),
        Stage::Admit => admitted(cursor),
        Stage::Agent => agent_done(cursor, usage, None),
        Stage::Output(index) => advance(cursor, Stage::Output(index + 1)),
        Stage::Plugin(index) => advance(cursor, Stage::Plugin(index + 1)),
        Stage::Validator(index) => advance(cursor, Stage::Validator(index + 1)),
        Stage::Apply => succeed(cursor),
        Stage::Persist => {
            let (frame, _) = top!(cursor, Step);
            match frame
                .view
                .take()
                .map(|view| D::commit(&mut cursor.state.context, view))
            {
                Some(Err(_) | Ok(())) | None => fail(cursor),
            }
        }
        Stage::LookUp
        | Stage::Reserve
        | Stage::Body
        | Stage::Settle
        | Stage::Backoff
        | Stage::Fallback(_) => Next::Wait,
    }
}

/// After a call of the agent: what it used is settled first when usage is limited.
#[inline]
pub(super) fn agent_done<D: Domain>(
    cursor: &mut Cursor<'_, D>,
    usage: Usage,
    failure: Option<Failure<D>>,
) -> Next<D> {
    let advice = failure
        .as_ref()
        .map_or(RetryAdvice::Never, |failure| failure.retry);
    release(cursor, usage, advice);
    let limits = cursor.state.options.limits;
    let (frame, step) = top!(cursor, Step);
    if (step.limits.is_some() || cursor.state.limited > 0)
        && frame.stage == Stage::Agent
        && let Some(breach) = cursor.passed()
    {
        return exceeded(cursor, breach, usage, failure);
    }
    let (frame, _) = top!(cursor, Step);
    if limits && matches!(frame.stage, Stage::Agent | Stage::Admit) {
        frame.stage = Stage::Settle;
        if !usage.is_zero() || frame.details.is_some() {
            frame.details_mut().spent = usage;
        }
        frame.failure = failure.map(Arc::new);
        return ask(cursor);
    }
    match failure {
        Some(failure) => attempt_failed(cursor, failure),
        None => advance(cursor, Stage::Output(0)),
    }
}

pub(super) fn timed_out<D: Domain>(cursor: &mut Cursor<'_, D>, usage: Usage) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    let (node, record, attempt) = (frame.opened.node, frame.opened.record, frame.attempt);
    if frame.stage == Stage::Persist {
        return fail(cursor);
    }
    cursor.spend(record, usage);
    let failure = cursor.late(node, attempt);
    agent_done(cursor, usage, Some(failure))
}

/// A plugin asked for another agent. The agents that have been asked for in this attempt are held, so that the same
/// identity is the same object.
pub(super) fn redirect<D: Domain>(cursor: &mut Cursor<'_, D>, redirect: Redirect<D::Object>) -> Next<D> {
    let (frame, _) = top!(cursor, Step);
    let seen = |other: &Redirect<D::Object>| other.identity == redirect.identity;
    if frame.redirects().iter().any(seen) {
        let (opened, attempt) = (frame.opened, frame.attempt);
        let name = &cursor.plan.node(opened.node).name;
        let message = format!(
            "a plugin of step `{name}` redirects to an agent that has already run in this attempt: let it redirect to \
             another agent, or reject the output"
        );
        let failure = Failure::new(FailureKind::Plugin, "InfiniteRedirectError", message).permanent();
        let failure = cursor.located(failure, FailureKind::Plugin, opened.node, attempt);
        let stop = Completion::Stopped(Stop::Fatal(Arc::new(failure)));
        cursor.close(opened, &stop);
        return Next::Return(stop);
    }
    frame.details_mut().redirects.push(redirect);
    reach_agent(cursor)
}
