//! Agents that find, read and write files, each held inside a root folder.

mod glob;
mod read;
mod root;
mod write;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flujo_core::agent::{Agent, AgentError};
use flujo_core::value::Value;
use serde::Deserialize;

pub use glob::{GlobConfig, GlobFiles};
pub use read::{ReadConfig, ReadFile};
pub use write::{WriteConfig, WriteFile};

use crate::config::ConfigError;

const AGENT: &str = "files";

/// Settings of a file agent: exactly one of `glob`, `read` and `write`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FilesConfig {
    /// Finds files by pattern.
    Glob(GlobConfig),
    /// Reads one file.
    Read(ReadConfig),
    /// Writes one file.
    Write(WriteConfig),
}

impl FilesConfig {
    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that can't be used.
    pub fn build(&self) -> Result<Arc<dyn Agent>, ConfigError> {
        Ok(match self {
            Self::Glob(config) => Arc::new(config.build()?),
            Self::Read(config) => Arc::new(config.build()?),
            Self::Write(config) => Arc::new(config.build()?),
        })
    }
}

fn here() -> String {
    ".".to_owned()
}

fn input_template() -> String {
    "{{ input }}".to_owned()
}

/// Tells blocking work that nobody waits for it any more.
#[derive(Clone, Default)]
struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<(), AgentError> {
        if self.is_so() {
            Err(AgentError::new("the call was cancelled"))
        } else {
            Ok(())
        }
    }
}

/// Runs blocking file work off the runtime's threads; dropping the future tells the work to stop.
async fn blocking(
    work: impl FnOnce(&Abandoned) -> Result<Value, AgentError> + Send + 'static,
) -> Result<Value, AgentError> {
    struct OnDrop(Abandoned);
    impl Drop for OnDrop {
        fn drop(&mut self) {
            self.0.0.store(true, Ordering::Relaxed);
        }
    }
    let abandoned = Abandoned::default();
    let _on_drop = OnDrop(abandoned.clone());
    match tokio::task::spawn_blocking(move || work(&abandoned)).await {
        Ok(result) => result,
        Err(error) => Err(AgentError::new(format!("the file work was broken off: {error}")).because(error)),
    }
}
