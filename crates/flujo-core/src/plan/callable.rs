//! A node's callables: all of them, and which one a call is for.

#[cfg(test)]
pub(super) mod tests;

use super::{Kind, Node, StepNode, Work};
use crate::machine::Role;

impl<C> Node<C> {
    /// The callable that is called in this role; `index` tells several of one role apart. `None` when the node has none,
    /// as for the roles that hosts play by themselves: hooks, the next item, an agent that a plugin asked for.
    #[inline]
    pub fn callable(&self, role: Role, index: u32) -> Option<&C> {
        let at = index as usize;
        match (&self.kind, role) {
            (Kind::Step(step), Role::Agent) => step.agent(),
            (Kind::Step(step), Role::PromptProcessor) => step.prompt_processors.get(at),
            (Kind::Step(step), Role::OutputProcessor) => step.output_processors.get(at),
            (Kind::Step(step), Role::Plugin) => step.plugins.get(at),
            (Kind::Step(step), Role::Validator) => step.validators.get(at),
            (Kind::Step(step), Role::Apply) => step.apply.as_ref(),
            (Kind::Step(step), Role::Persist) => step.persist.as_ref(),
            (Kind::Step(step), Role::CacheKey) => step.cache.as_ref()?.key.as_ref(),
            (Kind::Conditional(node), Role::Condition) => Some(&node.condition),
            (Kind::Conditional(node), Role::BranchInput) => node.input_mapper.as_ref(),
            (Kind::Conditional(node), Role::BranchOutput) => node.output_mapper.as_ref(),
            (Kind::Parallel(node), Role::Select) => node.router.as_ref().map(|router| &router.select),
            (Kind::Parallel(node), Role::Merge) => node.merge.as_ref(),
            (Kind::Parallel(node), Role::Collect) => Some(&node.collect),
            (Kind::Map(node), Role::Items) => Some(&node.items),
            (Kind::Map(node), Role::Merge) => node.merge.as_ref(),
            (Kind::Map(node), Role::Collect) => Some(&node.collect),
            (Kind::Group(node), Role::Inherit) => node.inherit.as_ref(),
            (Kind::Group(node), Role::Collect) => node.collect.as_ref(),
            (Kind::Loop(node), Role::LoopInput) => node.first_input.as_ref(),
            (Kind::Loop(node), Role::Exit) => Some(&node.exit),
            (Kind::Loop(node), Role::NextInput) => node.next_input.as_ref(),
            (Kind::Loop(node), Role::LoopOutput) => node.output.as_ref(),
            (Kind::States(node), Role::Transition) => Some(&node.next),
            (Kind::Human(node), Role::Question) => Some(&node.question),
            (Kind::Human(node), Role::Accept) => node.accept.as_ref(),
            (Kind::Human(node), Role::DefaultAnswer) => node.default.as_ref(),
            (Kind::Guard(node), Role::Describe) => Some(&node.describe),
            _ => None,
        }
    }

    /// All its callables.
    pub fn callables(&self) -> impl Iterator<Item = &C> {
        let lists: [&[C]; 4] = match &self.kind {
            Kind::Step(step) => [
                &step.prompt_processors,
                &step.output_processors,
                &step.plugins,
                &step.validators,
            ],
            _ => [&[]; 4],
        };
        let single = match &self.kind {
            Kind::Sequence(_) => [None; 4],
            Kind::Step(step) => {
                let key = step.cache.as_ref().and_then(|cache| cache.key.as_ref());
                [step.agent(), step.apply.as_ref(), step.persist.as_ref(), key]
            }
            Kind::Conditional(node) => {
                let (before, after) = (node.input_mapper.as_ref(), node.output_mapper.as_ref());
                [Some(&node.condition), before, after, None]
            }
            Kind::Parallel(node) => {
                let select = node.router.as_ref().map(|router| &router.select);
                [select, node.merge.as_ref(), Some(&node.collect), None]
            }
            Kind::Map(node) => [Some(&node.items), node.merge.as_ref(), Some(&node.collect), None],
            Kind::Group(node) => [node.inherit.as_ref(), node.collect.as_ref(), None, None],
            Kind::Loop(node) => {
                let (first, next) = (node.first_input.as_ref(), node.next_input.as_ref());
                [first, Some(&node.exit), next, node.output.as_ref()]
            }
            Kind::States(node) => [Some(&node.next), None, None, None],
            Kind::Human(node) => {
                let (accept, default) = (node.accept.as_ref(), node.default.as_ref());
                [Some(&node.question), accept, default, None]
            }
            Kind::Guard(node) => [Some(&node.describe), None, None, None],
        };
        lists.into_iter().flatten().chain(single.into_iter().flatten())
    }
}

impl<C> StepNode<C> {
    /// The callable that is its work, when no body is.
    #[inline]
    fn agent(&self) -> Option<&C> {
        match &self.work {
            Work::Call(agent) => Some(agent),
            Work::Body(_) => None,
        }
    }
}
