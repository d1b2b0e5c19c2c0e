//! What stores and durable runs say when they can't, as exceptions of the package.

use std::time::Duration;

use flujo_core::store::StoreError;
use flujo_durable::DurableError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::cache::placed;

/// The exception for an error of a store.
pub(crate) fn store_error(py: Python<'_>, error: &StoreError) -> PyErr {
    durable_error(py, &DurableError::Store(error.clone()), None)
}

/// The exception for an error of a durable run. `lease` is how long others take to see that an owner is dead, for
/// `RunBusyError.expires_at`.
pub(crate) fn durable_error(py: Python<'_>, error: &DurableError, lease: Option<Duration>) -> PyErr {
    made(py, error, lease).unwrap_or_else(|failed| failed)
}

fn made(py: Python<'_>, error: &DurableError, lease: Option<Duration>) -> PyResult<PyErr> {
    let told = PyDict::new(py);
    if let Some(suggestion) = suggestion(error) {
        told.set_item("suggestion", suggestion)?;
    }
    match error {
        DurableError::Store(StoreError::Owned { owner, .. }) => {
            told.set_item("owner", owner)?;
            if let Some(lease) = lease {
                told.set_item("expires_at", in_time(py, lease)?)?;
            }
        }
        DurableError::Store(StoreError::Corrupt { run, location, .. }) => {
            told.set_item("run_id", run.as_deref())?;
            told.set_item("where", location)?;
        }
        DurableError::Corrupt { run, location, .. } => {
            told.set_item("run_id", &**run)?;
            told.set_item("where", location)?;
        }
        DurableError::Unsavable { what, reason } => {
            let (place, _) = placed(reason);
            told.set_item("path", format!("{what}{place}"))?;
        }
        DurableError::Diverged { location, reason, .. } => {
            told.set_item("differences", [format!("{location}: {reason}")])?;
        }
        DurableError::DefinitionChanged { differences, .. } => told.set_item("differences", differences)?,
        _ => {}
    }
    let class = py.import("flujo.exceptions")?.getattr(error.name())?;
    Ok(PyErr::from_value(class.call((error.to_string(),), Some(&told))?))
}

/// What to do, where the text doesn't say it.
fn suggestion(error: &DurableError) -> Option<&'static str> {
    let DurableError::Store(error) = error else {
        return match error {
            DurableError::Corrupt { .. } => Some("take the run from a backup; the others stay readable"),
            DurableError::Diverged { .. } => Some("go on with the pipeline that the run began with"),
            DurableError::Unsavable { .. } => Some(
                "let steps give pydantic models, dataclasses, or plain values such as str, int, list, dict and datetime; \
                 or run without a state_backend",
            ),
            _ => None,
        };
    };
    match error {
        StoreError::UnknownRun { .. } => Some("look for its id in the list of runs"),
        StoreError::Fenced { .. } => Some("leave it to that worker, or wait for its result"),
        StoreError::Full { .. } => {
            Some("delete runs that have ended, which makes room again, or give it more room")
        }
        StoreError::ReadOnly { .. } => Some("let this process write there, or keep runs elsewhere"),
        StoreError::Corrupt { .. } => Some("take it from a backup; other runs stay readable"),
        StoreError::Unreachable { .. } => {
            Some("see that it runs and can be reached from here, then try again")
        }
        _ => None,
    }
}

/// Now and so long, as an aware `datetime`.
fn in_time(py: Python<'_>, time: Duration) -> PyResult<Bound<'_, PyAny>> {
    let datetime = py.import("datetime")?;
    let utc = datetime.getattr("UTC")?;
    let now = datetime.getattr("datetime")?.call_method1("now", (utc,))?;
    let later = PyDict::new(py);
    later.set_item("seconds", time.as_secs_f64())?;
    now.add(datetime.getattr("timedelta")?.call((), Some(&later))?)
}
