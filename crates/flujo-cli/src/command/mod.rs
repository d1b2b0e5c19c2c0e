//! The subcommands, one file each.

pub(crate) mod bench;
pub(crate) mod config;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schema;
pub(crate) mod stats;
pub(crate) mod validate;

mod session;
mod telemetry;

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::outcome::Failure;

/// The folder the command runs in.
fn folder() -> PathBuf {
    std::env::current_dir().unwrap_or_default()
}

/// Writes a whole file or nothing: what was there before stays until the new content is complete.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let written = tempfile::Builder::new()
        .prefix(".flujo-")
        .tempfile_in(folder)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.persist(path).map_err(|error| error.error)?;
            Ok(())
        });
    written.map_err(|error| Failure::unwritable(path, &error))
}
