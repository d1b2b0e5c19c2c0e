//! The chat-completions protocol: what is sent and what comes back, in one piece.

use flujo_core::value::Value;
use serde::{Deserialize, Serialize};

/// The body of a request.
#[derive(Serialize)]
pub(super) struct RequestBody<'a> {
    pub(super) model: &'a str,
    pub(super) messages: &'a [Value],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) max_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_format: Option<&'a Value>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub(super) tools: &'a [Value],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    pub(super) extra: &'a Value,
}

impl RequestBody<'_> {
    /// The fields that `extra` must not set.
    pub(super) const OWN_FIELDS: [&'static str; 10] = [
        "model",
        "messages",
        "temperature",
        "top_p",
        "max_tokens",
        "response_format",
        "tools",
        "stream",
        "stream_options",
        "n",
    ];
}

#[derive(Serialize)]
pub(super) struct StreamOptions {
    pub(super) include_usage: bool,
}

/// What the model answered, from one piece or from a stream.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub(super) content: String,
    pub(super) refusal: Option<String>,
    pub(super) tool_calls: Vec<ToolCall>,
    pub(super) finish_reason: Option<String>,
    pub(super) model: Option<String>,
    pub(super) tokens: Option<Tokens>,
}

/// The tokens of one request.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Tokens {
    #[serde(default)]
    pub(super) prompt_tokens: u64,
    #[serde(default)]
    pub(super) completion_tokens: u64,
}

/// A call of a tool that the model asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct ToolCall {
    pub(super) id: String,
    pub(super) name: String,
    /// JSON text.
    pub(super) arguments: String,
}

impl ToolCall {
    /// The call as the protocol repeats it in the assistant's message.
    pub(super) fn to_message(&self) -> Value {
        Value::map([
            ("id", Value::from(self.id.as_str())),
            ("type", Value::from("function")),
            (
                "function",
                Value::map([
                    ("name", Value::from(self.name.as_str())),
                    ("arguments", Value::from(self.arguments.as_str())),
                ]),
            ),
        ])
    }
}

/// A reply in one piece.
#[derive(Deserialize)]
pub(super) struct Completion {
    model: Option<String>,
    choices: Vec<Choice>,
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<WireCall>>,
}

/// A tool call as it comes in: in pieces when streamed, with parts missing from some servers.
#[derive(Deserialize)]
pub(super) struct WireCall {
    pub(super) index: Option<usize>,
    pub(super) id: Option<String>,
    pub(super) function: Option<WireFunction>,
}

#[derive(Deserialize)]
pub(super) struct WireFunction {
    pub(super) name: Option<String>,
    /// JSON text; from some servers the JSON itself.
    pub(super) arguments: Option<Value>,
}

impl WireFunction {
    pub(super) fn arguments_text(&self) -> Result<String, String> {
        match &self.arguments {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::Str(text)) => Ok(text.to_string()),
            Some(data) => serde_json::to_string(data).map_err(|error| error.to_string()),
        }
    }
}

impl Completion {
    /// The first choice as a reply.
    pub(super) fn into_reply(self) -> Result<Reply, String> {
        let choice = self.choices.into_iter().next().ok_or("`choices` is empty")?;
        let calls = choice
            .message
            .tool_calls
            .unwrap_or_default()
            .into_iter()
            .enumerate()
            .map(|(index, call)| {
                let function = call
                    .function
                    .ok_or_else(|| format!("tool call {index} has no `function`"))?;
                Ok::<_, String>(ToolCall {
                    arguments: function.arguments_text()?,
                    name: function
                        .name
                        .ok_or_else(|| format!("tool call {index} has no name"))?,
                    id: call.id.unwrap_or_else(|| format!("call_{index}")),
                })
            });
        Ok(Reply {
            tool_calls: calls.collect::<Result<_, _>>()?,
            content: choice.message.content.unwrap_or_default(),
            refusal: choice.message.refusal,
            finish_reason: choice.finish_reason,
            model: self.model,
            tokens: self.usage,
        })
    }
}
