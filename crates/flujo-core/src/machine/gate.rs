//! What stands around runs and steps: hooks are told before a node begins and after it ended, and the run waits for
//! them. Without hooks the gate is always open.

use serde::{Deserialize, Serialize};

use super::cursor::{Ask, Cursor, Next, Reply};
use super::{Completion, Domain, Failure, HookPoint, Input, Role, Stop, frame};
use crate::plan::{Kind, NodeId};

/// What is held back until a hook has been told.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) enum Gate<D: Domain> {
    #[default]
    Open,
    BeforeRun(NodeId, D::Object),
    BeforeNode(NodeId, D::Object),
    AfterNode(Ended<D>),
    AfterRun(Ended<D>),
}

/// A completion in the form in which it is saved.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) enum Ended<D: Domain> {
    Success(D::Object),
    Failed(std::sync::Arc<Failure<D>>),
    Stopped(Stop<D>),
}

impl<D: Domain> From<Completion<D>> for Ended<D> {
    fn from(completion: Completion<D>) -> Self {
        match completion {
            Completion::Success(output) => Self::Success(output),
            Completion::Failed(failure) => Self::Failed(failure),
            Completion::Stopped(stop) => Self::Stopped(stop),
        }
    }
}

impl<D: Domain> From<Ended<D>> for Completion<D> {
    fn from(ended: Ended<D>) -> Self {
        match ended {
            Ended::Success(output) => Self::Success(output),
            Ended::Failed(failure) => Self::Failed(failure),
            Ended::Stopped(stop) => Self::Stopped(stop),
        }
    }
}

impl<D: Domain> Gate<D> {
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        !matches!(self, Self::Open)
    }
}

pub(super) fn before_run<D: Domain>(cursor: &mut Cursor<'_, D>, root: NodeId, input: D::Object) -> Next<D> {
    cursor.state.gate = Gate::BeforeRun(root, input);
    ask(cursor)
}

#[inline]
pub(super) fn enter<D: Domain>(cursor: &mut Cursor<'_, D>, node: NodeId, input: D::Object) -> Next<D> {
    if !cursor.state.options.hooks {
        return frame::enter(cursor, node, input);
    }
    let entered = cursor.plan.node(node);
    if entered.inner || matches!(entered.kind, Kind::Sequence(_) | Kind::Guard(_)) {
        return frame::enter(cursor, node, input);
    }
    cursor.state.gate = Gate::BeforeNode(node, input);
    ask(cursor)
}

#[inline]
pub(super) fn leave<D: Domain>(cursor: &mut Cursor<'_, D>, completion: Completion<D>) -> Next<D> {
    let told = cursor.state.options.hooks
        && !matches!(completion, Completion::Stopped(_))
        && cursor
            .state
            .stack
            .last()
            .and_then(frame::Frame::opened)
            .is_some_and(|opened| !cursor.plan.node(opened.node).inner);
    if !told {
        return Next::Leave(completion);
    }
    cursor.state.gate = Gate::AfterNode(completion.into());
    ask(cursor)
}

pub(super) fn after_run<D: Domain>(cursor: &mut Cursor<'_, D>, completion: Completion<D>) -> Next<D> {
    let told = cursor.state.options.hooks
        && cursor.state.lane.is_none()
        && !matches!(completion, Completion::Stopped(Stop::Cancelled));
    if !told {
        return cursor.conclude(completion);
    }
    cursor.state.gate = Gate::AfterRun(completion.into());
    ask(cursor)
}

/// Tells the hooks of what is held back. What a hook does wrong is the host's to report; the run goes on.
pub(super) fn ask<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let record = cursor
        .state
        .stack
        .last()
        .and_then(frame::Frame::opened)
        .map(|opened| opened.record);
    let (node, point, input) = match &cursor.state.gate {
        Gate::Open => return Next::Wait,
        Gate::BeforeRun(root, input) => (
            *root,
            HookPoint::PreRun,
            Input::Record {
                record: None,
                input: Some(input.clone()),
            },
        ),
        Gate::BeforeNode(node, input) => (
            *node,
            HookPoint::PreStep,
            Input::Record {
                record: None,
                input: Some(input.clone()),
            },
        ),
        Gate::AfterNode(ended) => {
            let node = cursor
                .state
                .stack
                .last()
                .and_then(frame::Frame::opened)
                .map(|opened| opened.node);
            let point = match ended {
                Ended::Failed(_) => HookPoint::OnStepFailure,
                _ => HookPoint::PostStep,
            };
            (
                node.unwrap_or(cursor.plan.root()),
                point,
                Input::Record { record, input: None },
            )
        }
        Gate::AfterRun(ended) => {
            let outcome = Completion::from(ended.clone()).into();
            (
                cursor.plan.root(),
                HookPoint::PostRun,
                Input::Outcome(Box::new(outcome)),
            )
        }
    };
    let deadline = cursor.state.deadline;
    cursor.call(Ask {
        node,
        role: Role::Hook(point),
        index: 0,
        input,
        view: None,
        attempt: 0,
        deadline,
    })
}

pub(super) fn replied<D: Domain>(cursor: &mut Cursor<'_, D>, _reply: Reply<D>) -> Next<D> {
    match std::mem::take(&mut cursor.state.gate) {
        Gate::Open => Next::Wait,
        Gate::BeforeRun(root, input) => Next::Enter(root, input),
        Gate::BeforeNode(node, input) => frame::enter(cursor, node, input),
        Gate::AfterNode(ended) => Next::Leave(ended.into()),
        Gate::AfterRun(ended) => cursor.conclude(ended.into()),
    }
}
