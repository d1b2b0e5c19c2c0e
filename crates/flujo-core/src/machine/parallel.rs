//! All branches at once, each in a lane with an isolated context; then their contexts are merged and their outputs
//! collected.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::cursor::{Ask, Cursor, Next, Reply};
use super::fault::{Fault, is_planted};
use super::frame::{Frame, Opened, top};
use super::held::Visitor;
use super::lanes::{Joined, Lanes};
use super::{
    Answer, Chosen, Completion, Domain, Failure, FailureKind, Finish, Input, LaneRecord, Outcome, Role,
};
use crate::plan::{Kind, NodeId};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) struct ParallelFrame<D: Domain> {
    pub(super) opened: Opened,
    pub(super) lanes: Lanes<D>,
    stage: JoinStage,
    /// Until the router has chosen: the input, then the router's output.
    routing: Option<Routing<D::Object>>,
    ended: Option<Arc<Vec<LaneRecord<D>>>>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Routing<O> {
    input: O,
    output: Option<O>,
}

impl<D: Domain> ParallelFrame<D> {
    pub(super) fn visit(&self, visit: &mut Visitor<'_, D>) {
        if let Some(routing) = &self.routing {
            std::iter::once(&routing.input)
                .chain(&routing.output)
                .for_each(|object| visit.object(object));
        }
        self.lanes.visit(visit);
    }
}

/// What is done with lanes, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum JoinStage {
    /// The router chooses.
    Route,
    Run,
    Merge,
    Collect,
}

pub(super) fn enter<D: Domain>(cursor: &mut Cursor<'_, D>, node: NodeId, input: D::Object) -> Next<D> {
    let opened = cursor.open(node);
    let Kind::Parallel(definition) = &cursor.plan.node(node).kind else {
        return Next::Wait;
    };
    if let Some(router) = &definition.router {
        let frame = ParallelFrame {
            opened,
            lanes: Lanes::default(),
            stage: JoinStage::Route,
            routing: Some(Routing {
                input: input.clone(),
                output: None,
            }),
            ended: None,
        };
        cursor.state.stack.push(Frame::Parallel(Box::new(frame)));
        return Next::Enter(router.body, input);
    }
    let lanes = Lanes::new(node, std::iter::repeat_n(input, definition.branches.len()));
    let frame = ParallelFrame {
        opened,
        lanes,
        stage: JoinStage::Run,
        routing: None,
        ended: None,
    };
    cursor.state.stack.push(Frame::Parallel(Box::new(frame)));
    go_on(cursor)
}

/// The router has ended.
pub(super) fn child_finished<D: Domain>(cursor: &mut Cursor<'_, D>, completion: Completion<D>) -> Next<D> {
    let (frame, _) = top!(cursor, Parallel);
    match (completion, &mut frame.routing) {
        (Completion::Success(output), Some(routing)) => {
            routing.output = Some(output);
            ask(cursor)
        }
        (completion, _) => cursor.end_top(completion),
    }
}

/// Starts the branches that the router chose.
fn routed<D: Domain>(cursor: &mut Cursor<'_, D>, chosen: &[Chosen]) -> Next<D> {
    let (frame, node) = top!(cursor, Parallel);
    let known = |branch: &u32| (*branch as usize) < node.branches.len();
    if let Some(unknown) = chosen
        .iter()
        .find(|chosen| !chosen.branch.as_ref().is_some_and(known))
    {
        let known: Vec<String> = node
            .branches
            .iter()
            .map(|(name, _)| format!("'{name}'"))
            .collect();
        let message = format!(
            "the router chose '{}', which is no branch; the branches are {}",
            unknown.key,
            known.join(", ")
        );
        let failure = Failure::new(FailureKind::UnknownBranch, "KeyError", message).permanent();
        return cursor.fail_top(failure, FailureKind::UnknownBranch);
    }
    let mut branches: Vec<u32> = chosen.iter().filter_map(|chosen| chosen.branch).collect();
    branches.sort_unstable();
    branches.dedup();
    let Some(routing) = frame.routing.take() else {
        return Next::Wait;
    };
    frame.lanes = Lanes::for_branches(frame.opened.node, branches, &routing.input);
    frame.stage = JoinStage::Run;
    go_on(cursor)
}

/// Starts what may start; when nothing runs any more, joins.
fn go_on<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, node) = top!(cursor, Parallel);
    let limit = node.max_concurrency.map_or(usize::MAX, |limit| limit as usize);
    let mut lanes = std::mem::take(&mut frame.lanes);
    lanes.start(cursor, limit, |place| {
        node.branches.get(place).map(|(_, body)| *body)
    });
    let running = lanes.any_running();
    let (frame, _) = top!(cursor, Parallel);
    frame.lanes = lanes;
    if running { Next::Wait } else { join(cursor) }
}

fn join<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let (frame, node) = top!(cursor, Parallel);
    let records = frame.lanes.records(cursor.plan);
    let (record, stop) = (frame.opened.record, frame.lanes.take_stop());
    let joined = frame.lanes.joined(node.on_failure);
    frame.ended = Some(Arc::clone(&records));
    // Where a router chose nothing there are no contexts to merge.
    frame.stage = if node.merge.is_some() && !records.is_empty() {
        JoinStage::Merge
    } else {
        JoinStage::Collect
    };
    if let Some(record) = cursor.record(record) {
        record.details_mut().lanes = Arc::clone(&records);
    }
    if let Some(stop) = stop {
        return cursor.end_top(Completion::Stopped(stop));
    }
    match joined {
        Joined::Failed(place) => {
            let failure = records
                .get(place)
                .map(|lane| lane_failure(FailureKind::Branch, "branch", lane));
            let failure =
                failure.unwrap_or_else(|| Failure::new(FailureKind::Branch, "BranchError", "no branch"));
            cursor.fail_top(failure, FailureKind::Branch)
        }
        Joined::Succeeded => ask(cursor),
    }
}

pub(super) fn ask<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    let deadline = cursor.state.deadline;
    let (frame, _) = top!(cursor, Parallel);
    let role = match frame.stage {
        JoinStage::Route => {
            let Some(output) = frame.routing.as_ref().and_then(|routing| routing.output.clone()) else {
                return Next::Wait;
            };
            let node = frame.opened.node;
            return cursor.call(Ask {
                node,
                role: Role::Select,
                index: 0,
                input: Input::Value(output),
                view: None,
                attempt: 0,
                deadline,
            });
        }
        JoinStage::Run => return Next::Wait,
        JoinStage::Merge => Role::Merge,
        JoinStage::Collect => Role::Collect,
    };
    let (node, lanes) = (frame.opened.node, frame.ended.clone().unwrap_or_default());
    cursor.call(Ask {
        node,
        role,
        index: 0,
        input: Input::Lanes(lanes),
        view: None,
        attempt: 0,
        deadline,
    })
}

pub(super) fn replied<D: Domain>(cursor: &mut Cursor<'_, D>, reply: Reply<D>) -> Next<D> {
    let (frame, definition) = top!(cursor, Parallel);
    let (record, node, stage) = (frame.opened.record, frame.opened.node, frame.stage);
    match reply {
        Reply::Lane(lane, finish) => {
            let usage = finish.usage;
            if frame.lanes.ended(lane, finish, definition.on_failure).is_none() {
                return Next::Wait;
            }
            let halted = frame.lanes.is_halted();
            if let Some(next) = cursor.lane_counts(record, usage) {
                return next;
            }
            if halted && !is_planted(Fault::SiblingNotCancelled) {
                cursor.cancel_lanes();
            }
            go_on(cursor)
        }
        Reply::Answer(answer, view) => {
            if let Some(view) = view
                && let Err(failure) = D::commit(&mut cursor.state.context, view)
            {
                return cursor.fail_top(failure, FailureKind::Merge);
            }
            match (stage, answer) {
                (JoinStage::Route, Answer::Branches(chosen)) => routed(cursor, &chosen),
                (JoinStage::Merge, _) => {
                    let (frame, _) = top!(cursor, Parallel);
                    frame.stage = JoinStage::Collect;
                    ask(cursor)
                }
                (JoinStage::Collect, Answer::Value { value, usage }) => {
                    cursor.spend(record, usage);
                    cursor.end_top(Completion::Success(value))
                }
                _ => Next::Wait,
            }
        }
        Reply::Failed(failure, usage) => {
            cursor.spend(record, usage);
            let kind = if stage == JoinStage::Route {
                FailureKind::Condition
            } else {
                FailureKind::Merge
            };
            cursor.fail_top(*failure, kind)
        }
        Reply::TimedOut(usage) => {
            cursor.spend(record, usage);
            let failure = cursor.late(node, 0);
            let kind = failure.kind;
            cursor.fail_top(failure, kind)
        }
        Reply::Woke | Reply::Reserved | Reply::Refused(_) | Reply::Hit(..) | Reply::Miss(_) => Next::Wait,
    }
}

/// The failure of a step one of whose lanes failed.
pub(super) fn lane_failure<D: Domain>(kind: FailureKind, what: &str, lane: &LaneRecord<D>) -> Failure<D> {
    let cause = match lane.finish.as_deref() {
        Some(Finish {
            outcome: Outcome::Failed(cause),
            ..
        }) => Some(cause),
        _ => None,
    };
    let Some(cause) = cause else {
        return Failure::new(
            kind,
            "CancelledError",
            format!("{what} '{}' was cancelled", lane.name),
        )
        .permanent();
    };
    let cause = Failure::inside(Arc::clone(cause));
    let message = format!("{what} '{}' failed: step '{}': {cause}", lane.name, cause.step);
    let mut failure = Failure::new(kind, Arc::clone(&cause.error_type), message).permanent();
    failure.error.clone_from(&cause.error);
    failure.caused_by(cause)
}
