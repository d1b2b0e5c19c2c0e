//! How often the loops and state machines around a place have gone round, those around its lane included. What tells
//! apart two turns of one step.

use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::cursor::Cursor;
use super::{Domain, Machine};
use crate::plan::NodeId;

/// One loop or state machine under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Round {
    /// The one around it.
    pub around: Option<Arc<Round>>,
    /// The loop or state machine.
    pub node: NodeId,
    /// Its iteration, or the number of the state it is in, from 1.
    pub index: u32,
}

impl Round {
    /// The indices, outermost first.
    pub fn indices(&self) -> Vec<u32> {
        self.flat().into_iter().map(|(_, index)| index).collect()
    }

    /// Outermost first.
    fn flat(&self) -> Vec<(NodeId, u32)> {
        let mut rounds = Vec::new();
        let mut next = Some(self);
        while let Some(round) = next {
            rounds.push((round.node, round.index));
            next = round.around.as_deref();
        }
        rounds.reverse();
        rounds
    }
}

impl Drop for Round {
    /// Taken apart in a loop, so that depth costs no call stack.
    fn drop(&mut self) {
        let mut around = self.around.take();
        while let Some(round) = around {
            around = Arc::into_inner(round).and_then(|mut round| round.around.take());
        }
    }
}

impl Serialize for Round {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.flat().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Round {
    fn deserialize<R: Deserializer<'de>>(deserializer: R) -> Result<Self, R::Error> {
        let mut rounds = Vec::<(NodeId, u32)>::deserialize(deserializer)?.into_iter();
        let Some((node, index)) = rounds.next() else {
            return Err(R::Error::custom("a round names at least one loop"));
        };
        let around = None;
        let outermost = Self { around, node, index };
        Ok(rounds.fold(outermost, |around, (node, index)| Self {
            around: Some(Arc::new(around)),
            node,
            index,
        }))
    }
}

impl<D: Domain> Cursor<'_, D> {
    /// A loop or state machine begins its next turn.
    pub(super) fn go_round(&mut self, node: NodeId, index: u32) {
        self.leave_round(node);
        let around = self.state.round.take();
        self.state.round = Some(Arc::new(Round { around, node, index }));
    }

    /// A node ends, and with it its turns, if it has any.
    #[inline]
    pub(super) fn leave_round(&mut self, node: NodeId) {
        if let Some(round) = self.state.round.take_if(|round| round.node == node) {
            self.state.round.clone_from(&round.around);
        }
    }
}

impl<D: Domain> Machine<D> {
    /// The turns of the loops and state machines around the place where it is, those around its lane included.
    pub fn round(&self) -> Option<&Arc<Round>> {
        self.state.round.as_ref()
    }
}
