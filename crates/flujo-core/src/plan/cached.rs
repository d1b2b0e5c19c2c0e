//! What the keys of cached steps begin with: a digest of what each step is. Steps that hold other steps differ from these,
//! so that nobody waits for a result that waits for theirs.

use super::{Kind, Node};
use crate::cache::{CacheKey, KeyBuilder, StepIdentity};

/// Finds out what the keys of each cached step begin with. Limits of time, retries and concurrency are no part of it: they
/// say whether there is a result, not which.
pub(crate) fn identify<C>(nodes: &mut [Node<C>]) {
    let is_cached = |node: &Node<C>| matches!(&node.kind, Kind::Step(step) if step.cache.is_some());
    if !nodes.iter().any(is_cached) {
        return;
    }
    let mut structures: Vec<CacheKey> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let structure = structure(node, &structures);
        if let Kind::Step(step) = &mut node.kind
            && let Some(cache) = &mut step.cache
        {
            cache.base = structure;
        }
        structures.push(structure);
    }
}

/// Nodes stand after those they hold.
fn structure<C>(node: &Node<C>, known: &[CacheKey]) -> CacheKey {
    let mut key = KeyBuilder::new("step");
    key.text(&node.name).number(node.callables().count() as u64);
    let kind = match &node.kind {
        Kind::Sequence(_) => "sequence".to_owned(),
        Kind::Step(step) => format!("step {:?}", step.on_rejection),
        Kind::Conditional(_) => "conditional".to_owned(),
        Kind::Parallel(node) => format!("parallel {:?}", node.on_failure),
        Kind::Map(node) => format!("map {:?}", node.on_failure),
        Kind::Group(_) => "group".to_owned(),
        Kind::Loop(node) => format!("loop {} {:?}", node.max_loops, node.on_failure),
        Kind::States(node) => {
            let states: Vec<_> = node.states.iter().map(|state| (&state.name, state.end)).collect();
            format!("states {} {states:?}", node.start)
        }
        Kind::Human(_) => "human".to_owned(),
        Kind::Guard(_) => "guard".to_owned(),
    };
    key.text(&kind);
    if let Kind::Step(step) = &node.kind
        && let Some(cache) = &step.cache
    {
        match &cache.identity {
            StepIdentity::Known(name) => key.text("known").text(name),
            StepIdentity::Local(number) => key.text("local").number(*number),
        };
    }
    for (label, child) in node.kind.children() {
        let structure = known.get(child.0 as usize).copied();
        key.text(label.unwrap_or_default())
            .key(structure.unwrap_or(CacheKey(0)));
    }
    key.finish()
}
