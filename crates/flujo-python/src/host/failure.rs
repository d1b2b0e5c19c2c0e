//! Python exceptions as failures, control flow and usage.

use std::sync::Arc;

use flujo_core::machine::{FailureKind, RetryAdvice, Time};
use flujo_core::usage::{Cost, Usage};
use pyo3::exceptions::{PyGeneratorExit, PyKeyboardInterrupt, PySystemExit, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyFloat, PyInt};

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
    failure.error = Some(error.into_value(py).into_any());
    failure
}

fn advice(py: Python<'_>, error: &PyErr) -> RetryAdvice {
    let non_retryable = names::non_retryable_error(py).is_ok_and(|class| error.is_instance(py, class));
    if non_retryable {
        return RetryAdvice::Never;
    }
    let after = error
        .value(py)
        .getattr_opt(intern!(py, "retry_after"))
        .ok()
        .flatten();
    match after.and_then(|after| after.extract::<f64>().ok()) {
        Some(seconds) if seconds.is_finite() && seconds > 0.0 => {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked; saturates
            let nanoseconds = (seconds * 1e9) as Time;
            RetryAdvice::After(nanoseconds)
        }
        _ => RetryAdvice::Allowed,
    }
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

/// What an object says it used: an output, or an exception that carries the usage of a failed call.
pub(crate) fn reported_usage(object: &Bound<'_, PyAny>) -> PyResult<Usage> {
    let py = object.py();
    let mut usage = Usage::ZERO;
    if let Some(cost) = object.getattr_opt(intern!(py, "cost_usd"))? {
        usage.cost = money(&cost)?;
    }
    if let Some(tokens) = object.getattr_opt(intern!(py, "token_counts"))? {
        usage.tokens = count(&tokens, "token_counts")?;
    }
    Ok(usage)
}

/// Dollars as exact nano-dollars. None counts as nothing.
pub(crate) fn money(value: &Bound<'_, PyAny>) -> PyResult<Cost> {
    if value.is_none() {
        return Ok(Cost::ZERO);
    }
    let refused = |reason: String| PyValueError::new_err(format!("cost_usd is refused: {reason}"));
    if value.is_exact_instance_of::<PyFloat>() || value.is_exact_instance_of::<PyInt>() {
        let dollars: f64 = value.extract()?;
        return Cost::from_dollars(dollars).map_err(|error| refused(error.to_string()));
    }
    let nanos = value
        .py()
        .import("flujo.application._outcomes")?
        .call_method1("nano_dollars", (value,))?;
    let nanos: i64 = nanos.extract()?;
    Cost::from_nanos(nanos).ok_or_else(|| refused(format!("it is negative ({value})")))
}

/// A count of tokens or requests. None counts as nothing.
pub(crate) fn count(value: &Bound<'_, PyAny>, what: &str) -> PyResult<u64> {
    if value.is_none() {
        return Ok(0);
    }
    value
        .extract::<u64>()
        .map_err(|_| PyValueError::new_err(format!("{what} must be an integer, 0 or more, not {value}")))
}
