//! Stores of runs as objects of Python: opened, asked and closed, and what they say when they can't. What is in runs is
//! not looked at here.
//!
//! No store waits for the interpreter, and the interpreter waits for none: what a store answers is taken on tokio and
//! handed to whoever asked, an event loop or a thread.

mod asked;
pub(crate) mod errors;
mod handle;
mod shown;
mod steps;

use pyo3::prelude::*;
use pyo3::types::PyDict;

pub(crate) use asked::{awaited, awaited_as, blocking};
pub(crate) use handle::Store;

/// Closes the connections to files: a child must not believe that it holds its parent's locks.
#[pyfunction]
fn before_fork(py: Python<'_>) {
    py.detach(flujo_store::sqlite::before_fork);
}

#[pyfunction]
fn after_fork() {
    flujo_store::sqlite::after_fork();
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    module.add_class::<Store>()?;
    if let Some(register) = py.import("os")?.getattr_opt("register_at_fork")? {
        let hooks = PyDict::new(py);
        let after = wrap_pyfunction!(after_fork, py)?;
        hooks.set_item("before", wrap_pyfunction!(before_fork, py)?)?;
        hooks.set_item("after_in_parent", &after)?;
        hooks.set_item("after_in_child", after)?;
        register.call((), Some(&hooks))?;
    }
    Ok(())
}
