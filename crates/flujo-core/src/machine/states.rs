//! A state machine: pipelines that follow one another as transitions say.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cursor::{Ask, Cursor, Next, Reply};
use super::frame::{Frame, Opened, top};
use super::held::Visitor;
use super::{Answer, Completion, Domain, Failure, FailureKind, Input, Role};
use crate::plan::{Kind, NodeId, StatesNode};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) struct StatesFrame<D: Domain> {
    pub(super) opened: Opened,
    state: u32,
    stage: Stage,
    /// What the state was given.
    input: D::Object,
    output: Option<D::Object>,
    failure: Option<Arc<Failure<D>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Run,
    Transition,
}

impl<D: Domain> StatesFrame<D> {
    pub(super) fn visit(&self, visit: &mut Visitor<'_, D>) {
        std::iter::once(&self.input)
            .chain(&self.output)
            .for_each(|object| visit.object(object));
        if let Some(failure) = &self.failure {
            visit.failure(failure);
        }
    }
}

pub(super) fn enter<D: Domain>(cursor: &mut Cursor<'_, D>, node: NodeId, input: D::Object) -> Next<D> {
    let opened = cursor.open(node);
    let Kind::States(definition) = &cursor.plan.node(node).kind else {
        return Next::Wait;
    };
    let start = definition.start;
    let frame = StatesFrame {
        opened,
        state: start,
        stage: Stage::Run,
        input: input.clone(),
        output: None,
        failure: None,
    };
    cursor.state.stack.push(Frame::States(Box::new(frame)));
    begin(cursor, start, input)
}

/// Begins a state.
fn begin<D: Domain>(cursor: &mut Cursor<'_, D>, state: u32, input: D::Object) -> Next<D> {
    if cursor.too_late() {
        let (frame, _) = top!(cursor, States);
        let node = frame.opened.node;
        let failure = cursor.late(node, 0);
        return cursor.end_top(Completion::Failed(Arc::new(failure)));
    }
    let (frame, definition) = top!(cursor, States);
    frame.state = state;
    frame.stage = Stage::Run;
    frame.input = input.clone();
    frame.output = None;
    frame.failure = None;
    let (opened, of) = (frame.opened, definition.states.get(state as usize));
    if let (Some(record), Some(of)) = (cursor.record(opened.record), of) {
        record.attempts += 1;
        record.details_mut().branch = Some(Arc::clone(&of.name));
        let turn = record.attempts;
        cursor.go_round(opened.node, turn);
    }
    match of.and_then(|state| state.body) {
        Some(body) => Next::Enter(body, input),
        None => cursor.end_top(Completion::Success(input)),
    }
}

pub(super) fn ask<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let deadline = cursor.state.deadline;
    let (frame, _) = top!(cursor, States);
    if frame.stage == Stage::Run {
        return Next::Wait;
    }
    let input = Input::State {
        state: frame.state,
        output: frame.output.clone(),
        failure: frame.failure.clone(),
    };
    let node = frame.opened.node;
    cursor.call(Ask {
        node,
        role: Role::Transition,
        index: 0,
        input,
        view: None,
        attempt: 0,
        deadline,
    })
}

/// A state's pipeline has ended.
pub(super) fn child_finished<D: Domain>(cursor: &mut Cursor<'_, D>, completion: Completion<D>) -> Next<D> {
    let (frame, definition) = top!(cursor, States);
    let is_end = definition
        .states
        .get(frame.state as usize)
        .is_none_or(|state| state.end);
    match completion {
        Completion::Stopped(_) => return cursor.end_top(completion),
        completion if is_end => return cursor.end_top(completion),
        Completion::Success(output) => frame.output = Some(output),
        Completion::Failed(failure) => frame.failure = Some(failure),
    }
    frame.stage = Stage::Transition;
    ask(cursor)
}

pub(super) fn replied<D: Domain>(cursor: &mut Cursor<'_, D>, reply: Reply<D>) -> Next<D> {
    let (frame, definition) = top!(cursor, States);
    let (node, record) = (frame.opened.node, frame.opened.record);
    let failure = match reply {
        Reply::Answer(answer, view) => {
            if let Some(view) = view
                && let Err(failure) = D::commit(&mut cursor.state.context, view)
            {
                let failure = cursor.located(failure, FailureKind::Context, node, 0);
                return cursor.end_top(Completion::Failed(Arc::new(failure)));
            }
            let (frame, _) = top!(cursor, States);
            match answer {
                Answer::Branch {
                    branch: Some(state), ..
                } if (state as usize) < definition.states.len() => {
                    let input = frame.output.take().unwrap_or_else(|| frame.input.clone());
                    return begin(cursor, state, input);
                }
                Answer::Branch { key, .. } => unknown_state(&key, definition),
                Answer::Done => {
                    if let Some(failure) = frame.failure.take() {
                        return cursor.end_top(Completion::Failed(failure));
                    }
                    no_transition(frame.state, definition)
                }
                _ => return Next::Wait,
            }
        }
        Reply::Failed(failure, usage) => {
            cursor.spend(record, usage);
            cursor.located(*failure, FailureKind::Condition, node, 0)
        }
        Reply::TimedOut(usage) => {
            cursor.spend(record, usage);
            cursor.late(node, 0)
        }
        _ => return Next::Wait,
    };
    let kind = failure.kind;
    let failure = cursor.located(failure, kind, node, 0);
    cursor.end_top(Completion::Failed(Arc::new(failure)))
}

fn unknown_state<D: Domain>(key: &str, node: &StatesNode<D::Callable>) -> Failure<D> {
    let known: Vec<String> = node
        .states
        .iter()
        .map(|state| format!("'{}'", state.name))
        .collect();
    let message = format!("No state named '{key}'; the states are {}", known.join(", "));
    Failure::new(FailureKind::UnknownBranch, "KeyError", message).permanent()
}

fn no_transition<D: Domain>(state: u32, node: &StatesNode<D::Callable>) -> Failure<D> {
    let name = node.states.get(state as usize).map_or("", |state| &state.name);
    let message = format!(
        "state '{name}' has ended, no transition leaves it, and it is not an end state: add a transition, or make it one"
    );
    Failure::new(FailureKind::UnknownBranch, "LookupError", message).permanent()
}
