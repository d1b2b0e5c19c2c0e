//! What is known about a pipeline before it runs: flat nodes with ids, immutable, shared by all runs.

mod fingerprint;
mod node;

use std::sync::Arc;

pub use fingerprint::Fingerprint;
pub use node::{
    Backoff, ConditionalNode, GroupNode, GuardNode, HumanNode, IterationFailure, Kind, LaneFailure, LoopNode,
    MapNode, Node, NodeId, ParallelNode, Policy, Router, State, StatesNode, StepNode, Work,
};

/// A compiled pipeline. Made by [`crate::pipeline::Pipeline::compile`].
#[derive(Debug)]
pub struct Plan<C> {
    pub(crate) nodes: Vec<Node<C>>,
    pub(crate) root: NodeId,
    pub(crate) name: Arc<str>,
    pub(crate) fingerprint: Fingerprint,
}

impl<C> Plan<C> {
    /// The pipeline's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The node where a run begins.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// A node by id. Ids come from this plan.
    pub fn node(&self, id: NodeId) -> &Node<C> {
        &self.nodes[id.0 as usize]
    }

    /// All nodes, children before the nodes around them.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, &Node<C>)> {
        self.nodes.iter().enumerate().map(|(place, node)| {
            #[allow(clippy::cast_possible_truncation)] // `compile` refuses more nodes than 32 bits count
            (NodeId(place as u32), node)
        })
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// A digest of structure, names and configuration; never of code.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}
