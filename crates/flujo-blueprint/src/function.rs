//! Functions of another language that a blueprint names, `package.module:function`. The program that runs a blueprint
//! says whether it has any; reading a blueprint imports nothing.

use std::fmt;
use std::sync::Arc;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::value::Value;

/// Where functions come from.
pub trait Functions: Send + Sync {
    /// Imports what a path names, such as `package.module:function`.
    ///
    /// # Errors
    /// Why it can't be imported, in words.
    fn import(&self, path: &str) -> Result<Arc<dyn Function>, String>;
}

/// A function of another language.
pub trait Function: Send + Sync + 'static {
    /// Calls it as the work of a step. Dropping the future gives the call up.
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>>;

    /// Calls it for a decision on a value and the context, and waits for the result.
    ///
    /// # Errors
    /// What the function raised, in words.
    fn decide(&self, value: &Value, context: &Value) -> Result<Value, String>;
}

/// A function as an agent.
pub(crate) struct FunctionAgent(pub(crate) Arc<dyn Function>);

impl Agent for FunctionAgent {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        self.0.run(request)
    }
}

impl fmt::Debug for FunctionAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FunctionAgent")
    }
}
