//! The agent that asks a chat model behind an OpenAI-compatible service.
//!
//! One call is one conversation: the prompt, then rounds of tool calls as the model asks for them, then the answer.
//! The answer is streamed when somebody listens, checked against a JSON schema when there is one, and every request
//! of the conversation counts, also when a later one fails.

mod config;
mod price;
mod schema;
mod stream;
mod tool;
mod wire;

use std::fmt;
use std::sync::Arc;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture, Pricing, TokenCounts};
use flujo_core::rate::RateLimit;
use flujo_core::usage::{Cost, Usage};
use flujo_core::value::Value;
use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};

pub use config::{ChatBuilder, ChatConfig, ToolConfig};
pub use price::Price;
pub use tool::{AgentTool, FunctionTool, Tool};

use crate::net::{self, Connection};
use crate::payload::{json_reason, to_text};
use crate::secret::Secret;
use crate::template::{self, Scope, Template};
use price::Rates;
pub use schema::Schema as JsonSchema;
use schema::Schema;
use wire::{Completion, Reply, RequestBody, StreamOptions, Tokens, ToolCall};

const AGENT: &str = "chat";

/// An agent that asks a chat model behind an OpenAI-compatible service.
///
/// ```no_run
/// use flujo_agents::chat::{Chat, Price};
///
/// let agent = Chat::builder("http://127.0.0.1:8080/v1", "qwen2.5-0.5b")
///     .system("Answer in one sentence.")
///     .prompt("Summarise: {{ input }}")
///     .temperature(0.0)
///     .price(Price { prompt_per_million: 0.15, completion_per_million: 0.6 })
///     .build()?;
/// # Ok::<(), flujo_agents::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Chat {
    url: Url,
    model: Arc<str>,
    key: Option<Secret>,
    authorization: Option<HeaderValue>,
    system: Option<Template>,
    prompt: Option<Template>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_tokens: Option<u64>,
    schema: Option<Schema>,
    response_format: Option<Value>,
    tools: Vec<OfferedTool>,
    max_tool_rounds: u32,
    rates: Option<Rates>,
    rate_limit: Option<RateLimit>,
    extra: Value,
    connection: Connection,
}

#[derive(Clone)]
struct OfferedTool {
    tool: Arc<dyn Tool>,
    parameters: Schema,
    declaration: Value,
}

/// What the requests of a conversation have used.
#[derive(Debug, Default)]
struct Spent {
    usage: Usage,
    /// Of the model itself, without its tools.
    tokens: TokenCounts,
}

impl fmt::Debug for Chat {
    /// Where and which model; no key, no prompt.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chat")
            .field("url", &net::place(&self.url))
            .field("model", &self.model)
            .finish_non_exhaustive()
    }
}

impl Agent for Chat {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            let mut spent = Spent::default();
            match self.converse(&request, &mut spent).await {
                Ok((value, model)) => Ok(AgentOutput {
                    value,
                    usage: spent.usage,
                    model: Some(model),
                    tokens: Some(spent.tokens),
                }),
                Err(error) => Err(AgentError {
                    usage: spent.usage,
                    ..error
                }),
            }
        })
    }

    fn rate_limit(&self) -> Option<RateLimit> {
        self.rate_limit.clone()
    }

    /// Known when the prices of the model and of every tool are. Without the model's price, calls report their tokens
    /// and no cost.
    fn pricing(&self) -> Pricing {
        let unknown = |tool: &OfferedTool| tool.tool.pricing() == Pricing::Unknown;
        if self.rates.is_none() || self.tools.iter().any(unknown) {
            Pricing::Unknown
        } else {
            Pricing::Known
        }
    }
}

impl Chat {
    /// Starts a builder for `model` at the service under `base_url` (up to and without `/chat/completions`).
    pub fn builder(base_url: impl Into<String>, model: impl Into<String>) -> ChatBuilder {
        ChatBuilder::new(base_url.into(), model.into())
    }

    /// The whole conversation. `spent` is kept up to date at every step, so that it holds when this fails.
    async fn converse(
        &self,
        request: &AgentRequest,
        spent: &mut Spent,
    ) -> Result<(Value, Arc<str>), AgentError> {
        let mut messages = self.opening(request)?;
        let declarations: Vec<Value> = self.tools.iter().map(|tool| tool.declaration.clone()).collect();
        for round in 0.. {
            let reply = self.ask(&messages, &declarations, request, spent).await?;
            let model = reply
                .model
                .as_deref()
                .map_or_else(|| Arc::clone(&self.model), Arc::from);
            if reply.tool_calls.is_empty() {
                return Ok((self.answer(reply)?, model));
            }
            if round == self.max_tool_rounds {
                break;
            }
            messages.push(Value::map([
                ("role", Value::from("assistant")),
                ("content", Value::from(reply.content)),
                (
                    "tool_calls",
                    Value::list(reply.tool_calls.iter().map(ToolCall::to_message)),
                ),
            ]));
            for call in reply.tool_calls {
                let result = self.call_tool(&call, request, &mut spent.usage).await;
                messages.push(Value::map([
                    ("role", Value::from("tool")),
                    ("tool_call_id", Value::from(call.id)),
                    ("content", Value::from(result)),
                ]));
            }
        }
        Err(AgentError::new(format!(
            "the model `{}` still asked for tools after {} rounds; raise `max_tool_rounds`, or tell it in the system \
             prompt when to stop",
            self.model, self.max_tool_rounds
        )))
    }

    /// The messages before the first answer.
    fn opening(&self, request: &AgentRequest) -> Result<Vec<Value>, AgentError> {
        let message = |role: &str, text: String| {
            Value::map([("role", Value::from(role)), ("content", Value::from(text))])
        };
        let scope = Scope::from(request);
        let mut messages = Vec::new();
        if let Some(system) = &self.system {
            messages.push(message("system", template::render(system, "system", &scope)?));
        }
        match (&self.prompt, &request.input) {
            (Some(prompt), _) => messages.push(message("user", template::render(prompt, "prompt", &scope)?)),
            (None, Value::List(conversation)) if is_conversation(conversation) => {
                messages.extend(conversation.iter().cloned());
            }
            (None, input) => messages.push(message("user", to_text(input)?.into_owned())),
        }
        Ok(messages)
    }

    /// One request and its reply.
    async fn ask(
        &self,
        messages: &[Value],
        tools: &[Value],
        request: &AgentRequest,
        spent: &mut Spent,
    ) -> Result<Reply, AgentError> {
        let stream = request.chunks.is_some();
        let body = serde_json::to_vec(&RequestBody {
            model: &self.model,
            messages,
            temperature: self.temperature,
            top_p: self.top_p,
            max_tokens: self.max_tokens,
            response_format: self.response_format.as_ref(),
            tools,
            stream,
            stream_options: stream.then_some(StreamOptions { include_usage: true }),
            extra: &self.extra,
        })
        .map_err(|error| AgentError::permanent(format!("the request can't be written as JSON: {error}")))?;
        let mut http = self
            .connection
            .client()
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json");
        http = http.header(
            ACCEPT,
            if stream {
                "text/event-stream"
            } else {
                "application/json"
            },
        );
        if let Some(span) = &request.span {
            http = http.header(net::TRACEPARENT, span.to_string());
        }
        if let Some(authorization) = &self.authorization {
            http = http.header(AUTHORIZATION, authorization.clone());
        }
        let http = http.body(body).build().map_err(|error| {
            AgentError::permanent(format!("the request can't be made: {}", error.without_url()))
        })?;

        let reply = self.connection.send(http).await;
        let usage = &mut spent.usage;
        usage.requests += reply.as_ref().map_or_else(|error| error.usage.requests, |_| 1);
        usage.unpriced |= usage.requests > 0 && self.rates.is_none();
        let reply = reply?;
        if !reply.response().status().is_success() {
            return Err(net::refused(reply, self.key.as_ref()).await);
        }
        let reply = match &request.chunks {
            Some(sink) if is_event_stream(&reply) => {
                match stream::read(reply, self.connection.max_response_bytes, &**sink).await {
                    Ok(reply) => reply,
                    Err(stream::Broken { error, tokens }) => {
                        self.count(tokens.unwrap_or_default(), spent);
                        return Err(error);
                    }
                }
            }
            sink => {
                let reply = whole(reply).await?;
                if let Some(sink) = sink.as_ref().filter(|_| !reply.content.is_empty()) {
                    sink.send(Value::from(reply.content.as_str())).await;
                }
                reply
            }
        };
        if let Some(tokens) = reply.tokens {
            self.count(tokens, spent);
        } else {
            tracing::warn!(
                model = &*self.model,
                step = &*request.step,
                "the service reported no token usage; tokens and cost of this request are unknown and count as 0"
            );
        }
        Ok(reply)
    }

    fn count(&self, tokens: Tokens, spent: &mut Spent) {
        let cost = self.rates.map_or(Cost::ZERO, |rates| {
            rates.cost(tokens.prompt_tokens, tokens.completion_tokens)
        });
        spent.usage += Usage::new(
            cost,
            tokens.prompt_tokens.saturating_add(tokens.completion_tokens),
        );
        let TokenCounts { input, output } = &mut spent.tokens;
        *input = input.saturating_add(tokens.prompt_tokens);
        *output = output.saturating_add(tokens.completion_tokens);
    }

    /// The output of the step from the final reply.
    fn answer(&self, reply: Reply) -> Result<Value, AgentError> {
        let model = &self.model;
        if reply.refusal.is_some_and(|text| !text.is_empty()) {
            return Err(AgentError::new(format!(
                "the model `{model}` refused to answer; change the prompt"
            )));
        }
        let cut_off = reply.finish_reason.as_deref() == Some("length");
        if reply.finish_reason.as_deref() == Some("content_filter") {
            return Err(AgentError::permanent(format!(
                "the service's content filter stopped the answer of the model `{model}`; change the prompt"
            )));
        }
        let Some(schema) = &self.schema else {
            if reply.content.is_empty() {
                let cure = if cut_off {
                    "it reached `max_tokens` first; raise it"
                } else {
                    "try again"
                };
                return Err(AgentError::new(format!(
                    "the model `{model}` gave an empty answer; {cure}"
                )));
            }
            if cut_off {
                tracing::warn!(
                    model = &**model,
                    "the answer was cut off at the most tokens allowed"
                );
            }
            return Ok(Value::from(reply.content));
        };
        schema.read(&reply.content).map_err(|reason| {
            let cure = if cut_off {
                "; it was cut off: raise `max_tokens`"
            } else {
                ""
            };
            AgentError::new(format!(
                "the answer of the model `{model}` doesn't fit the output schema: {reason}{cure}"
            ))
        })
    }

    /// Calls a tool and returns what the model is told, which is also how the model learns of a mistake.
    async fn call_tool(&self, call: &ToolCall, request: &AgentRequest, usage: &mut Usage) -> String {
        let Some(offered) = self.tools.iter().find(|offered| offered.tool.name() == call.name) else {
            let known: Vec<&str> = self.tools.iter().map(|offered| offered.tool.name()).collect();
            return format!(
                "error: there is no tool `{}`; the tools are: {}",
                call.name,
                known.join(", ")
            );
        };
        let arguments = if call.arguments.trim().is_empty() {
            "{}"
        } else {
            &call.arguments
        };
        let arguments: Value = match serde_json::from_str(arguments) {
            Ok(arguments) => arguments,
            Err(error) => return format!("error: the arguments aren't valid JSON: {}", json_reason(&error)),
        };
        if let Err(reason) = offered.parameters.check(&arguments) {
            return format!("error: the arguments don't fit the tool's schema: {reason}");
        }
        match offered.tool.call(arguments, request).await {
            Ok(output) => {
                *usage += output.usage;
                to_text(&output.value)
                    .map_or_else(|error| format!("error: {error}"), std::borrow::Cow::into_owned)
            }
            Err(error) => {
                *usage += error.usage;
                format!("error: {error}")
            }
        }
    }
}

fn is_conversation(messages: &[Value]) -> bool {
    let is_message = |message: &Value| message.get("role").is_some() && message.get("content").is_some();
    !messages.is_empty() && messages.iter().all(is_message)
}

fn is_event_stream(reply: &net::Reply) -> bool {
    let kind = reply
        .response()
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    // A server that says nothing, but was asked for a stream, streams.
    kind.is_none_or(|kind| {
        kind.trim_start()
            .to_ascii_lowercase()
            .starts_with("text/event-stream")
    })
}

/// A reply in one piece.
async fn whole(reply: net::Reply) -> Result<Reply, AgentError> {
    let place = reply.place();
    let garbage = |reason: String| {
        AgentError::new(format!(
            "{place} sent a reply that isn't of the chat-completions protocol: {reason}; check that `base_url` is that \
             of an OpenAI-compatible service"
        ))
    };
    let body = reply.body().await?;
    let completion: Completion =
        serde_json::from_slice(&body).map_err(|error| garbage(json_reason(&error)))?;
    completion.into_reply().map_err(garbage)
}
