//! The tokio runtime that agents run on: one per process, started by the first call that needs it.
//!
//! Its threads are gone in a forked child, so a child starts a runtime of its own; whatever was built on the old one
//! is told by its [`generation`] that it has to be built again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::runtime::{Builder, Handle, Runtime};

/// How long the end of the interpreter waits for agents to let go of what they hold.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Taken for a moment only, by a thread that holds the interpreter's lock and doesn't release it meanwhile; a fork
/// needs that lock, too, and so never finds this one taken.
static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Counts the forks that this process comes from, as far as they lost a runtime.
pub(super) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// The runtime, started when there is none.
pub(crate) fn handle(py: Python<'_>) -> PyResult<Handle> {
    let mut runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(runtime) = &*runtime {
        return Ok(runtime.handle().clone());
    }
    let started = Builder::new_multi_thread()
        .thread_name("flujo-agents")
        .enable_all()
        .build()
        .map_err(|error| {
            PyRuntimeError::new_err(format!("the threads for agents can't be started: {error}"))
        })?;
    let handle = started.handle().clone();
    *runtime = Some(started);
    drop(runtime);
    watch_process(py)?;
    Ok(handle)
}

/// Asks to be told of forks and of the interpreter's end.
fn watch_process(py: Python<'_>) -> PyResult<()> {
    py.import("atexit")?
        .call_method1("register", (wrap_pyfunction!(shut_down, py)?,))?;
    if let Some(register) = py.import("os")?.getattr_opt("register_at_fork")? {
        let hooks = PyDict::new(py);
        hooks.set_item("after_in_child", wrap_pyfunction!(forget_after_fork, py)?)?;
        register.call((), Some(&hooks))?;
    }
    Ok(())
}

/// Its threads are gone: dropping the runtime would wait for them for ever.
#[pyfunction]
fn forget_after_fork() {
    let lost = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(lost) = lost {
        std::mem::forget(lost);
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
}

/// Ends the threads while they can still reach the interpreter.
#[pyfunction]
fn shut_down(py: Python<'_>) {
    let runtime = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(runtime) = runtime {
        py.detach(|| runtime.shutdown_timeout(SHUTDOWN));
    }
}
