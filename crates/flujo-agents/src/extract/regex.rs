//! What a regular expression matches in text.

use ::regex::{Captures, Regex, RegexBuilder};
use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::value::Value;
use serde::Deserialize;

use super::AGENT;
use crate::config::ConfigError;
use crate::payload::to_text;

/// The most bytes that a compiled expression may take.
const COMPILED_BYTES: usize = 10 * 1024 * 1024;

/// Settings of a [`RegexExtract`] agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegexExtractConfig {
    /// The expression, in the syntax of the `regex` crate: linear in time, without look-around or back-references.
    pub pattern: String,
    /// Return every match as a list instead of the first match alone.
    #[serde(default)]
    pub all: bool,
    /// Whether having no match is an error. When it isn't, the output is null (with `all` an empty list).
    #[serde(default = "required")]
    pub required: bool,
}

fn required() -> bool {
    true
}

impl RegexExtractConfig {
    /// The first match of `pattern`, which has to be there.
    pub fn first(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            all: false,
            required: true,
        }
    }

    /// Every match of `pattern`, perhaps none.
    pub fn all(pattern: impl Into<String>) -> Self {
        Self {
            pattern: pattern.into(),
            all: true,
            required: false,
        }
    }

    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`ConfigError`] when the expression can't be compiled.
    pub fn build(&self) -> Result<RegexExtract, ConfigError> {
        let regex = RegexBuilder::new(&self.pattern)
            .size_limit(COMPILED_BYTES)
            .build()
            .map_err(|error| ConfigError::new(AGENT, "regex.pattern", error.to_string()))?;
        Ok(RegexExtract {
            regex,
            all: self.all,
            required: self.required,
        })
    }
}

/// An agent that returns what a regular expression matches in its input.
///
/// A match is a map when the expression has named groups, the group's text when it has one group, a list when it has
/// several, and the matched text when it has none. A group that took no part is null.
#[derive(Debug, Clone)]
pub struct RegexExtract {
    regex: Regex,
    all: bool,
    required: bool,
}

impl RegexExtract {
    fn extract(&self, input: &Value) -> Result<Value, AgentError> {
        let text = to_text(input)?;
        let mut matches = self
            .regex
            .captures_iter(&text)
            .map(|captures| self.shape(&captures))
            .peekable();
        if matches.peek().is_none() && self.required {
            return Err(AgentError::permanent(format!(
                "nothing in the input's {} characters matches `{}`; set `required: false` if that may be",
                text.chars().count(),
                self.regex
            )));
        }
        Ok(if self.all {
            Value::list(matches)
        } else {
            matches.next().unwrap_or_default()
        })
    }

    fn shape(&self, captures: &Captures<'_>) -> Value {
        let group = |index: usize| {
            captures
                .get(index)
                .map_or(Value::Null, |text| Value::from(text.as_str()))
        };
        let named: Vec<_> = self
            .regex
            .capture_names()
            .enumerate()
            .filter_map(|(index, name)| Some((name?, group(index))))
            .collect();
        match (named.is_empty(), captures.len()) {
            (false, _) => Value::map(named),
            (true, 1) => group(0),
            (true, 2) => group(1),
            (true, groups) => Value::list((1..groups).map(group)),
        }
    }
}

impl Agent for RegexExtract {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move { self.extract(&request.input).map(Into::into) })
    }
}
