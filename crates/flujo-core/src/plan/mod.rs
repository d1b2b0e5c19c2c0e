//! What is known about a pipeline before it runs: flat nodes with ids, immutable, shared by all runs.

mod cached;
mod callable;
mod fingerprint;
mod moved;
mod node;
mod outline;
mod shown;

use std::sync::{Arc, OnceLock};

use crate::config::OptimizationConfig;
pub(crate) use cached::identify;
pub use fingerprint::Fingerprint;
pub use moved::{Moves, with_moves};
pub use node::{
    Backoff, CachedStep, ConditionalNode, GroupNode, GuardNode, HumanNode, IterationFailure, Kind,
    LaneFailure, LoopNode, MapNode, Node, NodeId, ParallelNode, Policy, Rejection, Router, State, StatesNode,
    StepNode, Work,
};

/// A compiled pipeline. Made by [`crate::pipeline::Pipeline::compile`].
#[derive(Debug)]
pub struct Plan<C> {
    pub(crate) nodes: Vec<Node<C>>,
    pub(crate) root: NodeId,
    pub(crate) name: Arc<str>,
    /// Made when somebody asks: a plan that is made for one run is not saved.
    pub(crate) fingerprint: OnceLock<Fingerprint>,
    /// For each plain step the plain step that follows it in its sequence, if one does.
    pub(crate) plain_successors: Box<[Option<NodeId>]>,
    /// The shortest time in nanoseconds that a config in the plan lets a step take.
    pub(crate) shortest_limit: Option<u64>,
}

impl<C> Plan<C> {
    /// A plan of these nodes, each behind those it holds.
    pub(crate) fn of(nodes: Vec<Node<C>>, root: NodeId, name: Arc<str>) -> Self {
        Self {
            plain_successors: plain_successors(&nodes),
            shortest_limit: nodes.iter().filter_map(Node::own_limit_ns).min(),
            nodes,
            root,
            name,
            fingerprint: OnceLock::new(),
        }
    }

    /// The pipeline's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The plain step that follows a plain step in its sequence; see [`Node::is_plain_step`].
    #[inline]
    pub(crate) fn plain_successor(&self, step: NodeId) -> Option<NodeId> {
        *self.plain_successors.get(step.0 as usize)?
    }

    /// The node where a run begins.
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// Which optimisations its runs use; `None` leaves it to the runner.
    pub fn optimization(&self) -> Option<&Arc<OptimizationConfig>> {
        self.node(self.root).optimization.as_ref()
    }

    /// The shortest time in nanoseconds that some step of it may take by a config of its own or by the runner's.
    pub fn shortest_limit(&self, runner: &OptimizationConfig) -> u64 {
        let runner = match self.optimization() {
            Some(_) => u64::MAX, // its own config stands in place of the runner's everywhere
            None => runner.execution_limit_ns(),
        };
        self.shortest_limit.unwrap_or(u64::MAX).min(runner)
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

    /// The construct that a step of the same name runs as its work: to the user the two are one step, with the attempts
    /// of the one and the branches, items or iterations of the other. A step in a step stays one of its own: both have
    /// attempts.
    pub fn construct_in(&self, step: NodeId) -> Option<NodeId> {
        construct_in(&self.nodes, step)
    }

    /// The nodes that a node holds.
    pub fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let children = self.node(node).kind.children();
        let ids: Vec<_> = children.into_iter().map(|(_, child)| child).collect();
        ids.into_iter()
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
        *self
            .fingerprint
            .get_or_init(|| Fingerprint::of(&self.nodes, self.root))
    }
}

/// See [`Plan::construct_in`].
pub(crate) fn construct_in<C>(nodes: &[Node<C>], step: NodeId) -> Option<NodeId> {
    let node = nodes.get(step.0 as usize)?;
    let Kind::Step(step) = &node.kind else {
        return None;
    };
    let Work::Body(body) = step.work else {
        return None;
    };
    let inside = nodes.get(body.0 as usize)?;
    (inside.name == node.name && !matches!(inside.kind, Kind::Step(_))).then_some(body)
}

/// For each plain step the plain step that follows it in its sequence.
fn plain_successors<C>(nodes: &[Node<C>]) -> Box<[Option<NodeId>]> {
    let mut successors = vec![None; nodes.len()];
    let is_plain = |id: NodeId| nodes.get(id.0 as usize).is_some_and(Node::is_plain_step);
    for node in nodes {
        let Kind::Sequence(children) = &node.kind else {
            continue;
        };
        for pair in children
            .windows(2)
            .filter(|pair| pair.iter().all(|id| is_plain(*id)))
        {
            successors[pair[0].0 as usize] = Some(pair[1]);
        }
    }
    successors.into()
}
