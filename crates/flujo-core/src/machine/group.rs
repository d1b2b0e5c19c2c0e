//! A pipeline as one step: in the context around it, or in a lane with a context made for it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cursor::{Ask, Cursor, Next, Reply};
use super::frame::{Frame, Opened, top};
use super::lanes::Lanes;
use super::{Answer, Completion, Domain, FailureKind, Input, LaneRecord, Outcome, Role};
use crate::plan::{Kind, LaneFailure, NodeId};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) struct GroupFrame<D: Domain> {
    pub(super) opened: Opened,
    /// The one lane of a group with a context of its own.
    pub(super) lanes: Lanes<D>,
    stage: Stage,
    input: D::Object,
    ended: Option<Arc<Vec<LaneRecord<D>>>>,
}

impl<D: Domain> GroupFrame<D> {
    pub(super) fn input(&self) -> &D::Object {
        &self.input
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Inherit,
    Run,
    Collect,
}

pub(super) fn enter<D: Domain>(cursor: &mut Cursor<'_, D>, node: NodeId, input: D::Object) -> Next<D> {
    let opened = cursor.open(node);
    let Kind::Group(group) = &cursor.plan.node(node).kind else {
        return Next::Wait;
    };
    let isolated = group.inherit.is_some();
    let frame = GroupFrame {
        opened,
        lanes: Lanes::new(node, isolated.then(|| input.clone())),
        stage: if isolated { Stage::Inherit } else { Stage::Run },
        input: input.clone(),
        ended: None,
    };
    cursor.state.stack.push(Frame::Group(Box::new(frame)));
    if isolated {
        ask(cursor)
    } else {
        Next::Enter(group.body, input)
    }
}

pub(super) fn ask<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let deadline = cursor.state.deadline;
    let (frame, _) = top!(cursor, Group);
    let (role, input) = match frame.stage {
        Stage::Inherit => (Role::Inherit, Input::Value(frame.input.clone())),
        Stage::Run => return Next::Wait,
        Stage::Collect => (
            Role::Collect,
            Input::Lanes(frame.ended.clone().unwrap_or_default()),
        ),
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

pub(super) fn child_finished<D: Domain>(cursor: &mut Cursor<'_, D>, completion: Completion<D>) -> Next<D> {
    cursor.end_top(completion)
}

pub(super) fn replied<D: Domain>(cursor: &mut Cursor<'_, D>, reply: Reply<D>) -> Next<D> {
    let (frame, definition) = top!(cursor, Group);
    let (node, record, stage) = (frame.opened.node, frame.opened.record, frame.stage);
    match reply {
        Reply::Lane(lane, finish) => {
            let usage = finish.usage;
            if frame.lanes.ended(lane, finish, LaneFailure::Propagate).is_none() {
                return Next::Wait;
            }
            let records = frame.lanes.records(cursor.plan);
            let outcome = frame.lanes.finish(0).map(|finish| finish.outcome.clone());
            frame.ended = Some(Arc::clone(&records));
            frame.stage = Stage::Collect;
            let collects = definition.collect.is_some();
            if let Some(record) = cursor.record(record) {
                record.details_mut().lanes = records;
            }
            if let Some(next) = cursor.lane_counts(record, usage) {
                return next;
            }
            match outcome {
                Some(Outcome::Completed(_)) if collects => ask(cursor),
                Some(Outcome::Completed(output)) => cursor.end_top(Completion::Success(output)),
                Some(Outcome::Failed(failure)) => cursor.end_top(Completion::Failed(failure)),
                Some(Outcome::Stopped(stop)) => cursor.end_top(Completion::Stopped(stop)),
                None => Next::Wait,
            }
        }
        Reply::Answer(answer, view) => match (stage, answer) {
            (Stage::Inherit, answer) => {
                let mapped = match answer {
                    Answer::Value { value, usage } => {
                        cursor.spend(record, usage);
                        Some(value)
                    }
                    _ => None,
                };
                let context = view.unwrap_or_else(|| D::fork(&cursor.state.context));
                let (frame, _) = top!(cursor, Group);
                frame.stage = Stage::Run;
                let mut lanes = std::mem::take(&mut frame.lanes);
                lanes.start_in(cursor, definition.body, mapped, context);
                let (frame, _) = top!(cursor, Group);
                frame.lanes = lanes;
                Next::Wait
            }
            (Stage::Collect, Answer::Value { value, usage }) => {
                cursor.spend(record, usage);
                match view.map(|view| D::commit(&mut cursor.state.context, view)) {
                    Some(Err(failure)) => {
                        let failure = cursor.located(failure, FailureKind::Context, node, 0);
                        cursor.end_top(Completion::Failed(Arc::new(failure)))
                    }
                    Some(Ok(())) | None => cursor.end_top(Completion::Success(value)),
                }
            }
            _ => Next::Wait,
        },
        Reply::Failed(failure, usage) => {
            cursor.spend(record, usage);
            let failure = cursor.located(*failure, FailureKind::Context, node, 0);
            cursor.end_top(Completion::Failed(Arc::new(failure)))
        }
        Reply::TimedOut(usage) => {
            cursor.spend(record, usage);
            let failure = cursor.late(node, 0);
            cursor.end_top(Completion::Failed(Arc::new(failure)))
        }
        Reply::Woke | Reply::Reserved | Reply::Refused(_) | Reply::Hit(..) | Reply::Miss(_) => Next::Wait,
    }
}
