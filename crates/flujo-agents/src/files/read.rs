//! The agent that reads one text file.

use std::fs::File;
use std::io::Read;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::value::Value;
use serde::Deserialize;

use super::root::{Root, unreadable};
use super::{AGENT, Abandoned, blocking, here, input_template};
use crate::config::{self, ConfigError};
use crate::template::{self, Scope, Template};

/// Settings of a [`ReadFile`] agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadConfig {
    /// The folder that paths count from and that isn't left, a template.
    #[serde(default = "here")]
    pub root: String,
    /// The path of the file, a template; the step's input by default.
    #[serde(default = "input_template")]
    pub path: String,
    /// The most bytes that the file may have.
    #[serde(default = "max_bytes")]
    pub max_bytes: usize,
}

fn max_bytes() -> usize {
    16 * 1024 * 1024
}

impl Default for ReadConfig {
    fn default() -> Self {
        Self {
            root: here(),
            path: input_template(),
            max_bytes: max_bytes(),
        }
    }
}

impl ReadConfig {
    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that can't be used.
    pub fn build(&self) -> Result<ReadFile, ConfigError> {
        Ok(ReadFile {
            root: config::template(AGENT, "read.root", &self.root)?,
            path: config::template(AGENT, "read.path", &self.path)?,
            max_bytes: config::bound(AGENT, "read.max_bytes", self.max_bytes)?,
        })
    }
}

/// An agent that reads one text file inside a root folder.
///
/// The output is a map: `path` from the root, `text`, `lines` (how many), `bytes` (how many).
#[derive(Debug, Clone)]
pub struct ReadFile {
    root: Template,
    path: Template,
    max_bytes: usize,
}

fn read(root: &str, path: &str, max_bytes: usize) -> Result<Value, AgentError> {
    let (real, inside) = Root::open(root)?.existing(path)?;
    // A pipe or device could block for ever, so the kind is checked before anything is opened.
    let facts = std::fs::metadata(&real).map_err(|error| unreadable(path, error))?;
    if !facts.is_file() {
        return Err(AgentError::permanent(format!(
            "`{path}` isn't a file but a folder or device; give a file"
        )));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(facts.len()).unwrap_or(max_bytes).min(max_bytes));
    File::open(&real)
        .and_then(|file| file.take(max_bytes as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, error))?;
    if bytes.len() > max_bytes {
        return Err(AgentError::permanent(format!(
            "the file `{path}` is larger than {max_bytes} bytes; raise `max_bytes`, or leave it out"
        )));
    }
    let size = bytes.len();
    let text = String::from_utf8(bytes).map_err(|error| {
        AgentError::permanent(format!(
            "the file `{path}` isn't UTF-8 text: the first bad byte is at {} of {size}; convert it, or leave it out",
            error.utf8_error().valid_up_to()
        ))
    })?;
    let count = |number: usize| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
    Ok(Value::map([
        ("path", Value::from(inside)),
        ("lines", count(text.lines().count())),
        ("bytes", count(size)),
        ("text", Value::from(text)),
    ]))
}

impl Agent for ReadFile {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            let scope = Scope::from(&request);
            let root = template::render(&self.root, "read.root", &scope)?;
            let path = template::render(&self.path, "read.path", &scope)?;
            let max_bytes = self.max_bytes;
            blocking(move |_: &Abandoned| read(&root, &path, max_bytes))
                .await
                .map(Into::into)
        })
    }
}
