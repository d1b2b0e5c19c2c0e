//! A JSON value out of text that may have prose and code fences around it.
//!
//! The search is linear in the length of the text, and never takes a piece out of a value that is broken or cut off:
//! half an answer isn't an answer.

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::value::Value;
use serde::Deserialize;
use serde_json::error::Category;

use super::AGENT;
use crate::config::ConfigError;
use crate::payload::{json_reason, to_text};

/// Settings of a [`JsonExtract`] agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JsonExtractConfig {
    /// The part of the value to return, as a JSON pointer (RFC 6901) such as `/items/0/name`. Everything without it.
    #[serde(default)]
    pub pointer: Option<String>,
}

impl JsonExtractConfig {
    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`ConfigError`] when the pointer isn't one.
    pub fn build(&self) -> Result<JsonExtract, ConfigError> {
        let pointer = self.pointer.clone().unwrap_or_default();
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(ConfigError::new(
                AGENT,
                "json.pointer",
                format!(
                    "a JSON pointer starts with `/`; did you mean `/{}`?",
                    pointer.replace('.', "/")
                ),
            ));
        }
        Ok(JsonExtract { pointer })
    }
}

/// An agent that finds the JSON value in its input.
///
/// The whole text is tried first, then each fenced block, then every object and list in the text, of which the longest
/// counts. Lists and maps that come in as data are used as they are.
#[derive(Debug, Clone, Default)]
pub struct JsonExtract {
    pointer: String,
}

impl JsonExtract {
    fn extract(&self, input: &Value) -> Result<Value, AgentError> {
        let found = match input {
            Value::Str(_) | Value::Bytes(_) => find_json(&to_text(input)?).map_err(|reason| {
                AgentError::permanent(format!("no JSON value was taken from the input: {reason}"))
            })?,
            data => data.clone(),
        };
        follow(&found, &self.pointer)
    }
}

impl Agent for JsonExtract {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move { self.extract(&request.input).map(Into::into) })
    }
}

/// The part of `value` that the pointer names.
fn follow(value: &Value, pointer: &str) -> Result<Value, AgentError> {
    let mut place = value;
    let mut reached = String::new();
    for token in pointer.split('/').skip(1) {
        let token = token.replace("~1", "/").replace("~0", "~");
        let next = match place {
            Value::Map(_) => place.get(&token),
            Value::List(items) => token.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        place = next.ok_or_else(|| {
            let here = if reached.is_empty() { "the top" } else { &reached };
            let known = match place {
                Value::Map(entries) => {
                    let names: Vec<&str> = entries.iter().take(20).map(|(name, _)| &**name).collect();
                    format!("the map there has: {}", names.join(", "))
                }
                Value::List(items) => format!("the list there has {} items", items.len()),
                other => format!("there is a value of kind `{}`", other.kind()),
            };
            AgentError::permanent(format!(
                "the JSON value has no `{pointer}`: at {here} there is no `{token}`; {known}"
            ))
        })?;
        reached = format!("{reached}/{token}");
    }
    Ok(place.clone())
}

/// The JSON value in `text`, or why there is none.
pub(crate) fn find_json(text: &str) -> Result<Value, String> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err("the text is empty".to_owned());
    }
    if let Ok(value) = serde_json::from_str(trimmed) {
        return Ok(value);
    }
    if let Some(value) = fenced_blocks(text).find_map(|block| serde_json::from_str(block.trim()).ok()) {
        return Ok(value);
    }
    longest_value(text)
}

/// The contents of the blocks between lines of three backticks.
fn fenced_blocks(text: &str) -> impl Iterator<Item = &str> {
    // Pieces at odd places lie between an opening and a closing fence; the first line is the block's language.
    text.split("```")
        .skip(1)
        .step_by(2)
        .map(|block| block.split_once('\n').map_or(block, |(_, content)| content))
}

/// The longest object or list that stands in the text, the first of equal ones.
fn longest_value(text: &str) -> Result<Value, String> {
    let mut best: Option<(usize, Value)> = None;
    let mut start = 0;
    while let Some(offset) = text[start..].find(['{', '[']) {
        start += offset;
        let rest = &text[start..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                let length = values.byte_offset();
                if best.as_ref().is_none_or(|(longest, _)| length > *longest) {
                    best = Some((length, value));
                }
                start += length;
            }
            Some(Err(error)) => {
                let stopped = offset_of(rest, error.line(), error.column());
                if is_meant_as_json(rest, stopped, error.classify()) {
                    let line = 1 + text[..start].matches('\n').count();
                    let what = if error.is_eof() {
                        "is cut off at the end of the text"
                    } else {
                        "is broken"
                    };
                    return Err(format!(
                        "the JSON that starts at line {line} {what}: {}",
                        json_reason(&error)
                    ));
                }
                start += stopped.max(1);
            }
            None => break,
        }
        while !text.is_char_boundary(start) {
            start += 1;
        }
    }
    match best {
        Some((_, value)) => Ok(value),
        None => Err("it holds no JSON object and no JSON list".to_owned()),
    }
}

/// Whether what failed was a JSON value gone wrong rather than prose with a bracket: it begins like an object with a
/// key, it goes on to the end of the text, or it is nested too deeply.
fn is_meant_as_json(rest: &str, stopped: usize, category: Category) -> bool {
    let inside = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '{' || c == '[');
    let opening = &rest[..rest.len() - inside.len()];
    let begins_with_key =
        opening.trim_end().ends_with('{') && inside.starts_with('"') && stopped > opening.len();
    let too_deep = category == Category::Syntax && opening.len() >= 128 && stopped < opening.len();
    begins_with_key || too_deep || (category == Category::Eof && !inside.is_empty())
}

/// The byte that the parser stopped at, from its line and column, which count from 1.
fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    (start + column.saturating_sub(1)).min(text.len())
}
