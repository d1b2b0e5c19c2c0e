//! What does the work of a step: anything that turns an input value into an output value.
//!
//! A client of any model library fits [`Agent`] in a few lines. Agents run on a host; this file only says what they
//! look like.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::rate::RateLimit;
use crate::telemetry::SpanContext;
use crate::usage::Usage;
use crate::value::Value;

/// A future that may move between threads, on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The work of a step.
///
/// ```
/// use flujo_core::agent::{Agent, AgentError, AgentRequest, AgentOutput, BoxFuture};
/// use flujo_core::value::Value;
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
/// ```
pub trait Agent: Send + Sync + 'static {
    /// Works on one input. Dropping the future cancels the work.
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>>;

    /// Whether it is known what a call costs. A run whose cost is limited doesn't call an agent of unknown price.
    fn pricing(&self) -> Pricing {
        Pricing::Known
    }

    /// How often it may be called, together with whatever else has the limit's name.
    fn rate_limit(&self) -> Option<RateLimit> {
        None
    }
}

/// Whether it is known what an agent's calls cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pricing {
    /// They cost nothing.
    Free,
    /// They have a price, and each call reports its cost.
    #[default]
    Known,
    /// They may cost something, but nobody has said how much: calls report [`Usage::unpriced`].
    Unknown,
}

/// What an agent is asked to do, and in which place.
#[derive(Clone, Default)]
pub struct AgentRequest {
    /// The step's input.
    pub input: Value,
    /// The run's context as plain data, `Null` without one.
    pub context: Value,
    /// Outputs of the steps that have finished so far in this run, by name, for templates.
    pub steps: Value,
    /// The name of the step.
    pub step: Arc<str>,
    /// The attempt, counted from 1.
    pub attempt: u32,
    /// The same over retries of this step after a crash; sent to services that de-duplicate by such a key.
    pub idempotency_key: Arc<str>,
    /// The span of this call, when the run is part of a trace; sent to other services as the header `traceparent`, so
    /// that their spans become part of it.
    pub span: Option<SpanContext>,
    /// Where chunks of a streamed answer go, when somebody listens.
    pub chunks: Option<Arc<dyn ChunkSink>>,
}

impl AgentRequest {
    /// Hands over one chunk of a streamed answer, when somebody listens; waits until there is room for it.
    pub async fn send_chunk(&self, chunk: impl Into<Value>) {
        let chunk = chunk.into();
        if let Some(chunks) = &self.chunks {
            chunks.send(chunk).await;
        }
    }
}

/// Takes the chunks of a streamed answer in order; the future is ready when there is room for the next one.
pub trait ChunkSink: Send + Sync {
    /// Hands over one chunk.
    fn send(&self, chunk: Value) -> BoxFuture<'_, ()>;
}

/// What an agent gives back.
#[derive(Debug, Clone, Default)]
pub struct AgentOutput {
    /// The output of the step.
    pub value: Value,
    /// What it used.
    pub usage: Usage,
    /// The model that answered, when there is one.
    pub model: Option<Arc<str>>,
    /// How many of the tokens used were read and how many written, where that is known.
    pub tokens: Option<TokenCounts>,
}

/// Tokens that a model read and wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// Of the prompt.
    pub input: u64,
    /// Of the answer.
    pub output: u64,
}

impl From<Value> for AgentOutput {
    fn from(value: Value) -> Self {
        Self {
            value,
            usage: Usage::ZERO,
            model: None,
            tokens: None,
        }
    }
}

/// Why an agent failed, with what the failed call used.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AgentError {
    /// What failed, where, why and what to do about it.
    pub message: String,
    /// Whether another attempt may succeed.
    pub retry: Retry,
    /// What the failed call used all the same.
    pub usage: Usage,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

/// Whether trying again makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Retry {
    /// Another attempt may succeed.
    #[default]
    Allowed,
    /// Another attempt may succeed, but not before this time has passed (`Retry-After`).
    After(Duration),
    /// It would fail the same way: wrong configuration, refused credentials, bad input.
    Never,
}

impl AgentError {
    /// A failure that another attempt may mend.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            retry: Retry::Allowed,
            usage: Usage::ZERO,
            source: None,
        }
    }

    /// A failure that would come again on every attempt.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            retry: Retry::Never,
            ..Self::new(message)
        }
    }

    /// The same with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }
}
