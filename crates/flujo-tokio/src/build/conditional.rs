//! One of several branches under construction.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::plan::ConditionalNode;
use flujo_core::value::Value;

use super::Pipeline;
use crate::Handler;
use crate::domain::Raised;
use crate::handler::{Decision, branch};

type Condition = dyn Fn(&Decision<'_>) -> Result<String, Raised> + Send + Sync;

/// Runs the branch whose key a condition gives.
#[derive(Clone)]
pub struct Conditional {
    name: Arc<str>,
    condition: Arc<Condition>,
    informed: bool,
    branches: Vec<(Arc<str>, Pipeline)>,
    default: Option<Pipeline>,
    input_mapper: Option<Handler>,
    output_mapper: Option<Handler>,
    deadline: Option<Duration>,
}

impl Conditional {
    /// No branches yet. `condition` gives a branch's key from the input and the context.
    pub fn new<F>(name: impl Into<Arc<str>>, condition: F) -> Self
    where
        F: Fn(&Value, &Context) -> Result<String, Raised> + Send + Sync + 'static,
    {
        let condition = move |decision: &Decision<'_>| condition(decision.value(), decision.context);
        Self {
            informed: false,
            ..Self::informed(name, condition)
        }
    }

    /// No branches yet. `condition` gives a branch's key from all that a decision knows, the outputs of earlier steps
    /// included.
    pub fn informed<F>(name: impl Into<Arc<str>>, condition: F) -> Self
    where
        F: Fn(&Decision<'_>) -> Result<String, Raised> + Send + Sync + 'static,
    {
        Self {
            name: name.into(),
            condition: Arc::new(condition),
            informed: true,
            branches: Vec::new(),
            default: None,
            input_mapper: None,
            output_mapper: None,
            deadline: None,
        }
    }

    /// Adds a branch.
    #[must_use]
    pub fn branch(mut self, key: impl Into<Arc<str>>, body: impl Into<Pipeline>) -> Self {
        self.branches.push((key.into(), body.into()));
        self
    }

    /// Taken when no branch has the key; without it such a key is a failure.
    #[must_use]
    pub fn otherwise(mut self, body: impl Into<Pipeline>) -> Self {
        self.default = Some(body.into());
        self
    }

    /// Maps the input of the chosen branch.
    #[must_use]
    pub fn input_mapper(mut self, mapper: Handler) -> Self {
        self.input_mapper = Some(mapper);
        self
    }

    /// Maps the output of the chosen branch.
    #[must_use]
    pub fn output_mapper(mut self, mapper: Handler) -> Self {
        self.output_mapper = Some(mapper);
        self
    }

    /// The longest time the whole may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

impl From<Conditional> for Pipeline {
    fn from(conditional: Conditional) -> Self {
        let keys: Vec<_> = conditional
            .branches
            .iter()
            .map(|(key, _)| Arc::clone(key))
            .collect();
        let choose = conditional.condition;
        let decide = move |decision: Decision<'_>| Ok(branch(choose(&decision)?, &keys));
        let condition = if conditional.informed {
            Handler::informed(decide)
        } else {
            Handler::inline(decide)
        };
        let mut nodes = None;
        let branches = conditional
            .branches
            .into_iter()
            .map(|(key, body)| (key, body.place_in(&mut nodes)))
            .collect();
        let default = conditional.default.map(|body| body.place_in(&mut nodes));
        let node = ConditionalNode {
            condition,
            branches,
            default,
            input_mapper: conditional.input_mapper,
            output_mapper: conditional.output_mapper,
        };
        let mut nodes = nodes.unwrap_or_default();
        let id = nodes.conditional(conditional.name, node);
        Pipeline::of(nodes, id, conditional.deadline)
    }
}
