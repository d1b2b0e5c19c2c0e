//! Which of a node's callables a call is for.

use super::{Kind, Node, Work};
use crate::machine::Role;

impl<C> Node<C> {
    /// The callable that is called in this role; `index` tells several of one role apart. `None` when the node has none,
    /// as for the roles that hosts play by themselves: hooks, the next item, an agent that a plugin asked for.
    #[inline]
    pub fn callable(&self, role: Role, index: u32) -> Option<&C> {
        let at = index as usize;
        match (&self.kind, role) {
            (Kind::Step(step), Role::Agent) => match &step.work {
                Work::Call(agent) => Some(agent),
                Work::Body(_) => None,
            },
            (Kind::Step(step), Role::PromptProcessor) => step.prompt_processors.get(at),
            (Kind::Step(step), Role::OutputProcessor) => step.output_processors.get(at),
            (Kind::Step(step), Role::Plugin) => step.plugins.get(at),
            (Kind::Step(step), Role::Validator) => step.validators.get(at),
            (Kind::Step(step), Role::Apply) => step.apply.as_ref(),
            (Kind::Step(step), Role::Persist) => step.persist.as_ref(),
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
}
