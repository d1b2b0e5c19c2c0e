//! Steps whose work an agent does.

use std::sync::Arc;

use flujo_core::agent::Agent;
use flujo_core::value::Value;
use flujo_tokio::Step as Untyped;

use crate::Step;

/// A step whose work an agent does. Its usage counts; it is told the context and the outputs of earlier steps.
///
/// ```
/// use flujo::{Agent, AgentError, AgentOutput, AgentRequest, BoxError, BoxFuture, Flujo, Value, agent_step};
///
/// struct Shout;
/// impl Agent for Shout {
///     fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
///         Box::pin(async move {
///             let text = request.input.as_str().ok_or_else(|| AgentError::new("the input must be text"))?;
///             Ok(Value::from(text.to_uppercase()).into())
///         })
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// let done = Flujo::new(agent_step("shout", Shout)).run(Value::from("hello")).await?;
/// assert_eq!(done.output, Value::from("HELLO"));
/// # Ok(()) }
/// ```
pub fn agent_step(name: impl Into<Arc<str>>, agent: impl Agent) -> Step<Value, Value, ()> {
    let agent: Arc<dyn Agent> = Arc::new(agent);
    Step::of(name.into(), Box::new(move |name, _| Untyped::agent(name, agent)))
}
