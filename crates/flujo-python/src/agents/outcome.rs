//! How a call ended, as Python sees it: an output, with its usage where there is any, or an exception.

use flujo_agents::Pricing;
use flujo_core::agent::{AgentError, AgentOutput, Retry};
use flujo_core::usage::Usage;
use pyo3::prelude::*;

use super::{classes, plain};

/// The output, in a wrapper where it cost something.
///
/// # Errors
/// The agent's own failure.
pub(super) fn of(
    py: Python<'_>,
    result: Result<AgentOutput, AgentError>,
    pricing: Pricing,
) -> PyResult<Bound<'_, PyAny>> {
    match result {
        Ok(output) => {
            let value = plain::to_object(py, &output.value)?;
            if output.usage.is_zero() && output.model.is_none() {
                return Ok(value);
            }
            let usage = usage(py, output.usage, pricing)?;
            classes::agent_result(py)?.call1((value, usage, output.model.as_deref()))
        }
        Err(error) => Err(failure(py, &error, pricing)?),
    }
}

fn failure(py: Python<'_>, error: &AgentError, pricing: Pricing) -> PyResult<PyErr> {
    let class = match error.retry {
        Retry::Never => classes::agent_failed_permanently(py)?,
        Retry::Allowed | Retry::After(_) => classes::agent_failed(py)?,
    };
    let retry_after = match error.retry {
        Retry::After(wait) => Some(wait.as_secs_f64()),
        Retry::Allowed | Retry::Never => None,
    };
    let usage = usage(py, error.usage, pricing)?;
    Ok(PyErr::from_value(class.call1((
        &error.message,
        usage,
        retry_after,
    ))?))
}

fn usage(py: Python<'_>, usage: Usage, pricing: Pricing) -> PyResult<Bound<'_, PyAny>> {
    let cost = (pricing != Pricing::Unknown || usage.cost.nanos() > 0).then(|| usage.cost.dollars());
    classes::agent_usage(py)?.call1((cost, usage.tokens, usage.requests))
}
