//! What a store knows of runs and workers, as plain values of Python.

use flujo_core::store::{Page, RunInfo, Worker};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

/// A run without its contents; times in milliseconds since 1970.
pub(super) fn run<'py>(py: Python<'py>, run: &RunInfo) -> PyResult<Bound<'py, PyDict>> {
    let shown = PyDict::new(py);
    let summary = &run.summary;
    shown.set_item("run_id", &*run.id)?;
    shown.set_item("pipeline_name", &*run.pipeline)?;
    shown.set_item("status", summary.status.as_str())?;
    shown.set_item("created_at", run.created)?;
    shown.set_item("updated_at", summary.updated)?;
    shown.set_item("due_at", summary.due)?;
    shown.set_item("steps", summary.steps)?;
    shown.set_item("cost_usd", summary.usage.cost.dollars())?;
    shown.set_item("tokens", summary.usage.tokens)?;
    shown.set_item("requests", summary.usage.requests)?;
    shown.set_item("message", summary.message.as_deref())?;
    shown.set_item("owner", run.owner.as_ref().map(|owner| &*owner.process))?;
    shown.set_item("forked_from", run.forked_from.as_deref())?;
    shown.set_item("stored_bytes", run.bytes)?;
    shown.set_item("last_record", run.last_record)?;
    Ok(shown)
}

/// The runs of a page, and where the next one begins.
pub(super) fn page(py: Python<'_>, page: Page) -> PyResult<Bound<'_, PyAny>> {
    let runs = page
        .runs
        .iter()
        .map(|info| run(py, info))
        .collect::<PyResult<Vec<_>>>()?;
    let next = page.next.map(|(created, id)| (created, id.to_string()));
    (runs, next).into_pyobject(py).map(Bound::into_any)
}

pub(super) fn workers(py: Python<'_>, workers: Vec<Worker>) -> PyResult<Bound<'_, PyAny>> {
    let shown = workers.iter().map(|worker| {
        let shown = PyDict::new(py);
        shown.set_item("id", worker.id.0)?;
        shown.set_item("host", &*worker.process.host)?;
        shown.set_item("pid", worker.process.pid)?;
        Ok(shown)
    });
    Ok(PyList::new(py, shown.collect::<PyResult<Vec<_>>>()?)?.into_any())
}
