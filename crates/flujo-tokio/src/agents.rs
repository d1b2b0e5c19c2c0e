//! Agents that plugins ask for, by the names under which any process with the pipeline finds them again.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use flujo_core::machine::Answer;
use flujo_core::plan::{Kind, Plan, Work};
use flujo_core::value::Value;

use crate::Handler;
use crate::domain::{Raised, Tokio};

/// The agents that a runner knows beside those of its steps, by their names.
#[derive(Default)]
pub(crate) struct Agents(BTreeMap<Arc<str>, Handler>);

impl Agents {
    pub(crate) fn insert(&mut self, name: Arc<str>, agent: Handler) {
        self.0.insert(name, agent);
    }

    /// The agent that a plugin asked for: itself, or by its name or the path of a step that it works for.
    pub(crate) fn asked<'a>(&'a self, agent: &'a Value, plan: &'a Plan<Handler>) -> Option<&'a Handler> {
        match agent {
            Value::Opaque(agent) => agent.downcast_ref(),
            Value::Str(name) => self.0.get(name).or_else(|| {
                let mut steps = of_steps(plan);
                steps.find(|(path, _)| **path == *name).map(|(_, agent)| agent)
            }),
            _ => None,
        }
    }

    fn name_of(&self, agent: &Handler, plan: &Plan<Handler>) -> Option<Arc<str>> {
        let named = self.0.iter().chain(of_steps(plan));
        let mut same = named.filter(|(_, other)| other.same(agent));
        same.next().map(|(name, _)| Arc::clone(name))
    }

    /// Completes a plugin's request for another agent. An agent that has a name is asked for by that from then on, so that
    /// the request can be saved.
    pub(crate) fn complete(&self, answer: &mut Answer<Tokio>, plan: &Plan<Handler>) -> Result<(), Raised> {
        let Answer::Redirect {
            agent,
            identity,
            unpriced,
            rated,
        } = answer
        else {
            return Ok(());
        };
        let Some(asked) = self.asked(agent, plan) else {
            return match agent {
                Value::Str(name) => Err(Raised::new(unknown(name))),
                _ => Ok(()),
            };
        };
        *unpriced |= asked.is_unpriced();
        *rated |= asked.rate_limit().is_some();
        if matches!(agent, Value::Opaque(_))
            && let Some(name) = self.name_of(asked, plan)
        {
            *agent = Value::Str(name);
        }
        if let Value::Str(name) = agent {
            *identity = BuildHasherDefault::<DefaultHasher>::default().hash_one(name);
        }
        Ok(())
    }
}

fn of_steps(plan: &Plan<Handler>) -> impl Iterator<Item = (&Arc<str>, &Handler)> {
    plan.nodes().filter_map(|(_, node)| match &node.kind {
        Kind::Step(step) => match &step.work {
            Work::Call(agent) => Some((&node.path, agent)),
            Work::Body(_) => None,
        },
        _ => None,
    })
}

/// A plugin asked for an agent that there isn't.
pub(crate) fn unknown(name: &str) -> String {
    format!(
        "a plugin asked for the agent `{name}`, which is neither one that the runner was given by this name nor that of a \
         step with this path"
    )
}
