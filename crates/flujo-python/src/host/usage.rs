//! What outputs and exceptions say they used. Amounts that can't be counted (negative, NaN, infinite) are refused.

use flujo_core::machine::{LimitBreach, LimitKind};
use flujo_core::usage::{Cost, Usage};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyInt, PyString};

use super::names;
use crate::prices::Tariff;

/// The usage that an output carries: its own `cost_usd` and `token_counts`, and what its `usage` tells beyond them. Tokens
/// whose cost isn't told cost what `tariff` says.
pub(crate) fn of_output<'py>(object: &Bound<'py, PyAny>, tariff: Tariff<'_, 'py>) -> PyResult<Usage> {
    let py = object.py();
    let mut told = Told::default();
    told.read(object)?;
    // Only what has an output beside it is a report; elsewhere `usage` is a word like any other.
    if object.hasattr(intern!(py, "output"))?
        && let Some(report) = object.getattr_opt(intern!(py, "usage"))?
    {
        told.read_report(&report)?;
    }
    let usage = told.usage(object, tariff);
    match tariff.refusal(object) {
        Some(refusal) if usage.unpriced => Err(refusal),
        _ => Ok(usage),
    }
}

/// The usage that an exception carries: that of the call which failed. What can't be counted counts as nothing, since the
/// failure is what has to be told.
pub(crate) fn of_error<'py>(error: &Bound<'py, PyAny>, tariff: Tariff<'_, 'py>) -> Usage {
    let mut told = Told::default();
    let own = told.read(error);
    let report = error.getattr_opt(intern!(error.py(), "usage"));
    let report = match report {
        Ok(Some(report)) => told.read_report(&report),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match own.and(report) {
        Ok(()) => told.usage(error, tariff),
        Err(_) => Usage::ZERO,
    }
}

/// What was used, by the names that reports of it have.
pub(super) fn to_dict(py: Python<'_>, used: Usage) -> PyResult<Bound<'_, PyDict>> {
    let told = PyDict::new(py);
    told.set_item(intern!(py, "cost_usd"), used.cost.dollars())?;
    told.set_item(intern!(py, "tokens"), used.tokens)?;
    told.set_item(intern!(py, "requests"), used.requests)?;
    told.set_item(intern!(py, "unpriced"), used.unpriced)?;
    Ok(told)
}

/// Whether an agent says that nobody has given its price.
pub(crate) fn is_unpriced(agent: &Bound<'_, PyAny>) -> PyResult<bool> {
    let pricing = agent.getattr_opt(intern!(agent.py(), "pricing"))?;
    Ok(pricing.is_some_and(|pricing| {
        pricing
            .cast::<PyString>()
            .is_ok_and(|pricing| pricing == "unknown")
    }))
}

/// What has been told so far; the first one to tell of something is believed.
#[derive(Default)]
struct Told {
    cost: Option<Cost>,
    tokens: Option<u64>,
    /// Those of the prompt and of the completion, where a report tells them apart.
    parts: Option<(u64, u64)>,
    requests: u64,
}

impl Told {
    fn read(&mut self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = object.py();
        if let Some(cost) = object.getattr_opt(intern!(py, "cost_usd"))?.filter(is_given) {
            self.cost = Some(self.cost.unwrap_or(money(&cost)?));
        }
        if let Some(tokens) = object.getattr_opt(intern!(py, "token_counts"))?.filter(is_given) {
            self.tokens = Some(self.tokens.unwrap_or(count(&tokens, "token_counts")?));
        }
        Ok(())
    }

    /// Usage as model clients report it: an object or a method that gives one, with the fields' usual names.
    fn read_report(&mut self, reporter: &Bound<'_, PyAny>) -> PyResult<()> {
        // Some clients give an object that is its own (deprecated) method, others a method.
        let is_report = reporter.hasattr("total_tokens")? || reporter.hasattr("input_tokens")?;
        let report = if !is_report && reporter.is_callable() {
            reporter.call0()?
        } else {
            reporter.clone()
        };
        self.read(&report)?;
        let read = |name: &str| -> PyResult<Option<u64>> {
            match report.getattr_opt(name)? {
                Some(value) if value.is_instance_of::<PyInt>() => Ok(Some(count(&value, name)?)),
                _ => Ok(None),
            }
        };
        let either = |one: &str, other: &str| Ok::<_, PyErr>(read(one)?.or(read(other)?));
        let sent = either("input_tokens", "request_tokens")?;
        let received = either("output_tokens", "response_tokens")?;
        if sent.is_some() || received.is_some() {
            self.parts = Some((sent.unwrap_or(0), received.unwrap_or(0)));
        }
        if self.tokens.is_none_or(|tokens| tokens == 0) {
            let (sent, received) = self.parts.unwrap_or_default();
            self.tokens = Some(read("total_tokens")?.unwrap_or(sent.saturating_add(received)));
        }
        self.requests = read("requests")?.unwrap_or(0);
        Ok(())
    }

    fn usage<'py>(self, object: &Bound<'py, PyAny>, tariff: Tariff<'_, 'py>) -> Usage {
        let tokens = self.tokens.unwrap_or(0);
        let by_tariff = || {
            let (prompt, completion) = self.parts?;
            tariff.cost(object, prompt, completion)
        };
        let cost = self.cost.or_else(by_tariff);
        Usage {
            cost: cost.unwrap_or(Cost::ZERO),
            tokens,
            requests: self.requests,
            // A call that used something and doesn't say what it cost; unknown isn't zero.
            unpriced: cost.is_none() && (tokens > 0 || self.requests > 0),
        }
    }
}

fn is_given(value: &Bound<'_, PyAny>) -> bool {
    !value.is_none()
}

/// The exception that tells of a limit that was reached, with what a run had done until then.
pub(crate) fn limit_error(
    py: Python<'_>,
    breach: &LimitBreach,
    result: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyErr> {
    let [limit, used, reserved] = amounts(breach);
    let told = (
        breach.to_string(),
        result,
        limit,
        used,
        reserved,
        &*breach.step,
        breach.refused,
    );
    Ok(PyErr::from_value(names::limit_error(py)?.call1(told)?))
}

/// The limit that was reached, what was used and what was reserved, in its unit: dollars, tokens or requests.
#[allow(clippy::cast_precision_loss)] // for display; the totals in the result are exact
fn amounts(breach: &LimitBreach) -> [f64; 3] {
    let (limits, used, reserved) = (breach.limits, breach.used, breach.reserved);
    match breach.which {
        LimitKind::Cost | LimitKind::Price => [
            limits.cost.unwrap_or_default().dollars(),
            used.cost.dollars(),
            reserved.cost.dollars(),
        ],
        LimitKind::Tokens => [
            limits.tokens.unwrap_or_default() as f64,
            used.tokens as f64,
            reserved.tokens as f64,
        ],
        LimitKind::Requests => [
            limits.requests.unwrap_or_default() as f64,
            used.requests as f64,
            reserved.requests as f64,
        ],
    }
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

/// A count of tokens or requests.
pub(crate) fn count(value: &Bound<'_, PyAny>, what: &str) -> PyResult<u64> {
    value
        .extract::<u64>()
        .map_err(|_| PyValueError::new_err(format!("{what} must be an integer, 0 or more, not {value}")))
}
