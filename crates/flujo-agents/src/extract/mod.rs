//! Agents that take data out of text: a JSON value from among prose, or what a regular expression matches.

mod json;
mod regex;

use std::sync::Arc;

use flujo_core::agent::Agent;
use serde::Deserialize;

pub(crate) use json::find_json;
pub use json::{JsonExtract, JsonExtractConfig};
pub use regex::{RegexExtract, RegexExtractConfig};

use crate::config::ConfigError;

const AGENT: &str = "extract";

/// Settings of an extractor: exactly one of `json` and `regex`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExtractConfig {
    /// Takes a JSON value out of text.
    Json(JsonExtractConfig),
    /// Takes what a regular expression matches out of text.
    Regex(RegexExtractConfig),
}

impl ExtractConfig {
    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that can't be used.
    pub fn build(&self) -> Result<Arc<dyn Agent>, ConfigError> {
        Ok(match self {
            Self::Json(config) => Arc::new(config.build()?),
            Self::Regex(config) => Arc::new(config.build()?),
        })
    }
}
