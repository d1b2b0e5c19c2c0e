//! Tools that a model may call: any type, any closure, any agent.

use std::future::Future;
use std::sync::Arc;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture, Pricing};
use flujo_core::value::Value;

use super::schema::Schema;
use super::{AGENT, OfferedTool};
use crate::config::ConfigError;

/// Something that a model may call while it works on its answer.
pub trait Tool: Send + Sync + 'static {
    /// The name that the model calls it by: letters, digits, `_` and `-`, at most 64.
    fn name(&self) -> &str;

    /// What it does and when to use it, for the model.
    fn description(&self) -> &str;

    /// The JSON schema of the arguments, an object schema. Arguments that don't fit are sent back to the model and
    /// never reach [`call`](Self::call).
    fn parameters(&self) -> &Value;

    /// Does the work. The output goes to the model, and its usage counts. So does an error: the model is told its
    /// message and may try something else.
    fn call<'a>(
        &'a self,
        arguments: Value,
        request: &'a AgentRequest,
    ) -> BoxFuture<'a, Result<AgentOutput, AgentError>>;

    /// Whether it is known what a call costs.
    fn pricing(&self) -> Pricing {
        Pricing::Known
    }
}

/// A closure as a tool.
pub struct FunctionTool<F> {
    name: String,
    description: String,
    parameters: Value,
    function: F,
}

impl<F, Fut> FunctionTool<F>
where
    F: Fn(Value) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, AgentError>> + Send + 'static,
{
    /// A tool that calls `function` with arguments that fit the JSON schema `parameters`.
    pub fn new(
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: Value,
        function: F,
    ) -> Self {
        Self {
            name: name.into(),
            description: description.into(),
            parameters,
            function,
        }
    }
}

impl<F, Fut> Tool for FunctionTool<F>
where
    F: Fn(Value) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Value, AgentError>> + Send + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn parameters(&self) -> &Value {
        &self.parameters
    }

    fn call<'a>(
        &'a self,
        arguments: Value,
        _: &'a AgentRequest,
    ) -> BoxFuture<'a, Result<AgentOutput, AgentError>> {
        let result = (self.function)(arguments);
        Box::pin(async move { result.await.map(Into::into) })
    }
}

/// An agent as a tool: the arguments are its input.
pub struct AgentTool {
    /// The name that the model calls it by.
    pub name: String,
    /// What it does and when to use it, for the model.
    pub description: String,
    /// The JSON schema of the arguments.
    pub parameters: Value,
    /// What does the work.
    pub agent: Arc<dyn Agent>,
}

impl Tool for AgentTool {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        &self.description
    }

    fn parameters(&self) -> &Value {
        &self.parameters
    }

    fn call<'a>(
        &'a self,
        arguments: Value,
        request: &'a AgentRequest,
    ) -> BoxFuture<'a, Result<AgentOutput, AgentError>> {
        // Chunks belong to the answer of the step, so a tool streams none.
        self.agent.run(AgentRequest {
            input: arguments,
            chunks: None,
            ..request.clone()
        })
    }

    fn pricing(&self) -> Pricing {
        self.agent.pricing()
    }
}

/// Tools as the model is told of them.
pub(super) fn offered(tools: Vec<Arc<dyn Tool>>) -> Result<Vec<OfferedTool>, ConfigError> {
    let mut offered: Vec<OfferedTool> = Vec::with_capacity(tools.len());
    for tool in tools {
        let name = tool.name();
        let field = format!("tools.{name}");
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
            let reason = "a tool's name has 1 to 64 letters, digits, `_` or `-`";
            return Err(ConfigError::new(AGENT, field, reason));
        }
        if offered.iter().any(|known| known.tool.name() == name) {
            return Err(ConfigError::new(
                AGENT,
                field,
                "there are two tools of this name; rename one",
            ));
        }
        let parameters = Schema::compile(tool.parameters())
            .map_err(|reason| ConfigError::new(AGENT, format!("{field}.parameters"), reason))?;
        let declaration = Value::map([
            ("type", Value::from("function")),
            (
                "function",
                Value::map([
                    ("name", Value::from(name)),
                    ("description", Value::from(tool.description())),
                    ("parameters", tool.parameters().clone()),
                ]),
            ),
        ]);
        offered.push(OfferedTool {
            tool,
            parameters,
            declaration,
        });
    }
    Ok(offered)
}
