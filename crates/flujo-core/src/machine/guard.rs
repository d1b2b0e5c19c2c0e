//! A way out for a part of a pipeline that fails: its handler. Leaves no record of its own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cursor::{Ask, Cursor, Next, Reply};
use super::frame::{Frame, top};
use super::held::Visitor;
use super::step::both_failed;
use super::{Answer, Completion, Domain, Failure, Input, Role};
use crate::plan::{Kind, NodeId};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) struct GuardFrame<D: Domain> {
    node: NodeId,
    stage: Stage,
    input: D::Object,
    /// Where the records of the body begin.
    first: u32,
    failure: Option<Arc<Failure<D>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Body,
    Describe,
    Handler,
}

impl<D: Domain> GuardFrame<D> {
    pub(super) fn visit(&self, visit: &mut Visitor<'_, D>) {
        visit.object(&self.input);
        if let Some(failure) = &self.failure {
            visit.failure(failure);
        }
    }
}

pub(super) fn enter<D: Domain>(cursor: &mut Cursor<'_, D>, node: NodeId, input: D::Object) -> Next<D> {
    let first = u32::try_from(cursor.state.history.records.len()).unwrap_or(u32::MAX);
    let Kind::Guard(guard) = &cursor.plan.node(node).kind else {
        return Next::Wait;
    };
    let frame = GuardFrame {
        node,
        stage: Stage::Body,
        input: input.clone(),
        first,
        failure: None,
    };
    cursor.state.stack.push(Frame::Guard(Box::new(frame)));
    Next::Enter(guard.body, input)
}

pub(super) fn ask<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let deadline = cursor.state.deadline;
    let (frame, _) = top!(cursor, Guard);
    let (Stage::Describe, Some(failure)) = (frame.stage, frame.failure.clone()) else {
        return Next::Wait;
    };
    let input = Input::Route {
        failure,
        input: frame.input.clone(),
        first: frame.first,
    };
    let node = frame.node;
    cursor.call(Ask {
        node,
        role: Role::Describe,
        index: 0,
        input,
        view: None,
        attempt: 0,
        deadline,
    })
}

/// The body or the handler has ended.
pub(super) fn child_finished<D: Domain>(cursor: &mut Cursor<'_, D>, completion: Completion<D>) -> Next<D> {
    let (frame, _) = top!(cursor, Guard);
    match (frame.stage, completion) {
        (Stage::Body, Completion::Failed(failure)) => {
            frame.failure = Some(failure);
            frame.stage = Stage::Describe;
            ask(cursor)
        }
        (Stage::Handler, Completion::Failed(second)) => match frame.failure.take() {
            Some(first) => {
                let mut failure = both_failed(&first, &second);
                failure.step = Arc::clone(&first.step);
                Next::Return(Completion::Failed(Arc::new(failure)))
            }
            None => Next::Return(Completion::Failed(second)),
        },
        (_, completion) => Next::Return(completion),
    }
}

pub(super) fn replied<D: Domain>(cursor: &mut Cursor<'_, D>, reply: Reply<D>) -> Next<D> {
    let (frame, definition) = top!(cursor, Guard);
    match (reply, frame.failure.clone()) {
        (Reply::Answer(Answer::Value { value, .. }, _), _) => {
            frame.stage = Stage::Handler;
            Next::Enter(definition.handler, value)
        }
        (Reply::Failed(..) | Reply::TimedOut(_), Some(failure)) => Next::Return(Completion::Failed(failure)),
        _ => Next::Wait,
    }
}
