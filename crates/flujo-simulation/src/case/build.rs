//! A case's pipeline, built for the engine.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::cache::{CachePolicy, StepIdentity};
use flujo_core::pipeline::Pipeline;
use flujo_core::plan::{
    CachedStep, ConditionalNode, GroupNode, GuardNode, HumanNode, LoopNode, MapNode, NodeId, ParallelNode,
    Router, State, StatesNode, StepNode, Work,
};

use super::{CachedBy, Spec};
use crate::{Callable, Script};

fn callable(script: &Script) -> Callable {
    Arc::new(script.clone())
}

fn callables(scripts: &[Script]) -> Vec<Callable> {
    scripts.iter().map(callable).collect()
}

impl Spec {
    fn deadline(&self) -> Option<u64> {
        match self {
            Self::Sequence(_) | Self::Guard(_) => None,
            Self::Step(step) => step.deadline,
            Self::Conditional(node) => node.deadline,
            Self::Parallel(node) => node.deadline,
            Self::Map(node) => node.deadline,
            Self::Group(node) => node.deadline,
            Self::Loop(node) => node.deadline,
            Self::States(node) => node.deadline,
            Self::Human(node) => node.deadline,
        }
    }

    /// Adds the part to a pipeline.
    #[allow(clippy::too_many_lines)] // one arm for each construct
    pub fn add_to(&self, pipeline: &mut Pipeline<Callable>) -> NodeId {
        let named = |pipeline: &mut Pipeline<Callable>, branches: &[(String, Spec)]| {
            branches
                .iter()
                .map(|(name, spec)| (Arc::from(name.as_str()), spec.add_to(pipeline)))
                .collect()
        };
        let node = match self {
            Self::Sequence(parts) => {
                let children = parts.iter().map(|part| part.add_to(pipeline)).collect();
                pipeline.sequence(children)
            }
            Self::Step(step) => {
                let mut node = match &step.body {
                    Some(body) => StepNode::of(Work::Body(body.add_to(pipeline))),
                    None => StepNode::new(callable(&step.agent)),
                };
                node.prompt_processors = callables(&step.prompt);
                node.output_processors = callables(&step.output);
                node.plugins = callables(&step.plugins);
                node.validators = callables(&step.validators);
                node.apply = step.apply.as_ref().map(callable);
                node.persist = step.persist.as_ref().map(callable);
                node.policy = step.policy.clone();
                node.fallback = step.fallback.as_ref().map(|fallback| fallback.add_to(pipeline));
                node.estimate = step.estimate;
                node.limits = step.limits;
                node.rates.clone_from(&step.rates);
                node.on_rejection = step.on_rejection;
                node.cache = step.cached.map(|by| Box::new(cached(&step.name, by)));
                pipeline.step(step.name.as_str(), node)
            }
            Self::Conditional(spec) => {
                let node = ConditionalNode {
                    condition: callable(&spec.condition),
                    branches: named(pipeline, &spec.branches),
                    default: spec.default.as_ref().map(|default| default.add_to(pipeline)),
                    input_mapper: spec.input_mapper.as_ref().map(callable),
                    output_mapper: spec.output_mapper.as_ref().map(callable),
                };
                pipeline.conditional(spec.name.as_str(), node)
            }
            Self::Parallel(spec) => {
                let node = ParallelNode {
                    branches: named(pipeline, &spec.branches),
                    router: spec.router.as_ref().map(|(body, select)| Router {
                        body: body.add_to(pipeline),
                        select: callable(select),
                    }),
                    on_failure: spec.on_failure,
                    max_concurrency: spec.max_concurrency,
                    merge: spec.merge.as_ref().map(callable),
                    collect: callable(&spec.collect),
                };
                pipeline.parallel(spec.name.as_str(), node)
            }
            Self::Map(spec) => {
                let node = MapNode {
                    body: spec.body.add_to(pipeline),
                    items: callable(&spec.items),
                    max_concurrency: spec.max_concurrency,
                    on_failure: spec.on_failure,
                    merge: spec.merge.as_ref().map(callable),
                    collect: callable(&spec.collect),
                };
                pipeline.map(spec.name.as_str(), node)
            }
            Self::Group(spec) => {
                let node = GroupNode {
                    body: spec.body.add_to(pipeline),
                    inherit: spec.inherit.as_ref().map(callable),
                    collect: spec.collect.as_ref().map(callable),
                };
                pipeline.group(spec.name.as_str(), node)
            }
            Self::Loop(spec) => {
                let node = LoopNode {
                    body: spec.body.add_to(pipeline),
                    judge: spec.judge.as_ref().map(|judge| judge.add_to(pipeline)),
                    exit: callable(&spec.exit),
                    first_input: spec.first_input.as_ref().map(callable),
                    next_input: spec.next_input.as_ref().map(callable),
                    output: spec.output.as_ref().map(callable),
                    max_loops: spec.max_loops,
                    on_failure: spec.on_failure,
                };
                pipeline.repeat(spec.name.as_str(), node)
            }
            Self::States(spec) => {
                let last = spec.states.len().saturating_sub(1);
                let states = spec.states.iter().enumerate().map(|(at, (name, body))| State {
                    name: Arc::from(name.as_str()),
                    body: body.as_ref().map(|body| body.add_to(pipeline)),
                    end: body.is_none() || at == last,
                });
                let node = StatesNode {
                    states: states.collect(),
                    start: 0,
                    next: callable(&spec.next),
                };
                pipeline.states(spec.name.as_str(), node)
            }
            Self::Human(spec) => {
                let node = HumanNode {
                    question: callable(&spec.question),
                    accept: spec.accept.as_ref().map(callable),
                    timeout: None,
                    default: spec.default.as_ref().map(callable),
                };
                pipeline.human(spec.name.as_str(), node)
            }
            Self::Guard(spec) => {
                let node = GuardNode {
                    body: spec.body.add_to(pipeline),
                    describe: callable(&spec.describe),
                    handler: spec.handler.add_to(pipeline),
                };
                pipeline.guard(node)
            }
        };
        pipeline.set_deadline(node, self.deadline().map(Duration::from_nanos));
        node
    }
}

/// A version says that neither the step nor the input says anything.
fn cached(name: &str, by: CachedBy) -> CachedStep<Callable> {
    let policy = CachePolicy {
        version: (by == CachedBy::Nothing).then(|| Arc::from("1")),
        ..CachePolicy::default()
    };
    CachedStep::new(policy, StepIdentity::Known(Arc::from(name)))
}
