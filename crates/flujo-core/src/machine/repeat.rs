//! The same body again and again: body, then perhaps a judge of its output, then the exit condition.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cursor::{Ask, Cursor, Next, Reply};
use super::fault::{Fault, is_planted};
use super::frame::{Frame, Opened, top};
use super::held::Visitor;
use super::{Answer, Completion, Domain, ExitReason, Failure, FailureKind, Input, LoopEnd, Role};
use crate::plan::{IterationFailure, NodeId};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) struct LoopFrame<D: Domain> {
    pub(super) opened: Opened,
    stage: Stage,
    /// From 1.
    iteration: u32,
    /// What the loop was given.
    start: D::Object,
    /// What the stage works on: the input of the body, its output, the judge's verdict.
    value: D::Object,
    /// The body's output, while its judge looks at it.
    judged: Option<D::Object>,
    /// The body's output in the last iteration that succeeded.
    output: Option<D::Object>,
    /// The context around an iteration whose failure must leave no trace.
    pub(super) outer: Option<D::Context>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    First,
    Body,
    Judge,
    Exit,
    Next,
    Output,
}

impl<D: Domain> LoopFrame<D> {
    pub(super) fn visit(&self, visit: &mut Visitor<'_, D>) {
        [&self.start, &self.value]
            .into_iter()
            .chain(&self.judged)
            .chain(&self.output)
            .for_each(|object| visit.object(object));
        if let Some(outer) = &self.outer {
            visit.context(outer);
        }
    }
}

pub(super) fn enter<D: Domain>(cursor: &mut Cursor<'_, D>, node: NodeId, input: D::Object) -> Next<D> {
    let opened = cursor.open(node);
    let frame = LoopFrame {
        opened,
        stage: Stage::First,
        iteration: 0,
        start: input.clone(),
        value: input,
        judged: None,
        output: None,
        outer: None,
    };
    cursor.state.stack.push(Frame::Loop(Box::new(frame)));
    let (_, definition) = top!(cursor, Loop);
    if definition.first_input.is_some() {
        ask(cursor)
    } else {
        iterate(cursor)
    }
}

/// Begins the next iteration on the frame's value.
fn iterate<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    if cursor.too_late() {
        let (frame, _) = top!(cursor, Loop);
        let node = frame.opened.node;
        let failure = cursor.late(node, 0);
        return fail(cursor, failure, FailureKind::Deadline, ExitReason::Deadline);
    }
    let (frame, definition) = top!(cursor, Loop);
    frame.iteration += 1;
    frame.stage = Stage::Body;
    if definition.on_failure == IterationFailure::Continue {
        let inner = D::fork(&cursor.state.context);
        frame.outer = Some(std::mem::replace(&mut cursor.state.context, inner));
    }
    let (record, iteration) = (frame.opened.record, frame.iteration);
    let next = Next::Enter(definition.body, frame.value.clone());
    let node = frame.opened.node;
    cursor.go_round(node, iteration);
    if let Some(record) = cursor.record(record) {
        record.attempts = iteration;
    }
    next
}

pub(super) fn ask<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let deadline = cursor.state.deadline;
    let (frame, _) = top!(cursor, Loop);
    let role = match frame.stage {
        Stage::First => Role::LoopInput,
        Stage::Exit => Role::Exit,
        Stage::Next => Role::NextInput,
        Stage::Output => Role::LoopOutput,
        Stage::Body | Stage::Judge => return Next::Wait,
    };
    let input = Input::Iteration {
        value: frame.value.clone(),
        start: frame.start.clone(),
        index: frame.iteration,
    };
    let node = frame.opened.node;
    cursor.call(Ask {
        node,
        role,
        index: 0,
        input,
        view: None,
        attempt: 0,
        deadline,
    })
}

/// The body or the judge has ended.
pub(super) fn child_finished<D: Domain>(cursor: &mut Cursor<'_, D>, completion: Completion<D>) -> Next<D> {
    let (frame, definition) = top!(cursor, Loop);
    match completion {
        Completion::Success(output) => {
            if let (Stage::Body, Some(judge)) = (frame.stage, definition.judge) {
                frame.judged = Some(output.clone());
                frame.stage = Stage::Judge;
                return Next::Enter(judge, output);
            }
            frame.output = Some(frame.judged.take().unwrap_or_else(|| output.clone()));
            frame.value = output;
            frame.stage = Stage::Exit;
            if let Some(outer) = frame.outer.take() {
                let inner = std::mem::replace(&mut cursor.state.context, outer);
                if let Err(failure) = D::commit(&mut cursor.state.context, inner) {
                    return fail(cursor, failure, FailureKind::Context, ExitReason::BodyStepError);
                }
            }
            ask(cursor)
        }
        Completion::Failed(failure) => {
            if let Some(outer) = frame.outer.take()
                && !is_planted(Fault::FailedIterationCommitted)
            {
                cursor.state.context = outer;
            }
            iteration_failed(cursor, failure)
        }
        Completion::Stopped(stop) => {
            if let Some(outer) = frame.outer.take() {
                cursor.state.context = outer;
            }
            cursor.end_top(Completion::Stopped(stop))
        }
    }
}

/// An iteration failed: the loop fails with it, or goes on with the last good output.
fn iteration_failed<D: Domain>(cursor: &mut Cursor<'_, D>, cause: Arc<Failure<D>>) -> Next<D> {
    let (frame, definition) = top!(cursor, Loop);
    let judged = frame.judged.take();
    if definition.on_failure == IterationFailure::Continue {
        if frame.iteration >= definition.max_loops {
            return exhausted(cursor, Some(&cause));
        }
        if let Some(output) = frame.output.clone() {
            frame.value = output;
            return next_input(cursor);
        }
        return iterate(cursor);
    }
    if judged.is_some() {
        frame.output = judged;
    }
    let cause = Failure::inside(cause);
    let message = format!("Loop body failed: step '{}': {cause}", cause.step);
    let mut failure = Failure::new(FailureKind::LoopBody, Arc::clone(&cause.error_type), message);
    failure.error.clone_from(&cause.error);
    failure.retry = cause.root().retry;
    let failure = failure.caused_by(cause);
    let (frame, _) = top!(cursor, Loop);
    let node = frame.opened.node;
    let failure = cursor.located(failure, FailureKind::LoopBody, node, 0);
    conclude(
        cursor,
        ExitReason::BodyStepError,
        Completion::Failed(Arc::new(failure)),
    )
}

/// Another iteration follows: what it is to work on.
fn next_input<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, definition) = top!(cursor, Loop);
    if definition.next_input.is_some() {
        frame.stage = Stage::Next;
        return ask(cursor);
    }
    if let (Some(_), Some(output)) = (definition.judge, &frame.output) {
        frame.value = output.clone();
    }
    iterate(cursor)
}

/// The most iterations have been made, and the loop has not done.
fn exhausted<D: Domain>(cursor: &mut Cursor<'_, D>, cause: Option<&Arc<Failure<D>>>) -> Next<D> {
    let (frame, definition) = top!(cursor, Loop);
    let (node, output) = (frame.opened.node, frame.output.clone());
    let output = if definition.judge.is_some() && frame.stage == Stage::Exit {
        Some(frame.value.clone())
    } else {
        output
    };
    let name = &cursor.plan.node(node).name;
    let times = definition.max_loops;
    let cause = cause.map(|cause| Failure::inside(Arc::clone(cause)));
    let mut message = format!("loop '{name}' reached max_loops ({times}) before its exit condition held");
    if let Some(cause) = &cause {
        message.push_str("; the last iteration failed: ");
        message.push_str(&cause.to_string());
    }
    let mut failure = Failure::new(FailureKind::LoopLimit, "MaxLoopsReached", message).permanent();
    failure.causes.extend(cause);
    let failure = cursor.located(failure, FailureKind::LoopLimit, node, 0);
    let (frame, _) = top!(cursor, Loop);
    let record = frame.opened.record;
    let next = conclude(
        cursor,
        ExitReason::MaxLoops,
        Completion::Failed(Arc::new(failure)),
    );
    if let Some(record) = cursor.record(record) {
        record.output = output;
    }
    next
}

pub(super) fn replied<D: Domain>(cursor: &mut Cursor<'_, D>, reply: Reply<D>) -> Next<D> {
    let (frame, _) = top!(cursor, Loop);
    let (node, record, stage) = (frame.opened.node, frame.opened.record, frame.stage);
    let reason = match stage {
        Stage::First => ExitReason::InitialInputMapperError,
        Stage::Next => ExitReason::IterationInputMapperError,
        Stage::Output => ExitReason::LoopOutputMapperError,
        _ => ExitReason::ExitConditionError,
    };
    match reply {
        Reply::Answer(answer, view) => {
            let reads_only = stage == Stage::Exit;
            if let Some(view) = view.filter(|_| !reads_only)
                && let Err(failure) = D::commit(&mut cursor.state.context, view)
            {
                return fail(cursor, failure, FailureKind::Context, reason);
            }
            answered(cursor, answer)
        }
        Reply::Failed(failure, usage) => {
            cursor.spend(record, usage);
            let kind = if stage == Stage::Exit {
                FailureKind::Condition
            } else {
                FailureKind::Mapper
            };
            fail(cursor, *failure, kind, reason)
        }
        Reply::TimedOut(usage) => {
            cursor.spend(record, usage);
            let failure = cursor.late(node, 0);
            fail(cursor, failure, FailureKind::Deadline, reason)
        }
        _ => Next::Wait,
    }
}

fn answered<D: Domain>(cursor: &mut Cursor<'_, D>, answer: Answer<D>) -> Next<D> {
    let (frame, definition) = top!(cursor, Loop);
    let record = frame.opened.record;
    match (frame.stage, answer) {
        (Stage::First | Stage::Next, Answer::Value { value, usage }) => {
            frame.value = value;
            cursor.spend(record, usage);
            iterate(cursor)
        }
        (Stage::Exit, Answer::Decision(true)) => {
            if let Some(output) = frame.output.clone() {
                frame.value = output;
            }
            if definition.output.is_some() {
                frame.stage = Stage::Output;
                return ask(cursor);
            }
            let output = frame.value.clone();
            conclude(cursor, ExitReason::Condition, Completion::Success(output))
        }
        (Stage::Exit, Answer::Decision(false)) => {
            let over = u32::from(is_planted(Fault::LoopRunsOver));
            if frame.iteration >= definition.max_loops + over {
                exhausted(cursor, None)
            } else {
                next_input(cursor)
            }
        }
        (Stage::Output, Answer::Value { value, usage }) => {
            cursor.spend(record, usage);
            conclude(cursor, ExitReason::Condition, Completion::Success(value))
        }
        _ => Next::Wait,
    }
}

fn fail<D: Domain>(
    cursor: &mut Cursor<'_, D>,
    failure: Failure<D>,
    kind: FailureKind,
    reason: ExitReason,
) -> Next<D> {
    let (frame, _) = top!(cursor, Loop);
    let node = frame.opened.node;
    let failure = cursor.located(failure, kind, node, 0);
    conclude(cursor, reason, Completion::Failed(Arc::new(failure)))
}

/// Ends the loop; why is kept in its record, and of a loop that failed the last output.
fn conclude<D: Domain>(cursor: &mut Cursor<'_, D>, reason: ExitReason, completion: Completion<D>) -> Next<D> {
    let (frame, _) = top!(cursor, Loop);
    let (record, iterations, output) = (frame.opened.record, frame.iteration, frame.output.take());
    if let Some(record) = cursor.record(record) {
        record.details_mut().loop_end = Some(LoopEnd { iterations, reason });
        record.output = output;
    }
    cursor.end_top(completion)
}
