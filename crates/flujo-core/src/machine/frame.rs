//! One frame for each node that has begun and not ended, and the way from a frame to its construct's functions.

use serde::{Deserialize, Serialize};

use super::conditional::ConditionalFrame;
use super::cursor::{Cursor, Next, Reply};
use super::group::GroupFrame;
use super::guard::GuardFrame;
use super::human::HumanFrame;
use super::lanes::Lanes;
use super::map::MapFrame;
use super::parallel::ParallelFrame;
use super::repeat::LoopFrame;
use super::states::StatesFrame;
use super::step::StepFrame;
use super::{
    Completion, Domain, Time, conditional, group, guard, human, map, parallel, repeat, states, step,
};
use crate::plan::{Kind, NodeId};

/// A node that has begun: its record, and what is put back when it ends.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Opened {
    pub(super) node: NodeId,
    pub(super) record: u32,
    pub(super) outer_parent: Option<u32>,
    pub(super) outer_deadline: Option<Time>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub(super) enum Frame<D: Domain> {
    Sequence { node: NodeId, next: u32 },
    Step(StepFrame<D>),
    Conditional(Box<ConditionalFrame<D>>),
    Parallel(Box<ParallelFrame<D>>),
    Map(Box<MapFrame<D>>),
    Group(Box<GroupFrame<D>>),
    Loop(Box<LoopFrame<D>>),
    States(Box<StatesFrame<D>>),
    Human(Box<HumanFrame<D>>),
    Guard(Box<GuardFrame<D>>),
}

impl<D: Domain> Frame<D> {
    /// Its node's record; sequences and guards have none.
    pub(super) fn opened(&self) -> Option<Opened> {
        match self {
            Self::Sequence { .. } | Self::Guard(_) => None,
            Self::Step(frame) => Some(frame.opened),
            Self::Conditional(frame) => Some(frame.opened),
            Self::Parallel(frame) => Some(frame.opened),
            Self::Map(frame) => Some(frame.opened),
            Self::Group(frame) => Some(frame.opened),
            Self::Loop(frame) => Some(frame.opened),
            Self::States(frame) => Some(frame.opened),
            Self::Human(frame) => Some(frame.opened),
        }
    }

    pub(super) fn opened_mut(&mut self) -> Option<&mut Opened> {
        match self {
            Self::Sequence { .. } | Self::Guard(_) => None,
            Self::Step(frame) => Some(&mut frame.opened),
            Self::Conditional(frame) => Some(&mut frame.opened),
            Self::Parallel(frame) => Some(&mut frame.opened),
            Self::Map(frame) => Some(&mut frame.opened),
            Self::Group(frame) => Some(&mut frame.opened),
            Self::Loop(frame) => Some(&mut frame.opened),
            Self::States(frame) => Some(&mut frame.opened),
            Self::Human(frame) => Some(&mut frame.opened),
        }
    }

    /// The context around a part whose writes are not part of it yet.
    pub(super) fn take_outer(&mut self) -> Option<D::Context> {
        match self {
            Self::Step(frame) => frame.take_outer(),
            Self::Loop(frame) => frame.outer.take(),
            _ => None,
        }
    }

    pub(super) fn lanes(&self) -> Option<&Lanes<D>> {
        match self {
            Self::Parallel(frame) => Some(&frame.lanes),
            Self::Map(frame) => Some(&frame.lanes),
            Self::Group(frame) => Some(&frame.lanes),
            _ => None,
        }
    }

    pub(super) fn lanes_mut(&mut self) -> Option<&mut Lanes<D>> {
        match self {
            Self::Parallel(frame) => Some(&mut frame.lanes),
            Self::Map(frame) => Some(&mut frame.lanes),
            Self::Group(frame) => Some(&mut frame.lanes),
            _ => None,
        }
    }
}

/// The frame on top and its node, both of a construct, or nothing to do.
macro_rules! top {
    ($cursor:expr, Guard) => {
        $crate::machine::frame::top!(@ $cursor, Guard, node)
    };
    ($cursor:expr, $kind:ident) => {
        $crate::machine::frame::top!(@ $cursor, $kind, opened.node)
    };
    (@ $cursor:expr, $kind:ident, $($place:ident).+) => {{
        let Some($crate::machine::frame::Frame::$kind(frame)) = $cursor.state.stack.last_mut() else {
            return $crate::machine::cursor::Next::Wait;
        };
        let $crate::plan::Kind::$kind(node) = &$cursor.plan.node(frame.$($place).+).kind else {
            return $crate::machine::cursor::Next::Wait;
        };
        (frame, node)
    }};
}
pub(super) use top;

/// Begins a node.
#[inline]
pub(super) fn enter<D: Domain>(cursor: &mut Cursor<'_, D>, node: NodeId, input: D::Object) -> Next<D> {
    match &cursor.plan.node(node).kind {
        Kind::Sequence(children) => {
            cursor.state.stack.push(Frame::Sequence { node, next: 1 });
            match children.first() {
                Some(first) => Next::Enter(*first, input),
                None => Next::Return(Completion::Success(input)),
            }
        }
        Kind::Step(_) => step::enter(cursor, node, input),
        Kind::Conditional(_) => conditional::enter(cursor, node, input),
        Kind::Parallel(_) => parallel::enter(cursor, node, input),
        Kind::Map(_) => map::enter(cursor, node, input),
        Kind::Group(_) => group::enter(cursor, node, input),
        Kind::Loop(_) => repeat::enter(cursor, node, input),
        Kind::States(_) => states::enter(cursor, node, input),
        Kind::Human(_) => human::enter(cursor, node, input),
        Kind::Guard(_) => guard::enter(cursor, node, input),
    }
}

/// Tells the frame on top how its child ended.
#[inline]
pub(super) fn child_finished<D: Domain>(cursor: &mut Cursor<'_, D>, completion: Completion<D>) -> Next<D> {
    match cursor.state.stack.last_mut() {
        Some(Frame::Sequence { node, next }) => {
            let Completion::Success(output) = completion else {
                return Next::Return(completion);
            };
            let child = match &cursor.plan.node(*node).kind {
                Kind::Sequence(children) => children.get(*next as usize),
                _ => None,
            };
            *next += 1;
            match child {
                Some(child) => Next::Enter(*child, output),
                None => Next::Return(Completion::Success(output)),
            }
        }
        Some(Frame::Step(_)) => step::child_finished(cursor, completion),
        Some(Frame::Conditional(_)) => conditional::child_finished(cursor, completion),
        Some(Frame::Group(_)) => group::child_finished(cursor, completion),
        Some(Frame::Parallel(_)) => parallel::child_finished(cursor, completion),
        Some(Frame::Loop(_)) => repeat::child_finished(cursor, completion),
        Some(Frame::States(_)) => states::child_finished(cursor, completion),
        Some(Frame::Guard(_)) => guard::child_finished(cursor, completion),
        // Maps have lanes, questions nothing at all on their own stack.
        Some(Frame::Map(_) | Frame::Human(_)) | None => Next::Return(completion),
    }
}

/// Tells the frame on top what came of what it asked for.
#[inline]
pub(super) fn replied<D: Domain>(cursor: &mut Cursor<'_, D>, reply: Reply<D>) -> Next<D> {
    match cursor.state.stack.last() {
        Some(Frame::Step(_)) => step::replied(cursor, reply),
        Some(Frame::Conditional(_)) => conditional::replied(cursor, reply),
        Some(Frame::Parallel(_)) => parallel::replied(cursor, reply),
        Some(Frame::Map(_)) => map::replied(cursor, reply),
        Some(Frame::Group(_)) => group::replied(cursor, reply),
        Some(Frame::Loop(_)) => repeat::replied(cursor, reply),
        Some(Frame::States(_)) => states::replied(cursor, reply),
        Some(Frame::Human(_)) => human::replied(cursor, reply),
        Some(Frame::Guard(_)) => guard::replied(cursor, reply),
        Some(Frame::Sequence { .. }) | None => Next::Wait,
    }
}

/// Asks again for what the frame on top waits for, after a restore.
pub(super) fn ask_again<D: Domain>(cursor: &mut Cursor<'_, D>) -> Next<D> {
    match cursor.state.stack.last() {
        Some(Frame::Step(_)) => step::ask(cursor),
        Some(Frame::Conditional(_)) => conditional::ask(cursor),
        Some(Frame::Parallel(_)) => parallel::ask(cursor),
        Some(Frame::Map(_)) => map::ask(cursor),
        Some(Frame::Group(_)) => group::ask(cursor),
        Some(Frame::Loop(_)) => repeat::ask(cursor),
        Some(Frame::States(_)) => states::ask(cursor),
        Some(Frame::Human(_)) => human::ask(cursor),
        Some(Frame::Guard(_)) => guard::ask(cursor),
        Some(Frame::Sequence { .. }) | None => Next::Wait,
    }
}
