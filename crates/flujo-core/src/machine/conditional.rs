//! One of several branches, chosen by a condition.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cursor::{Ask, Cursor, Next, Reply};
use super::frame::{Frame, Opened, top};
use super::{Answer, Completion, Domain, Failure, FailureKind, Input, Role};
use crate::plan::{ConditionalNode, NodeId};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) struct ConditionalFrame<D: Domain> {
    pub(super) opened: Opened,
    stage: Stage,
    value: D::Object,
}

impl<D: Domain> ConditionalFrame<D> {
    pub(super) fn value(&self) -> &D::Object {
        &self.value
    }
}

/// With the branch's place, the default's being one past the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Condition,
    Input(u32),
    Branch(u32),
    Output(u32),
}

pub(super) fn enter<D: Domain>(cursor: &mut Cursor<'_, D>, node: NodeId, input: D::Object) -> Next<D> {
    let opened = cursor.open(node);
    let frame = ConditionalFrame {
        opened,
        stage: Stage::Condition,
        value: input,
    };
    cursor.state.stack.push(Frame::Conditional(Box::new(frame)));
    if cursor.too_late() {
        let failure = cursor.late(node, 0);
        return cursor.end_top(Completion::Failed(Arc::new(failure)));
    }
    ask(cursor)
}

pub(super) fn ask<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let deadline = cursor.state.deadline;
    let (frame, _) = top!(cursor, Conditional);
    let (role, index) = match frame.stage {
        Stage::Condition => (Role::Condition, 0),
        Stage::Input(branch) => (Role::BranchInput, branch),
        Stage::Output(branch) => (Role::BranchOutput, branch),
        Stage::Branch(_) => return Next::Wait,
    };
    let (node, input) = (frame.opened.node, Input::Value(frame.value.clone()));
    cursor.call(Ask {
        node,
        role,
        index,
        input,
        view: None,
        attempt: 0,
        deadline,
    })
}

pub(super) fn replied<D: Domain>(cursor: &mut Cursor<'_, D>, reply: Reply<D>) -> Next<D> {
    let (frame, definition) = top!(cursor, Conditional);
    let (node, record, stage) = (frame.opened.node, frame.opened.record, frame.stage);
    let (answer, view) = match reply {
        Reply::Answer(answer, view) => (answer, view),
        Reply::Failed(failure, usage) => {
            cursor.spend(record, usage);
            let kind = if stage == Stage::Condition {
                FailureKind::Condition
            } else {
                FailureKind::Mapper
            };
            let failure = cursor.located(*failure, kind, node, 0);
            return cursor.end_top(Completion::Failed(Arc::new(failure)));
        }
        Reply::TimedOut(usage) => {
            cursor.spend(record, usage);
            let failure = cursor.late(node, 0);
            return cursor.end_top(Completion::Failed(Arc::new(failure)));
        }
        _ => return Next::Wait,
    };
    match (stage, answer) {
        (Stage::Condition, Answer::Branch { key, branch }) => {
            let last = u32::try_from(definition.branches.len()).unwrap_or(u32::MAX);
            let Some(branch) = branch
                .filter(|branch| *branch < last)
                .or(definition.default.map(|_| last))
            else {
                let failure = unknown_branch(&key, definition);
                let failure = cursor.located(failure, FailureKind::UnknownBranch, node, 0);
                return cursor.end_top(Completion::Failed(Arc::new(failure)));
            };
            frame.stage = if definition.input_mapper.is_some() {
                Stage::Input(branch)
            } else {
                Stage::Branch(branch)
            };
            if let Some(record) = cursor.record(record) {
                record.details_mut().branch = Some(key);
            }
            if definition.input_mapper.is_some() {
                ask(cursor)
            } else {
                enter_branch(cursor)
            }
        }
        (Stage::Input(branch), Answer::Value { value, usage }) => {
            frame.value = value;
            frame.stage = Stage::Branch(branch);
            cursor.spend(record, usage);
            match commit(cursor, node, view) {
                Ok(()) => enter_branch(cursor),
                Err(failure) => cursor.end_top(Completion::Failed(failure)),
            }
        }
        (Stage::Output(_), Answer::Value { value, usage }) => {
            cursor.spend(record, usage);
            match commit(cursor, node, view) {
                Ok(()) => cursor.end_top(Completion::Success(value)),
                Err(failure) => cursor.end_top(Completion::Failed(failure)),
            }
        }
        _ => Next::Wait,
    }
}

fn enter_branch<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, definition) = top!(cursor, Conditional);
    let Stage::Branch(branch) = frame.stage else {
        return Next::Wait;
    };
    let body = definition
        .branches
        .get(branch as usize)
        .map(|(_, body)| *body)
        .or(definition.default);
    match body {
        Some(body) => Next::Enter(body, frame.value.clone()),
        None => Next::Wait,
    }
}

pub(super) fn child_finished<D: Domain>(cursor: &mut Cursor<'_, D>, completion: Completion<D>) -> Next<D> {
    let (frame, definition) = top!(cursor, Conditional);
    match (completion, frame.stage) {
        (Completion::Success(output), Stage::Branch(branch)) if definition.output_mapper.is_some() => {
            frame.value = output;
            frame.stage = Stage::Output(branch);
            ask(cursor)
        }
        (completion, _) => cursor.end_top(completion),
    }
}

/// Takes over what a mapper wrote into the context.
fn commit<D: Domain>(
    cursor: &mut Cursor<'_, D>,
    node: NodeId,
    view: Option<D::Context>,
) -> Result<(), Arc<Failure<D>>> {
    match view {
        Some(view) => D::commit(&mut cursor.state.context, view)
            .map_err(|failure| Arc::new(cursor.located(failure, FailureKind::Context, node, 0))),
        None => Ok(()),
    }
}

fn unknown_branch<D: Domain>(key: &str, node: &ConditionalNode<D::Callable>) -> Failure<D> {
    let known: Vec<String> = node
        .branches
        .iter()
        .map(|(name, _)| format!("'{name}'"))
        .collect();
    let message = format!(
        "No branch found for key '{key}' and no default branch provided; the branches are {}",
        known.join(", ")
    );
    Failure::new(FailureKind::UnknownBranch, "KeyError", message).permanent()
}
