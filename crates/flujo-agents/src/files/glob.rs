//! The agent that lists the files under a folder whose paths match patterns.

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::value::Value;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use ignore::WalkBuilder;
use serde::Deserialize;

use super::root::{Root, shown};
use super::{AGENT, Abandoned, blocking, here};
use crate::config::{self, ConfigError};
use crate::template::{self, Scope, Template};

/// Settings of a [`GlobFiles`] agent.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GlobConfig {
    /// The folder to look in, a template.
    #[serde(default = "here")]
    pub root: String,
    /// The patterns of which a path has to match one. `*` stays within a folder, `**` goes through folders.
    pub include: Vec<String>,
    /// The patterns of which a path must match none. Excluded folders aren't entered.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Whether files that `.gitignore`, `.ignore` and `.git/info/exclude` name are left out, and `.git` itself.
    #[serde(default = "yes")]
    pub gitignore: bool,
    /// Whether names with a leading dot count.
    #[serde(default)]
    pub hidden: bool,
    /// The most files to list; more are an error.
    #[serde(default = "max_files")]
    pub max_files: usize,
}

fn yes() -> bool {
    true
}

fn max_files() -> usize {
    100_000
}

impl GlobConfig {
    /// Files under `root` that match one of `include`, with default settings.
    pub fn new<S: Into<String>>(root: impl Into<String>, include: impl IntoIterator<Item = S>) -> Self {
        Self {
            root: root.into(),
            include: include.into_iter().map(Into::into).collect(),
            exclude: Vec::new(),
            gitignore: true,
            hidden: false,
            max_files: max_files(),
        }
    }

    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`ConfigError`] naming the pattern that can't be used.
    pub fn build(&self) -> Result<GlobFiles, ConfigError> {
        if self.include.is_empty() {
            return Err(ConfigError::new(
                AGENT,
                "glob.include",
                "is empty; give a pattern such as `**/*.rs`",
            ));
        }
        Ok(GlobFiles {
            root: config::template(AGENT, "glob.root", &self.root)?,
            include: patterns("glob.include", &self.include)?,
            exclude: patterns("glob.exclude", &self.exclude)?,
            gitignore: self.gitignore,
            hidden: self.hidden,
            max_files: config::bound(AGENT, "glob.max_files", self.max_files)?,
        })
    }
}

fn patterns(field: &str, patterns: &[String]) -> Result<GlobSet, ConfigError> {
    let mut set = GlobSetBuilder::new();
    for (index, pattern) in patterns.iter().enumerate() {
        let refused = |reason: String| ConfigError::new(AGENT, format!("{field}[{index}]"), reason);
        if pattern.starts_with('/') || pattern.split('/').any(|part| part == "..") {
            return Err(refused(format!(
                "`{pattern}` would leave the root; give a path under it, or set `root`"
            )));
        }
        let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
        let glob = GlobBuilder::new(pattern).literal_separator(true).build();
        set.add(glob.map_err(|error| refused(error.to_string()))?);
    }
    set.build()
        .map_err(|error| ConfigError::new(AGENT, field, error.to_string()))
}

/// An agent that lists the files under a folder whose paths match patterns.
///
/// The output is a list of paths from the root with `/` between their parts, sorted by bytes. Links aren't followed
/// and not listed, so that nothing outside the root is.
#[derive(Debug, Clone)]
pub struct GlobFiles {
    root: Template,
    include: GlobSet,
    exclude: GlobSet,
    gitignore: bool,
    hidden: bool,
    max_files: usize,
}

impl GlobFiles {
    fn list(&self, root: &str, abandoned: &Abandoned) -> Result<Value, AgentError> {
        let root = Root::open(root)?;
        let mut files: Vec<String> = Vec::new();
        for entry in self.walk(&root) {
            abandoned.check()?;
            let entry = entry.map_err(|error| {
                AgentError::permanent(format!(
                    "the files can't be listed: {error}; give the right to read it, or add it to `exclude`"
                ))
                .because(error)
            })?;
            if let Some(error) = entry.error() {
                return Err(AgentError::permanent(format!(
                    "an ignore file can't be used: {error}; correct it, or set `gitignore: false`"
                )));
            }
            let path = entry.path().strip_prefix(root.path()).unwrap_or(entry.path());
            if !entry.file_type().is_some_and(|kind| kind.is_file()) || !self.include.is_match(path) {
                continue;
            }
            if files.len() == self.max_files {
                return Err(AgentError::permanent(format!(
                    "more than {} files match; narrow the patterns, or raise `max_files`",
                    self.max_files
                )));
            }
            files.push(shown(path).ok_or_else(|| {
                AgentError::permanent(format!(
                    "the file name `{}` isn't UTF-8 text; rename it, or add it to `exclude`",
                    path.display()
                ))
            })?);
        }
        files.sort_unstable();
        Ok(Value::list(files.into_iter().map(Value::from)))
    }

    fn walk(&self, root: &Root) -> ignore::Walk {
        let exclude = self.exclude.clone();
        let base = root.path().to_owned();
        let gitignore = self.gitignore;
        WalkBuilder::new(root.path())
            .hidden(!self.hidden)
            .parents(self.gitignore)
            .ignore(self.gitignore)
            .git_ignore(self.gitignore)
            .git_exclude(self.gitignore)
            .git_global(false) // a user's own settings would make the list differ between machines
            .require_git(false)
            .follow_links(false)
            .filter_entry(move |entry| {
                let path = entry.path().strip_prefix(&base).unwrap_or(entry.path());
                let git_own = gitignore && entry.depth() > 0 && entry.file_name() == ".git";
                !git_own && !exclude.is_match(path)
            })
            .build()
    }
}

impl Agent for GlobFiles {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            let root = template::render(&self.root, "glob.root", &Scope::from(&request))?;
            let agent = self.clone();
            blocking(move |abandoned| agent.list(&root, abandoned))
                .await
                .map(Into::into)
        })
    }
}
