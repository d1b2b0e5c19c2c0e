//! What a user allows blueprints to do: run commands, write files, import functions of Python.

use std::path::{Component, Path, PathBuf};

use flujo_agents::Permission;

use crate::model::{Blueprint, Requirement};
use crate::problem::{Problem, Problems};
use crate::rule::Rule;

/// What is allowed of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Grant {
    /// Nothing.
    #[default]
    Nothing,
    /// These programs, or files under these folders.
    These(Vec<String>),
    /// Everything of this kind.
    Everything,
}

impl Grant {
    /// Allows one more program or folder.
    pub fn add(&mut self, one: impl Into<String>) {
        match self {
            Self::Everything => {}
            Self::Nothing => *self = Self::These(vec![one.into()]),
            Self::These(known) => known.push(one.into()),
        }
    }
}

/// What a user allows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Programs that may be run.
    pub command: Grant,
    /// Folders in which files may be written.
    pub file_write: Grant,
    /// Packages, modules and functions of Python that may be imported.
    pub python_import: Grant,
}

impl Allowed {
    /// Whether a permission is given. A folder is given with everything in it; a program by its name as written.
    pub fn permits(&self, permission: &Permission) -> bool {
        match permission {
            Permission::Command { program } => match &self.command {
                Grant::Nothing => false,
                Grant::These(programs) => programs.contains(program),
                Grant::Everything => true,
            },
            Permission::FileWrite { root } => match &self.file_write {
                Grant::Nothing => false,
                // A folder that is known only when the step runs can't be told to lie inside another.
                Grant::These(_) if root.contains("{{") || root.contains("{%") => false,
                Grant::These(folders) => folders.iter().any(|folder| lies_in(root, folder)),
                Grant::Everything => true,
            },
            Permission::PythonImport { function } => match &self.python_import {
                Grant::Nothing => false,
                Grant::These(names) => names.iter().any(|name| {
                    let rest = function.strip_prefix(name.as_str());
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', ':']))
                }),
                Grant::Everything => true,
            },
        }
    }
}

fn lies_in(path: &str, folder: &str) -> bool {
    match (plain(path), plain(folder)) {
        (Some(path), Some(folder)) => path.starts_with(folder),
        _ => false,
    }
}

/// The path without `.`; `None` when it has `..`, which could lead anywhere.
fn plain(path: &str) -> Option<PathBuf> {
    let mut parts = PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::ParentDir => return None,
            Component::CurDir => {}
            other => parts.push(other),
        }
    }
    Some(parts)
}

impl Blueprint {
    /// Checks that everything its agents need is allowed.
    ///
    /// # Errors
    /// [`Problems`]: each permission that isn't given, with the setting and the option that give it.
    pub fn check_allowed(&self, allowed: &Allowed) -> Result<(), Problems> {
        let mut problems: Vec<Problem> = Vec::new();
        for requirement in self
            .requirements
            .iter()
            .filter(|need| !allowed.permits(&need.permission))
        {
            let problem = refuse(requirement);
            if !problems.contains(&problem) {
                problems.push(problem);
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Problems(problems))
        }
    }
}

fn refuse(requirement: &Requirement) -> Problem {
    let name = requirement.permission.name();
    let what = match &requirement.permission {
        Permission::Command { program } => program,
        Permission::FileWrite { root } => root,
        Permission::PythonImport { function } => function,
    };
    Problem {
        rule: Rule::NotAllowed,
        source: requirement.source.clone(),
        position: requirement.position,
        message: format!("{} isn't allowed", requirement.permission),
        hint: Some(format!(
            "run with `--allow {name}={what}`, or put `{name} = [\"{what}\"]` under `[allow]` in flujo.toml"
        )),
    }
}
