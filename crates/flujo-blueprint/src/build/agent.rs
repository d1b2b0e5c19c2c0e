//! An agent whose input a template makes.

use std::sync::Arc;

use flujo_agents::template::Scope;
use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture, Pricing};
use flujo_core::rate::RateLimit;
use flujo_core::value::Value;

use crate::template::DataTemplate;

/// Fills in a step's `input`, then asks the agent. The template knows the attempt, so that a second attempt can be
/// asked for something else than the first.
pub(super) struct TemplatedInput {
    agent: Arc<dyn Agent>,
    input: Arc<DataTemplate>,
}

impl TemplatedInput {
    pub(super) fn new(agent: Arc<dyn Agent>, input: Arc<DataTemplate>) -> Self {
        Self { agent, input }
    }
}

impl Agent for TemplatedInput {
    fn run(&self, mut request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            let scope = Scope::from(&request).with("attempt", Value::Int(i64::from(request.attempt)));
            request.input = self.input.evaluate(&scope).map_err(|error| {
                AgentError::permanent(format!("the step's `input` can't be filled in: {error}"))
                    .because(error)
            })?;
            self.agent.run(request).await
        })
    }

    fn pricing(&self) -> Pricing {
        self.agent.pricing()
    }

    fn rate_limit(&self) -> Option<RateLimit> {
        self.agent.rate_limit()
    }
}
