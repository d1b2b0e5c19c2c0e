//! The folder that file agents don't leave, whatever path they are given and wherever links lead.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use flujo_core::agent::AgentError;

/// A folder with its real path.
pub(super) struct Root {
    shown: String,
    real: PathBuf,
}

impl Root {
    pub(super) fn open(path: &str) -> Result<Self, AgentError> {
        let real = std::fs::canonicalize(path).map_err(|error| {
            AgentError::permanent(format!(
                "the root `{path}` can't be opened: {error}; create it or name another"
            ))
            .because(error)
        })?;
        if !real.is_dir() {
            return Err(AgentError::permanent(format!(
                "the root `{path}` isn't a folder; name a folder"
            )));
        }
        Ok(Self {
            shown: path.to_owned(),
            real,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.real
    }

    /// The real path of a file that exists, and its path from the root.
    pub(super) fn existing(&self, path: &str) -> Result<(PathBuf, String), AgentError> {
        self.check(path)?;
        let real = std::fs::canonicalize(self.real.join(path)).map_err(|error| unreadable(path, error))?;
        let inside = real.strip_prefix(&self.real).map_err(|_| self.outside(path))?;
        let inside = shown(inside).ok_or_else(|| {
            AgentError::permanent(format!(
                "the name of the file `{path}` isn't UTF-8 text; rename it"
            ))
        })?;
        Ok((real, inside))
    }

    /// The folder and file name for a file that may not exist, and its path from the root. Missing folders between
    /// are made.
    pub(super) fn place_for(&self, path: &str) -> Result<(PathBuf, OsString, String), AgentError> {
        self.check(path)?;
        let joined = self.real.join(path);
        let (Some(folder), Some(Component::Normal(name))) =
            (joined.parent(), joined.components().next_back())
        else {
            return Err(AgentError::permanent(format!(
                "`{path}` names no file; give a file name"
            )));
        };
        if path.ends_with(['/', std::path::MAIN_SEPARATOR]) {
            return Err(AgentError::permanent(format!(
                "`{path}` names a folder; give a file name"
            )));
        }
        // The part that exists decides where the rest would lie, so it is resolved before anything is made.
        let mut existing = folder;
        while std::fs::symlink_metadata(existing).is_err() {
            existing = existing.parent().ok_or_else(|| self.outside(path))?;
        }
        let real = std::fs::canonicalize(existing).map_err(|error| unreadable(path, error))?;
        if !real.starts_with(&self.real) {
            return Err(self.outside(path));
        }
        let rest = folder.strip_prefix(existing).unwrap_or(Path::new(""));
        let folder = real.join(rest);
        std::fs::create_dir_all(&folder).map_err(|error| {
            AgentError::permanent(format!("the folder for `{path}` can't be made: {error}")).because(error)
        })?;
        let inside = folder.join(name);
        let inside = inside
            .strip_prefix(&self.real)
            .ok()
            .and_then(shown)
            .ok_or_else(|| self.outside(path))?;
        Ok((folder, name.to_owned(), inside))
    }

    fn check(&self, path: &str) -> Result<(), AgentError> {
        if path.is_empty() {
            return Err(AgentError::permanent(
                "the path is empty; give the path of a file",
            ));
        }
        if path.contains('\0') {
            return Err(AgentError::permanent(
                "the path has a NUL character, which no file name can have",
            ));
        }
        if Path::new(path)
            .components()
            .any(|part| part == Component::ParentDir)
        {
            return Err(self.outside(path));
        }
        Ok(())
    }

    fn outside(&self, path: &str) -> AgentError {
        AgentError::permanent(format!(
            "`{path}` isn't inside the root `{}`; give a path under it without `..`, or set `root`",
            self.shown
        ))
    }
}

/// A path for output: with `/` between its parts on every system.
pub(super) fn shown(path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.components().map(|part| part.as_os_str().to_str()).collect();
    parts.map(|parts| parts.join("/"))
}

/// The error of a file that can't be read.
pub(super) fn unreadable(path: &str, error: std::io::Error) -> AgentError {
    let cure = match error.kind() {
        ErrorKind::NotFound => "; check the path, which counts from the root",
        ErrorKind::PermissionDenied => "; give this user the right to read it",
        _ => "",
    };
    AgentError::permanent(format!("the file `{path}` can't be read: {error}{cure}")).because(error)
}
