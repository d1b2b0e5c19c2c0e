//! What the tokio host brings to the machine: values, contexts and handlers, and how errors of user code become
//! failures.

use std::any::Any;
use std::error::Error;
use std::sync::Arc;

use flujo_core::agent::{AgentError, Retry};
use flujo_core::context::Context;
use flujo_core::machine::{Domain, Failure, FailureKind, Finish, Outcome, RetryAdvice};
use flujo_core::usage::Usage;
use flujo_core::value::{Opaque, Value};
use flujo_durable::DurableError;

use crate::Handler;

/// Any error that may move between threads.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The types of the tokio host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokio {}

impl Domain for Tokio {
    type Object = Value;
    type Context = Context;
    type Callable = Handler;

    fn fork(context: &Context) -> Context {
        context.fork()
    }

    fn is_unwritten(base: &Context, view: &Context) -> bool {
        base.has_fields_of(view)
    }

    fn commit(base: &mut Context, view: Context) -> Result<(), Failure<Self>> {
        base.take_over(view);
        Ok(())
    }

    /// What user code raised can't be saved; the failure tells its type and its text.
    fn stored_error(_: &Value) -> Option<Value> {
        None
    }
}

/// An error that user code gave, with its type's name.
#[derive(Debug)]
pub struct Raised {
    /// The error itself.
    pub error: BoxError,
    /// The name of its type, or `Error` where it is not known.
    pub type_name: &'static str,
}

impl Raised {
    /// An error whose type is known.
    pub fn new<E: Into<BoxError>>(error: E) -> Self {
        Self {
            error: error.into(),
            type_name: error_name::<E>(),
        }
    }
}

impl<E: Into<BoxError>> From<E> for Raised {
    fn from(error: E) -> Self {
        Self::new(error)
    }
}

/// The name under which errors of a type are counted.
fn error_name<E>() -> &'static str {
    let name = std::any::type_name::<E>();
    let erased =
        name.contains("dyn core::error::Error") || name.ends_with("str") || name.ends_with("::String");
    if erased { "Error" } else { name }
}

/// The original error inside a failure's error object.
#[derive(Debug)]
pub struct UserError(pub BoxError);

/// The user's own error behind a failure, when there is one.
pub fn user_error(failure: &Failure<Tokio>) -> Option<&(dyn Error + 'static)> {
    match failure.error.as_ref()? {
        Value::Opaque(object) => {
            let error: &(dyn Error + 'static) = &*object.downcast_ref::<UserError>()?.0;
            Some(error)
        }
        _ => None,
    }
}

/// Why a run could not be taken out of its store, or not be put there.
pub(crate) fn durable_error(finish: &Finish<Tokio>) -> Option<&DurableError> {
    match &finish.outcome {
        Outcome::Failed(failure) if finish.history.records.is_empty() => user_error(failure)?.downcast_ref(),
        _ => None,
    }
}

/// A failure as the machine takes it, and what the failed call used. The machine fills in step, stage and attempt. An
/// [`AgentError`] says by itself whether another attempt makes sense and what it used.
pub(crate) fn failure(raised: Raised) -> (Failure<Tokio>, Usage) {
    let mut failure = Failure::new(
        FailureKind::Agent,
        raised.type_name,
        Arc::from(raised.error.to_string()),
    );
    let mut usage = Usage::ZERO;
    if let Some(agent) = raised.error.downcast_ref::<AgentError>() {
        usage = agent.usage;
        failure.retry = match agent.retry {
            Retry::Allowed => RetryAdvice::Allowed,
            Retry::After(wait) => RetryAdvice::After(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)),
            Retry::Never => RetryAdvice::Never,
        };
    }
    failure.error = Some(Value::Opaque(Opaque::new(UserError(raised.error))));
    (failure, usage)
}

/// The failure of user code that panicked.
pub(crate) fn panicked(payload: &(dyn Any + Send)) -> Failure<Tokio> {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Failure::new(FailureKind::Agent, "Panic", format!("the code panicked: {text}"))
}
