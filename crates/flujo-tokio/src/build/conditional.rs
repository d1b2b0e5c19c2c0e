//! One of several branches under construction.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::plan::ConditionalNode;
use flujo_core::value::Value;

use super::Pipeline;
use crate::Handler;
use crate::domain::Raised;

type Condition = dyn Fn(&Value, &Context) -> Result<String, Raised> + Send + Sync;

/// Runs the branch whose key a condition gives.
#[derive(Clone)]
pub struct Conditional {
    name: Arc<str>,
    condition: Arc<Condition>,
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
        Self {
            name: name.into(),
            condition: Arc::new(condition),
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
        let keys = conditional
            .branches
            .iter()
            .map(|(key, _)| Arc::clone(key))
            .collect();
        let condition = conditional.condition;
        let mut nodes = None;
        let branches = conditional
            .branches
            .into_iter()
            .map(|(key, body)| (key, body.place_in(&mut nodes)))
            .collect();
        let default = conditional.default.map(|body| body.place_in(&mut nodes));
        let node = ConditionalNode {
            condition: Handler::condition(move |value, context| condition(value, context), keys),
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
