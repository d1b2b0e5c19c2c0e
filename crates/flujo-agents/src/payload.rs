//! How a value becomes text or bytes for the outside world, and how a reply becomes a value again.

use std::borrow::Cow;
use std::sync::Arc;

use flujo_core::agent::AgentError;
use flujo_core::value::Value;
use serde::Deserialize;

/// What the bytes that came back are turned into.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text; bytes that aren't UTF-8 are an error.
    #[default]
    Text,
    /// Parsed JSON.
    Json,
    /// The bytes as they are.
    Bytes,
}

/// Text as it is, everything else as JSON.
pub(crate) fn to_text(value: &Value) -> Result<Cow<'_, str>, AgentError> {
    match value {
        Value::Str(text) => Ok(Cow::Borrowed(text)),
        Value::Bytes(bytes) => std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|error| {
            AgentError::permanent(format!(
                "the input is {} bytes that aren't UTF-8 text (first bad byte at {}); decode it in an earlier step",
                bytes.len(),
                error.valid_up_to()
            ))
        }),
        other => serde_json::to_string(other).map(Cow::Owned).map_err(|error| {
            AgentError::permanent(format!("the input of kind `{}` has no text form: {error}", other.kind()))
        }),
    }
}

/// Text and bytes as they are, everything else as JSON.
pub(crate) fn to_bytes(value: &Value) -> Result<Cow<'_, [u8]>, AgentError> {
    match value {
        Value::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
        other => Ok(match to_text(other)? {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        }),
    }
}

/// `bytes` in the asked form. `source` says whose bytes they are, for messages.
pub(crate) fn from_bytes(bytes: Vec<u8>, format: Format, source: &str) -> Result<Value, AgentError> {
    match format {
        Format::Bytes => Ok(Value::Bytes(bytes.into())),
        Format::Text => match String::from_utf8(bytes) {
            Ok(text) => Ok(Value::Str(Arc::from(text))),
            Err(error) => Err(AgentError::permanent(format!(
                "{source} isn't UTF-8 text: the first bad byte is at {} of {}; ask for `bytes` instead of `text`",
                error.utf8_error().valid_up_to(),
                error.as_bytes().len()
            ))),
        },
        Format::Json => serde_json::from_slice(&bytes)
            .map_err(|error| AgentError::new(format!("{source} isn't valid JSON: {}", json_reason(&error)))),
    }
}

/// What is wrong with the JSON and where. The parser's own words name what it expected, never what it read.
pub(crate) fn json_reason(error: &serde_json::Error) -> String {
    error.to_string()
}

/// At most `limit` characters of `text` on one line, for a message.
pub(crate) fn excerpt(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
