//! A plan as data: everything but what is to be called. Machines walk it as they walk the plan, so that what is stored of a
//! run can be read by programs that don't have its code.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, SerializeTuple, Serializer};

use super::{
    CachedStep, ConditionalNode, GroupNode, GuardNode, HumanNode, Kind, LoopNode, MapNode, Node, NodeId,
    ParallelNode, Plan, Router, StatesNode, StepNode, Work,
};

impl<C> Plan<C> {
    /// The same plan with something else in place of each callable.
    pub fn map<T>(&self, mut callable: impl FnMut(&C) -> T) -> Plan<T> {
        let nodes = self.nodes.iter().map(|node| node.map(&mut callable)).collect();
        Plan::of(nodes, self.root, Arc::clone(&self.name))
    }
}

impl<C> Node<C> {
    fn map<T>(&self, callable: &mut impl FnMut(&C) -> T) -> Node<T> {
        Node {
            name: Arc::clone(&self.name),
            path: Arc::clone(&self.path),
            deadline: self.deadline,
            inner: self.inner,
            optimization: self.optimization.clone(),
            kind: self.kind.map(callable),
        }
    }
}

impl<C> Kind<C> {
    fn map<T>(&self, callable: &mut impl FnMut(&C) -> T) -> Kind<T> {
        match self {
            Self::Sequence(children) => Kind::Sequence(children.clone()),
            Self::Step(step) => Kind::Step(Box::new(step.map(callable))),
            Self::Conditional(node) => Kind::Conditional(Box::new(ConditionalNode {
                condition: callable(&node.condition),
                branches: node.branches.clone(),
                default: node.default,
                input_mapper: node.input_mapper.as_ref().map(&mut *callable),
                output_mapper: node.output_mapper.as_ref().map(callable),
            })),
            Self::Parallel(node) => Kind::Parallel(Box::new(ParallelNode {
                branches: node.branches.clone(),
                router: node.router.as_ref().map(|router| Router {
                    body: router.body,
                    select: callable(&router.select),
                }),
                on_failure: node.on_failure,
                max_concurrency: node.max_concurrency,
                merge: node.merge.as_ref().map(&mut *callable),
                collect: callable(&node.collect),
            })),
            Self::Map(node) => Kind::Map(Box::new(MapNode {
                body: node.body,
                items: callable(&node.items),
                max_concurrency: node.max_concurrency,
                on_failure: node.on_failure,
                merge: node.merge.as_ref().map(&mut *callable),
                collect: callable(&node.collect),
            })),
            Self::Group(node) => Kind::Group(Box::new(GroupNode {
                body: node.body,
                inherit: node.inherit.as_ref().map(&mut *callable),
                collect: node.collect.as_ref().map(callable),
            })),
            Self::Loop(node) => Kind::Loop(Box::new(LoopNode {
                body: node.body,
                judge: node.judge,
                exit: callable(&node.exit),
                first_input: node.first_input.as_ref().map(&mut *callable),
                next_input: node.next_input.as_ref().map(&mut *callable),
                output: node.output.as_ref().map(callable),
                max_loops: node.max_loops,
                on_failure: node.on_failure,
            })),
            Self::States(node) => Kind::States(Box::new(StatesNode {
                states: node.states.clone(),
                start: node.start,
                next: callable(&node.next),
            })),
            Self::Human(node) => Kind::Human(Box::new(HumanNode {
                question: callable(&node.question),
                accept: node.accept.as_ref().map(&mut *callable),
                timeout: node.timeout,
                default: node.default.as_ref().map(callable),
            })),
            Self::Guard(node) => Kind::Guard(Box::new(GuardNode {
                body: node.body,
                describe: callable(&node.describe),
                handler: node.handler,
            })),
        }
    }
}

impl<C> StepNode<C> {
    fn map<T>(&self, callable: &mut impl FnMut(&C) -> T) -> StepNode<T> {
        let mut all = |callables: &[C]| callables.iter().map(&mut *callable).collect();
        StepNode {
            prompt_processors: all(&self.prompt_processors),
            output_processors: all(&self.output_processors),
            plugins: all(&self.plugins),
            validators: all(&self.validators),
            work: match &self.work {
                Work::Call(agent) => Work::Call(callable(agent)),
                Work::Body(body) => Work::Body(*body),
            },
            on_rejection: self.on_rejection,
            apply: self.apply.as_ref().map(&mut *callable),
            persist: self.persist.as_ref().map(&mut *callable),
            policy: self.policy.clone(),
            fallback: self.fallback,
            estimate: self.estimate,
            limits: self.limits,
            rates: self.rates.clone(),
            cache: self.cache.as_ref().map(|cache| {
                Box::new(CachedStep {
                    policy: cache.policy.clone(),
                    identity: cache.identity.clone(),
                    key: cache.key.as_ref().map(callable),
                    codec: cache.codec,
                    base: cache.base,
                })
            }),
            volatile: self.volatile,
        }
    }
}

impl<C: Serialize> Serialize for Plan<C> {
    /// Its name, its root and its nodes.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut form = serializer.serialize_tuple(3)?;
        form.serialize_element(&self.name)?;
        form.serialize_element(&self.root)?;
        form.serialize_element(&self.nodes)?;
        form.end()
    }
}

impl<'de, C: Deserialize<'de>> Deserialize<'de> for Plan<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (name, root, nodes): (Arc<str>, NodeId, Vec<Node<C>>) = Deserialize::deserialize(deserializer)?;
        // Machines take ids as they are.
        for (place, node) in (0u32..).zip(&nodes) {
            for (_, NodeId(child)) in node.kind.children() {
                if child >= place {
                    let message =
                        format!("node {place} of the plan holds node {child}, which isn't before it");
                    return Err(D::Error::custom(message));
                }
            }
            if let Kind::States(states) = &node.kind
                && states.start as usize >= states.states.len()
            {
                return Err(D::Error::custom(format!(
                    "node {place} of the plan begins in no state"
                )));
            }
        }
        if root.0 as usize >= nodes.len() {
            return Err(D::Error::custom("the plan's root is no node of it"));
        }
        Ok(Self::of(nodes, root, name))
    }
}
