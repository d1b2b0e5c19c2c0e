//! The agent whose output is a rendered template.

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::value::Value;
use serde::Deserialize;

use super::{Scope, Template, TemplateError};
use crate::config::{self, ConfigError};

/// Settings of a [`TemplateAgent`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateConfig {
    /// The template.
    pub template: String,
}

impl TemplateConfig {
    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`ConfigError`] when the template has a syntax error.
    pub fn build(&self) -> Result<TemplateAgent, ConfigError> {
        Ok(TemplateAgent::new(config::template(
            "template",
            "template",
            &self.template,
        )?))
    }
}

/// An agent whose output is the text of a rendered template.
#[derive(Debug, Clone)]
pub struct TemplateAgent {
    template: Template,
}

impl TemplateAgent {
    /// An agent that renders `template`.
    pub fn new(template: Template) -> Self {
        Self { template }
    }
}

impl Agent for TemplateAgent {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            let text = render(&self.template, "template", &Scope::from(&request))?;
            Ok(Value::from(text).into())
        })
    }
}

/// Renders the template in the setting `field`. The same data would fail again, so the error is permanent.
pub(crate) fn render(template: &Template, field: &str, scope: &Scope) -> Result<String, AgentError> {
    template.render(scope).map_err(|error| in_field(field, error))
}

fn in_field(field: &str, error: TemplateError) -> AgentError {
    AgentError::permanent(format!("the template in `{field}` can't be rendered: {error}")).because(error)
}
