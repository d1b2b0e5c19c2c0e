//! Configurations of the shipped agents as data: which agent, with which settings, asking for which permissions.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::agent::{Agent, Pricing};
use flujo_core::rate::RateLimit;
use serde::Deserialize;

use crate::chat::ChatConfig;
use crate::command::CommandConfig;
use crate::extract::ExtractConfig;
use crate::files::FilesConfig;
use crate::http::HttpConfig;
use crate::prices::Prices;
use crate::secret::Secret;
use crate::template::{Template, TemplateConfig};

/// The configuration of a shipped agent, told apart by `type`.
///
/// ```
/// use flujo_agents::AgentConfig;
///
/// let config: AgentConfig = serde_json::from_str(r#"{"type": "template", "template": "Hello {{ input }}"}"#)?;
/// assert_eq!(config.type_name(), "template");
/// let agent = config.build()?;
/// # drop(agent);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum AgentConfig {
    /// A chat model behind an OpenAI-compatible service.
    Chat(Box<ChatConfig>),
    /// An HTTP request.
    Http(Box<HttpConfig>),
    /// A command, run without a shell.
    Command(Box<CommandConfig>),
    /// A rendered template.
    Template(TemplateConfig),
    /// JSON or regular-expression matches out of text.
    Extract(ExtractConfig),
    /// Finding, reading and writing files.
    Files(FilesConfig),
}

impl AgentConfig {
    /// Every value that `type` can take.
    pub const TYPES: [&'static str; 6] = ["chat", "http", "command", "template", "extract", "files"];

    /// Reads the settings of the agent called `type_name` from a document without the `type` key, so that a reader
    /// with source positions keeps them in its errors. `None` for an unknown type.
    pub fn read<'de, D: serde::Deserializer<'de>>(
        type_name: &str,
        document: D,
    ) -> Option<Result<Self, D::Error>> {
        Some(match type_name {
            "chat" => Box::deserialize(document).map(Self::Chat),
            "http" => Box::deserialize(document).map(Self::Http),
            "command" => Box::deserialize(document).map(Self::Command),
            "template" => TemplateConfig::deserialize(document).map(Self::Template),
            "extract" => ExtractConfig::deserialize(document).map(Self::Extract),
            "files" => FilesConfig::deserialize(document).map(Self::Files),
            _ => return None,
        })
    }

    /// The value of `type`.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Chat(_) => "chat",
            Self::Http(_) => "http",
            Self::Command(_) => "command",
            Self::Template(_) => "template",
            Self::Extract(_) => "extract",
            Self::Files(_) => "files",
        }
    }

    /// Checks every setting and makes the agent. Nothing is sent, run or opened.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that can't be used.
    pub fn build(&self) -> Result<Arc<dyn Agent>, ConfigError> {
        Ok(match self {
            Self::Chat(config) => Arc::new(config.build()?),
            Self::Http(config) => Arc::new(config.build()?),
            Self::Command(config) => Arc::new(config.build()?),
            Self::Template(config) => Arc::new(config.build()?),
            Self::Extract(config) => config.build()?,
            Self::Files(config) => config.build()?,
        })
    }

    /// The permissions that the agent needs and that its author may not have the right to give.
    pub fn requires(&self) -> Vec<Permission> {
        match self {
            Self::Command(config) => vec![config.permission()],
            Self::Files(FilesConfig::Write(config)) => vec![Permission::FileWrite {
                root: config.root.clone(),
            }],
            Self::Chat(config) => config.tools.iter().flat_map(|tool| tool.run.requires()).collect(),
            _ => Vec::new(),
        }
    }

    /// Takes what it costs from `prices`, where it has no price of its own.
    pub fn price_by(&mut self, prices: &Prices) {
        if let Self::Chat(config) = self {
            config.price_by(prices);
        }
    }

    /// Whether the cost of a call is known. A run with a cost limit refuses [`Pricing::Unknown`]: unknown isn't zero.
    pub fn pricing(&self) -> Pricing {
        match self {
            Self::Chat(config) => {
                config
                    .tools
                    .iter()
                    .map(|tool| tool.run.pricing())
                    .fold(config.pricing(), |known, tool| {
                        if tool == Pricing::Unknown { tool } else { known }
                    })
            }
            _ => Pricing::Free,
        }
    }
}

/// A rate limit that can be kept.
pub(crate) fn rate_limit(
    agent: &'static str,
    limit: Option<RateLimit>,
) -> Result<Option<RateLimit>, ConfigError> {
    let checked = limit.map(RateLimit::checked).transpose();
    checked.map_err(|error| ConfigError::new(agent, "rate_limit", error.to_string()))
}

/// What an agent may only do when the user has allowed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Runs this program.
    Command {
        /// The program as the configuration names it.
        program: String,
    },
    /// Creates and replaces files under this folder.
    FileWrite {
        /// The folder as the configuration names it.
        root: String,
    },
    /// Imports this function of Python.
    PythonImport {
        /// The function: `package.module:function`.
        function: String,
    },
}

impl Permission {
    /// The permission's name in an allow-list: `command`, `file_write` or `python_import`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Command { .. } => "command",
            Self::FileWrite { .. } => "file_write",
            Self::PythonImport { .. } => "python_import",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command { program } => write!(f, "running the command `{program}`"),
            Self::FileWrite { root } => write!(f, "writing files under `{root}`"),
            Self::PythonImport { function } => write!(f, "importing `{function}`"),
        }
    }
}

/// A setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{agent} agent, `{field}`: {message}")]
pub struct ConfigError {
    /// The agent's `type`.
    pub agent: &'static str,
    /// The setting, as a dotted path.
    pub field: String,
    /// What is wrong with it and what to do about it.
    pub message: String,
}

impl ConfigError {
    pub(crate) fn new(agent: &'static str, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            agent,
            field: field.into(),
            message: message.into(),
        }
    }
}

/// Parses the template in a setting.
pub(crate) fn template(agent: &'static str, field: &str, source: &str) -> Result<Template, ConfigError> {
    Template::parse(source).map_err(|error| ConfigError::new(agent, field, error.to_string()))
}

/// A time limit given in seconds.
pub(crate) fn seconds(agent: &'static str, field: &str, seconds: f64) -> Result<Duration, ConfigError> {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(ConfigError::new(
            agent,
            field,
            format!("must be a number of seconds greater than 0, but is {seconds}"),
        )),
    }
}

/// A bound that has to let something through.
pub(crate) fn bound(agent: &'static str, field: &str, bound: usize) -> Result<usize, ConfigError> {
    if bound == 0 {
        Err(ConfigError::new(agent, field, "must be at least 1"))
    } else {
        Ok(bound)
    }
}

/// The secret in an environment variable, read when the agent is built.
pub(crate) fn secret_from_env(
    agent: &'static str,
    field: &str,
    variable: &str,
) -> Result<Secret, ConfigError> {
    from_env(agent, field, variable, "key").map(Secret::new)
}

/// The text in an environment variable, read when the agent is built; `what` says what it is.
pub(crate) fn from_env(
    agent: &'static str,
    field: &str,
    variable: &str,
    what: &str,
) -> Result<String, ConfigError> {
    let problem = match std::env::var(variable) {
        Ok(text) if !text.trim().is_empty() => return Ok(text),
        Ok(_) => "is empty",
        Err(std::env::VarError::NotPresent) => "isn't set",
        Err(std::env::VarError::NotUnicode(_)) => "isn't valid text",
    };
    Err(ConfigError::new(
        agent,
        field,
        format!(
            "the environment variable `{variable}` {problem}; set it to the {what}, or name another variable"
        ),
    ))
}
