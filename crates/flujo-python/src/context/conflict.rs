//! What is said where branches wrote different values to one place.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyType};

/// One step of the path to a value.
pub(super) enum Step<'py> {
    Attribute(Bound<'py, PyString>),
    Key(Bound<'py, PyAny>),
    Index(usize),
}

/// What one branch wrote: its name, and the value unless it deleted that.
pub(super) type Written<'a, 'py> = (&'a str, Option<&'a Bound<'py, PyAny>>);

/// The `ContextMergeError` that names path, branches and values.
pub(super) fn error(py: Python<'_>, path: &[Step<'_>], written: &[Written<'_, '_>]) -> PyErr {
    let (path, wrote) = (shown_path(path), wrote(written));
    let message = format!(
        "conflicting writes to context path {path:?}: {wrote}. Let the branches write different paths, choose another \
         merge strategy, or declare on the field how its writes combine"
    );
    made(py, &message, path, written, None)
}

/// The same where something else than the strategy refuses the writes: a rule, or the validation of the context.
pub(super) fn because(
    py: Python<'_>,
    path: &[Step<'_>],
    written: &[Written<'_, '_>],
    reason: &str,
    cause: Option<PyErr>,
) -> PyErr {
    let (path, wrote) = (shown_path(path), wrote(written));
    let message = format!("writes to context path {path:?} can't be merged: {reason} ({wrote})");
    made(py, &message, path, written, cause)
}

fn wrote(written: &[Written<'_, '_>]) -> String {
    let wrote: Vec<String> = written
        .iter()
        .map(|(branch, value)| format!("branch {branch:?} wrote {}", shown(*value)))
        .collect();
    wrote.join(", ")
}

fn made(
    py: Python<'_>,
    message: &str,
    path: String,
    written: &[Written<'_, '_>],
    cause: Option<PyErr>,
) -> PyErr {
    static CLASS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let made = CLASS
        .import(py, "flujo.exceptions", "ContextMergeError")
        .and_then(|class| class.call1((message,)))
        .and_then(|error| {
            let (branches, values): (Vec<_>, Vec<_>) = written.iter().copied().unzip();
            error.setattr("path", path)?;
            error.setattr("branches", branches)?;
            error.setattr("values", values)?;
            Ok(error)
        });
    match made {
        Ok(error) => {
            let error = PyErr::from_value(error);
            error.set_cause(py, cause);
            error
        }
        Err(error) => error,
    }
}

fn shown_path(path: &[Step<'_>]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Attribute(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(&name.to_string_lossy());
            }
            Step::Key(key) => {
                text.push('[');
                text.push_str(&shown(Some(key)));
                text.push(']');
            }
            Step::Index(index) => {
                text.push('[');
                text.push_str(&index.to_string());
                text.push(']');
            }
        }
    }
    text
}

/// A short form of a value, at most 60 characters.
fn shown(value: Option<&Bound<'_, PyAny>>) -> String {
    const LONGEST: usize = 60;
    let Some(value) = value else {
        return "a deletion".to_owned();
    };
    let text = match value.repr() {
        Ok(text) => text.to_string_lossy().into_owned(),
        Err(_) => "a value without a representation".to_owned(),
    };
    if text.chars().count() <= LONGEST {
        text
    } else {
        text.chars()
            .take(LONGEST - 1)
            .chain(std::iter::once('…'))
            .collect()
    }
}
