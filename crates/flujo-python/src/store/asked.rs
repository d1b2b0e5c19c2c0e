//! How answers of a store reach whoever asked.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use flujo_core::store::StoreFuture;
use flujo_durable::DurableError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::errors::{durable_error, store_error};
use crate::agents::{Reply, runtime};

/// How often a thread that waits looks whether it was interrupted.
const SIGNALS: Duration = Duration::from_millis(100);

/// An asyncio future of a loop for what a store answers: what `convert` makes of it, or the exception of its error. What
/// was asked for is done whether or not anybody awaits it.
///
/// Errors: the loop is closed, or the threads that wait for stores can't be started.
pub(crate) fn awaited<T: Send + 'static, E: Into<DurableError> + Send + 'static>(
    event_loop: &Bound<'_, PyAny>,
    asked: impl Future<Output = Result<T, E>> + Send + 'static,
    convert: impl for<'py> FnOnce(Python<'py>, T) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
) -> PyResult<Py<PyAny>> {
    awaited_as(event_loop, asked, |py, answer| match answer {
        Ok(answer) => convert(py, answer),
        Err(error) => Err(durable_error(py, &error.into(), None)),
    })
}

/// The same for anything that is done on the threads that wait for stores.
///
/// Errors: the loop is closed, or these threads can't be started.
pub(crate) fn awaited_as<T: Send + 'static>(
    event_loop: &Bound<'_, PyAny>,
    asked: impl Future<Output = T> + Send + 'static,
    convert: impl for<'py> FnOnce(Python<'py>, T) -> PyResult<Bound<'py, PyAny>> + Send + 'static,
) -> PyResult<Py<PyAny>> {
    let runtime = runtime(event_loop.py())?;
    let (future, reply) = Reply::new(event_loop)?;
    runtime.spawn(async move {
        let answer = asked.await;
        reply.send(|py| convert(py, answer));
    });
    Ok(future)
}

/// What a store answers, waited for by this thread without the interpreter's lock.
///
/// Errors: those of the store; what a signal's handler raises meanwhile, such as a `KeyboardInterrupt`, and what was
/// asked for is done nevertheless.
pub(crate) fn blocking<T: Send + 'static>(py: Python<'_>, asked: StoreFuture<T>) -> PyResult<T> {
    let (sender, mut receiver) = mpsc::channel();
    runtime(py)?.spawn(async move {
        // Nobody listens any more after an interruption.
        let _ = sender.send(asked.await);
    });
    loop {
        let answer;
        (receiver, answer) = py.detach(move || {
            let answer = receiver.recv_timeout(SIGNALS);
            (receiver, answer)
        });
        match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => return Err(store_error(py, &error)),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                return Err(PyRuntimeError::new_err(
                    "the store was given up before it had answered: the interpreter is ending",
                ));
            }
        }
    }
}
