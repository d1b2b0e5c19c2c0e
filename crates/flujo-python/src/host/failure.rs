//! Python exceptions as failures and control flow.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::machine::{FailureKind, RetryAdvice, Time};
use pyo3::exceptions::{PyBaseException, PyGeneratorExit, PyKeyboardInterrupt, PySystemExit, PyTimeoutError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use super::domain::{Answer, Failure};
use super::names;

/// An exception of user code as a failure; the machine fills in where it happened.
pub(crate) fn from_error(py: Python<'_>, error: PyErr) -> Failure {
    let value = error.value(py);
    let error_type: Arc<str> = error
        .get_type(py)
        .name()
        .and_then(|name| Ok(Arc::from(&*name.to_cow()?)))
        .unwrap_or_else(|_| Arc::from("Exception"));
    let message: Arc<str> = value
        .str()
        .and_then(|text| Ok(Arc::from(&*text.to_cow()?)))
        .unwrap_or_else(|_| Arc::from("(its text could not be read)"));
    let mut failure = Failure::new(FailureKind::Agent, error_type, message);
    failure.retry = advice(py, &error);
    failure.error = Some(error.into_value(py).into_any().into());
    failure
}

/// The exception behind a failure: what was raised, or a `TimeoutError` where something ran out of time. None where an
/// output was rejected.
pub(super) fn error_of<'py>(py: Python<'py>, failure: &Failure) -> Option<Bound<'py, PyAny>> {
    match (&failure.error, failure.kind) {
        (Some(error), _) => Some(error.bind(py).clone()),
        (None, FailureKind::Timeout | FailureKind::Deadline) => {
            let error = PyTimeoutError::new_err(failure.message.to_string());
            Some(error.into_value(py).into_bound(py).into_any())
        }
        (None, _) => None,
    }
}

fn advice(py: Python<'_>, error: &PyErr) -> RetryAdvice {
    let non_retryable = names::non_retryable_error(py).is_ok_and(|class| error.is_instance(py, class));
    if non_retryable {
        return RetryAdvice::Never;
    }
    match told_to_wait(error.value(py)) {
        Some(wait) => RetryAdvice::After(wait),
        None => RetryAdvice::Allowed,
    }
}

/// How long an error asks to wait: by its own `retry_after`, in seconds or as a server's header says it, or by that header
/// of the `response` that it holds.
fn told_to_wait(error: &Bound<'_, PyBaseException>) -> Option<Time> {
    let py = error.py();
    let given = |name| {
        error
            .getattr_opt(name)
            .ok()
            .flatten()
            .filter(|value| !value.is_none())
    };
    let header = match given(intern!(py, "retry_after")) {
        Some(seconds) if !seconds.is_instance_of::<PyString>() => return wait_of(&seconds),
        Some(header) => header,
        None => given(intern!(py, "response"))?,
    };
    let wait = names::retry_after(py).and_then(|read| read.call1((header,)));
    wait_of(&wait.ok()?)
}

/// Seconds as nanoseconds, rounded to the nearest. What is no time to wait (None, negative, NaN, infinite) is no advice.
fn wait_of(seconds: &Bound<'_, PyAny>) -> Option<Time> {
    if seconds.is_instance_of::<PyBool>() {
        return None;
    }
    let wait = Duration::try_from_secs_f64(seconds.extract().ok()?).ok()?;
    Time::try_from(wait.as_nanos()).ok().filter(|wait| *wait > 0)
}

/// Exceptions that no step may catch: they end the interpreter or the coroutine.
pub(crate) fn ends_everything(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyKeyboardInterrupt>(py)
        || error.is_instance_of::<PySystemExit>(py)
        || error.is_instance_of::<PyGeneratorExit>(py)
}

/// What an exception asks for when it is control flow and no failure of a step.
pub(crate) fn control_flow(py: Python<'_>, error: &PyErr) -> PyResult<Option<Answer>> {
    if error.is_instance(py, names::abort_signal(py)?) {
        let reason = error.value(py).str()?;
        return Ok(Some(Answer::Abort(Arc::from(&*reason.to_cow()?))));
    }
    let fatal = error.is_instance(py, names::control_flow_error(py)?)
        || error.is_instance(py, names::usage_limit_error(py)?)
        || error.is_instance(py, names::pricing_error(py)?)
        || error.is_instance(py, names::missing_agent_error(py)?);
    Ok(fatal.then(|| Answer::Fatal(Box::new(from_error(py, error.clone_ref(py)).permanent()))))
}
