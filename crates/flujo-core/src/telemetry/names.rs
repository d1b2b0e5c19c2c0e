//! What the spans of a plan are called, apart from the plan: an exporter knows no callables.

use std::sync::Arc;

use crate::machine::{Domain, History, Record};
use crate::plan::{Kind, NodeId, Plan};

/// The names of a plan's nodes; made once per plan.
#[derive(Debug)]
pub struct Names {
    pub(super) pipeline: Arc<str>,
    nodes: Box<[NodeNames]>,
}

#[derive(Debug)]
pub(super) struct NodeNames {
    pub(super) name: Arc<str>,
    pub(super) path: Arc<str>,
    pub(super) kind: &'static str,
    /// Whether it has a span: sequences have no record, and an inner construct is one with its step.
    shown: bool,
    /// Whether it has attempts: a step with an agent, or a part of the pipeline, that does its work.
    tried: bool,
    /// Whether its results are kept in a cache.
    cached: bool,
    branches: Box<[Arc<str>]>,
}

impl Names {
    /// Of a plan.
    pub fn of<C>(plan: &Plan<C>) -> Self {
        let nodes = plan.nodes().map(|(id, node)| {
            // To the user a step and the construct in it are one, of the construct's kind.
            let inside = plan.construct_in(id).map(|inside| plan.node(inside));
            let branches = match &node.kind {
                Kind::Parallel(parallel) => parallel
                    .branches
                    .iter()
                    .map(|(name, _)| Arc::clone(name))
                    .collect(),
                _ => Box::default(),
            };
            NodeNames {
                name: Arc::clone(&node.name),
                path: Arc::clone(&node.path),
                kind: kind(&inside.unwrap_or(node).kind),
                shown: !node.inner,
                tried: matches!(node.kind, Kind::Step(_)),
                cached: matches!(&node.kind, Kind::Step(step) if step.cache.is_some()),
                branches,
            }
        });
        Self {
            pipeline: Arc::clone(plan.name()),
            nodes: nodes.collect(),
        }
    }

    /// What a node is, as its span says: `step`, `parallel`, `loop`, …; a construct and the step around it are one.
    pub fn kind(&self, node: NodeId) -> Option<&'static str> {
        self.node(node).map(|node| node.kind)
    }

    pub(super) fn node(&self, node: NodeId) -> Option<&NodeNames> {
        self.nodes.get(node.0 as usize)
    }

    pub(super) fn shows(&self, node: NodeId) -> bool {
        self.node(node).is_some_and(|node| node.shown)
    }

    /// How many attempts at it have spans.
    pub(super) fn attempts<D: Domain>(&self, record: &Record<D>) -> u32 {
        let tried = self.node(record.node).is_some_and(|node| node.tried);
        if tried { record.attempts } else { 0 }
    }

    /// Whether a step's result was found in the cache, `hit` when it has been; `None` of one that isn't cached.
    pub(super) fn cache_hit(&self, node: NodeId, hit: bool) -> Option<bool> {
        let cached = self.node(node).is_some_and(|node| node.cached);
        cached.then_some(hit)
    }

    /// The record at `place`, or the nearest one around it, that has a span.
    pub(super) fn shown<'h, D: Domain>(
        &self,
        history: &'h History<D>,
        mut place: Option<u32>,
    ) -> Option<(u32, &'h Record<D>)> {
        loop {
            let record = history.records.get(place? as usize)?;
            if self.shows(record.node) {
                return Some((place?, record));
            }
            place = record.parent;
        }
    }
}

impl NodeNames {
    /// The name of one of its lanes.
    pub(super) fn lane(&self, index: u32) -> Arc<str> {
        match self.branches.get(index as usize) {
            Some(name) => Arc::clone(name),
            None => Arc::from(index.to_string()),
        }
    }
}

fn kind<C>(kind: &Kind<C>) -> &'static str {
    match kind {
        Kind::Sequence(_) => "sequence",
        Kind::Step(_) => "step",
        Kind::Conditional(_) => "conditional",
        Kind::Parallel(parallel) if parallel.router.is_some() => "router",
        Kind::Parallel(_) => "parallel",
        Kind::Map(_) => "map",
        Kind::Group(_) => "pipeline",
        Kind::Loop(_) => "loop",
        Kind::States(_) => "state_machine",
        Kind::Human(_) => "human",
        Kind::Guard(_) => "guard",
    }
}
