//! What the user writes, in the form in which hosts hand it over: a flat list of nodes that grows as a pipeline is put
//! together. Nesting is by node id, so that depth costs no call stack.

mod compile;

use std::sync::Arc;
use std::time::Duration;

pub use compile::CompileError;

use crate::config::OptimizationConfig;
use crate::plan::{
    ConditionalNode, GroupNode, GuardNode, HumanNode, Kind, LoopNode, MapNode, Node, NodeId, ParallelNode,
    StatesNode, StepNode, Work,
};

/// A pipeline under construction over callables of type `C`.
#[derive(Debug, Clone)]
pub struct Pipeline<C> {
    nodes: Vec<Node<C>>,
}

impl<C> Default for Pipeline<C> {
    fn default() -> Self {
        Self { nodes: Vec::new() }
    }
}

impl<C> Pipeline<C> {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn add(&mut self, name: impl Into<Arc<str>>, kind: Kind<C>) -> NodeId {
        // `compile` refuses a pipeline whose ids do not fit.
        let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(Node {
            name: name.into(),
            path: Arc::from(""),
            deadline: None,
            inner: false,
            optimization: None,
            kind,
        });
        id
    }

    /// Adds a step.
    pub fn step(&mut self, name: impl Into<Arc<str>>, step: StepNode<C>) -> NodeId {
        self.add(name, Kind::Step(Box::new(step)))
    }

    /// Adds a sequence of nodes.
    pub fn sequence(&mut self, children: Vec<NodeId>) -> NodeId {
        self.add("", Kind::Sequence(children))
    }

    /// Adds a conditional.
    pub fn conditional(&mut self, name: impl Into<Arc<str>>, node: ConditionalNode<C>) -> NodeId {
        self.add(name, Kind::Conditional(Box::new(node)))
    }

    /// Adds a parallel step.
    pub fn parallel(&mut self, name: impl Into<Arc<str>>, node: ParallelNode<C>) -> NodeId {
        self.add(name, Kind::Parallel(Box::new(node)))
    }

    /// Adds a map.
    pub fn map(&mut self, name: impl Into<Arc<str>>, node: MapNode<C>) -> NodeId {
        self.add(name, Kind::Map(Box::new(node)))
    }

    /// Adds a pipeline as one step.
    pub fn group(&mut self, name: impl Into<Arc<str>>, node: GroupNode<C>) -> NodeId {
        self.add(name, Kind::Group(Box::new(node)))
    }

    /// Adds a loop.
    pub fn repeat(&mut self, name: impl Into<Arc<str>>, node: LoopNode<C>) -> NodeId {
        self.add(name, Kind::Loop(Box::new(node)))
    }

    /// Adds a state machine.
    pub fn states(&mut self, name: impl Into<Arc<str>>, node: StatesNode<C>) -> NodeId {
        self.add(name, Kind::States(Box::new(node)))
    }

    /// Adds a question to somebody outside.
    pub fn human(&mut self, name: impl Into<Arc<str>>, node: HumanNode<C>) -> NodeId {
        self.add(name, Kind::Human(Box::new(node)))
    }

    /// Adds a way out for a part that fails.
    pub fn guard(&mut self, node: GuardNode<C>) -> NodeId {
        self.add("", Kind::Guard(Box::new(node)))
    }

    /// Limits the whole time of a node, which must be neither a sequence nor a guard.
    pub fn set_deadline(&mut self, node: NodeId, deadline: Option<Duration>) {
        if let Some(node) = self.nodes.get_mut(node.0 as usize) {
            node.deadline = deadline;
        }
    }

    /// Says which optimisations a node and what is inside of it use, unless it says so already; a config further in wins.
    pub fn set_optimization(&mut self, node: NodeId, config: &Arc<OptimizationConfig>) {
        if let Some(node) = self.nodes.get_mut(node.0 as usize) {
            node.optimization.get_or_insert_with(|| Arc::clone(config));
        }
    }

    /// The step at a node, to be configured further; `None` when the node is something else.
    pub fn step_mut(&mut self, node: NodeId) -> Option<&mut StepNode<C>> {
        match &mut self.nodes.get_mut(node.0 as usize)?.kind {
            Kind::Step(step) => Some(step),
            _ => None,
        }
    }

    /// The name of a node; of a part that has none itself, that of what it begins with.
    pub fn name_of(&self, mut node: NodeId) -> Arc<str> {
        while let Some(found) = self.nodes.get(node.0 as usize) {
            match &found.kind {
                Kind::Guard(guard) => node = guard.body,
                Kind::Sequence(children) => match children.first() {
                    Some(first) => node = *first,
                    None => break,
                },
                _ => return Arc::clone(&found.name),
            }
        }
        Arc::from("")
    }

    /// The node itself.
    pub fn node_mut(&mut self, node: NodeId) -> Option<&mut Node<C>> {
        self.nodes.get_mut(node.0 as usize)
    }

    /// Takes over all nodes of another pipeline; gives what is to be added to its ids.
    pub fn absorb(&mut self, other: Self) -> u32 {
        let offset = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.extend(other.nodes.into_iter().map(|mut node| {
            node.kind.shift(offset);
            node
        }));
        offset
    }
}

impl<C> Kind<C> {
    /// Adds `offset` to every id it holds.
    fn shift(&mut self, offset: u32) {
        let shift = |id: &mut NodeId| id.0 = id.0.saturating_add(offset);
        match self {
            Kind::Sequence(children) => children.iter_mut().for_each(shift),
            Kind::Step(step) => {
                if let Work::Body(body) = &mut step.work {
                    shift(body);
                }
                step.fallback.iter_mut().for_each(shift);
            }
            Kind::Conditional(node) => {
                node.branches
                    .iter_mut()
                    .map(|(_, id)| id)
                    .chain(&mut node.default)
                    .for_each(shift);
            }
            Kind::Parallel(node) => {
                node.router
                    .iter_mut()
                    .map(|router| &mut router.body)
                    .chain(node.branches.iter_mut().map(|(_, id)| id))
                    .for_each(shift);
            }
            Kind::Map(node) => shift(&mut node.body),
            Kind::Group(node) => shift(&mut node.body),
            Kind::Loop(node) => std::iter::once(&mut node.body)
                .chain(&mut node.judge)
                .for_each(shift),
            Kind::States(node) => node
                .states
                .iter_mut()
                .filter_map(|state| state.body.as_mut())
                .for_each(shift),
            Kind::Human(_) => {}
            Kind::Guard(node) => [&mut node.body, &mut node.handler].into_iter().for_each(shift),
        }
    }

    /// The ids it holds, with what each is called in a path.
    pub(crate) fn children(&self) -> Vec<(Option<&str>, NodeId)> {
        match self {
            Kind::Sequence(children) => children.iter().map(|id| (None, *id)).collect(),
            Kind::Step(step) => {
                let body = match step.work {
                    Work::Call(_) => None,
                    Work::Body(body) => Some((None, body)),
                };
                body.into_iter()
                    .chain(step.fallback.map(|id| (Some("fallback"), id)))
                    .collect()
            }
            Kind::Conditional(node) => node
                .branches
                .iter()
                .map(|(key, id)| (Some(&**key), *id))
                .chain(node.default.map(|id| (Some("default"), id)))
                .collect(),
            Kind::Parallel(node) => node
                .router
                .iter()
                .map(|router| (None, router.body))
                .chain(node.branches.iter().map(|(key, id)| (Some(&**key), *id)))
                .collect(),
            Kind::Map(node) => vec![(None, node.body)],
            Kind::Group(node) => vec![(None, node.body)],
            Kind::Loop(node) => std::iter::once(node.body)
                .chain(node.judge)
                .map(|id| (None, id))
                .collect(),
            Kind::States(node) => node
                .states
                .iter()
                .filter_map(|state| Some((Some(&*state.name), state.body?)))
                .collect(),
            Kind::Human(_) => Vec::new(),
            Kind::Guard(node) => vec![(None, node.body), (Some("on_failure"), node.handler)],
        }
    }
}
