//! The agent that writes one file: whole or not at all.

use std::io::Write;
use std::path::Path;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::value::Value;
use serde::Deserialize;

use super::root::Root;
use super::{AGENT, Abandoned, blocking, here};
use crate::config::{self, ConfigError};
use crate::payload;
use crate::template::{self, Scope, Template};

/// Settings of a [`WriteFile`] agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteConfig {
    /// The folder that paths count from and that isn't left, a template.
    #[serde(default = "here")]
    pub root: String,
    /// The path of the file, a template. Missing folders are made.
    pub path: String,
    /// What to write, a template. Without it the step's input is written: text and bytes as they are, everything else
    /// as JSON.
    #[serde(default)]
    pub content: Option<String>,
}

impl WriteConfig {
    /// Writes the step's input to `path` under `root`.
    pub fn new(root: impl Into<String>, path: impl Into<String>) -> Self {
        Self {
            root: root.into(),
            path: path.into(),
            content: None,
        }
    }

    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that can't be used.
    pub fn build(&self) -> Result<WriteFile, ConfigError> {
        let content = self.content.as_ref();
        Ok(WriteFile {
            root: config::template(AGENT, "write.root", &self.root)?,
            path: config::template(AGENT, "write.path", &self.path)?,
            content: content
                .map(|content| config::template(AGENT, "write.content", content))
                .transpose()?,
        })
    }
}

/// An agent that writes one file inside a root folder.
///
/// The content goes to a new file beside the target, reaches the disk, and then takes the target's place in one step:
/// a reader sees the old file or the new one, and a call that is cancelled leaves the old one. The output is a map:
/// `path` from the root and `bytes` (how many).
#[derive(Debug, Clone)]
pub struct WriteFile {
    root: Template,
    path: Template,
    content: Option<Template>,
}

fn write(root: &str, path: &str, content: &[u8], abandoned: &Abandoned) -> Result<Value, AgentError> {
    let (folder, name, inside) = Root::open(root)?.place_for(path)?;
    let target = folder.join(name);
    if target.is_dir() {
        return Err(AgentError::permanent(format!(
            "`{path}` is a folder; give a file name"
        )));
    }
    let failed = |error: std::io::Error| {
        AgentError::permanent(format!(
            "the file `{path}` can't be written: {error}; it is as it was"
        ))
        .because(error)
    };
    let mut file = new_file(&folder, &target).map_err(failed)?;
    file.write_all(content)
        .and_then(|()| file.as_file().sync_all())
        .map_err(failed)?;
    abandoned.check()?;
    file.persist(&target).map_err(|error| failed(error.error))?;
    let bytes = i64::try_from(content.len()).unwrap_or(i64::MAX);
    Ok(Value::map([
        ("path", Value::from(inside)),
        ("bytes", Value::Int(bytes)),
    ]))
}

/// A new file that goes away unless it is kept, with the rights of the file that it replaces or of any new file.
fn new_file(folder: &Path, target: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".flujo-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666)); // less what the umask takes away
    }
    let file = builder.tempfile_in(folder)?;
    if let Ok(facts) = std::fs::symlink_metadata(target)
        && facts.is_file()
    {
        file.as_file().set_permissions(facts.permissions())?;
    }
    Ok(file)
}

impl Agent for WriteFile {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            let scope = Scope::from(&request);
            let root = template::render(&self.root, "write.root", &scope)?;
            let path = template::render(&self.path, "write.path", &scope)?;
            let content = match &self.content {
                Some(content) => template::render(content, "write.content", &scope)?.into_bytes(),
                None => payload::to_bytes(&request.input)?.into_owned(),
            };
            blocking(move |abandoned| write(&root, &path, &content, abandoned))
                .await
                .map(Into::into)
        })
    }
}
