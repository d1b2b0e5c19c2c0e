//! Finds the callable that a call is for.

use flujo_core::machine::{Call, Role};
use flujo_core::plan::{Kind, Plan, Work};

use crate::Handler;
use crate::domain::Tokio;

/// The callable that a call is for; `None` when the plan has none, which is a defect.
pub(super) fn callable<'a>(plan: &'a Plan<Handler>, call: &Call<Tokio>) -> Option<&'a Handler> {
    let index = call.index as usize;
    match (&plan.node(call.node).kind, call.role) {
        (Kind::Step(step), role) => match role {
            Role::Agent => match &step.work {
                Work::Call(agent) => Some(agent),
                Work::Body(_) => None,
            },
            Role::PromptProcessor => step.prompt_processors.get(index),
            Role::OutputProcessor => step.output_processors.get(index),
            Role::Plugin => step.plugins.get(index),
            Role::Validator => step.validators.get(index),
            Role::Apply => step.apply.as_ref(),
            Role::Persist => step.persist.as_ref(),
            _ => None,
        },
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
