//! `OptimizedUsageMeter`: the meter of a run, usable by itself.

use std::sync::{Arc, Mutex, PoisonError};

use flujo_core::machine::LimitBreach;
use flujo_core::usage::{MeterStatistics, OptimizedMeter, Usage, UsageLimits, UsageMeter};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::host::{count, limit_error, money};
use crate::statistics::totals;

/// A budget that any number of threads and tasks share.
#[pyclass(
    module = "flujo.application.core.executor_core",
    name = "OptimizedUsageMeter",
    frozen
)]
pub(crate) struct Meter {
    meter: Arc<OptimizedMeter>,
}

/// What was set aside for one call.
#[pyclass(
    module = "flujo.application.core.executor_core",
    name = "UsageReservation",
    frozen
)]
pub(crate) struct Reservation {
    meter: Arc<OptimizedMeter>,
    step: Arc<str>,
    estimate: Mutex<Option<Usage>>,
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Meter>()?;
    module.add_class::<Reservation>()
}

fn usage(
    cost_usd: Option<&Bound<'_, PyAny>>,
    tokens: Option<&Bound<'_, PyAny>>,
    requests: Option<&Bound<'_, PyAny>>,
) -> PyResult<Usage> {
    let whole = |value: Option<&Bound<'_, PyAny>>, name| value.map_or(Ok(0), |value| count(value, name));
    Ok(Usage {
        cost: cost_usd.map(money).transpose()?.unwrap_or_default(),
        tokens: whole(tokens, "tokens")?,
        requests: whole(requests, "requests")?,
        unpriced: false,
    })
}

fn limits_of(limits: &Bound<'_, PyAny>) -> PyResult<UsageLimits> {
    let limit = |name: &'static str| {
        let limit = limits.getattr_opt(name);
        limit.map(|limit| limit.filter(|limit| !limit.is_none()))
    };
    let whole = |value: Option<Bound<'_, PyAny>>, name| value.map(|value| count(&value, name)).transpose();
    let cost = limit("total_cost_usd_limit")?;
    Ok(UsageLimits {
        cost: cost.map(|cost| money(&cost)).transpose()?,
        tokens: whole(limit("total_tokens_limit")?, "total_tokens_limit")?,
        requests: whole(limit("total_requests_limit")?, "total_requests_limit")?,
    })
}

fn checked(py: Python<'_>, answer: Result<(), Arc<LimitBreach>>) -> PyResult<()> {
    match answer {
        Ok(()) => Ok(()),
        Err(breach) => Err(limit_error(py, &breach, None)?),
    }
}

#[pymethods]
impl Meter {
    #[new]
    #[pyo3(signature = (limits=None))]
    fn new(limits: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let limits = limits.map(limits_of).transpose()?.unwrap_or_default();
        let meter = Arc::new(OptimizedMeter::new(limits));
        Ok(Self { meter })
    }

    /// Sets an estimate aside before the work begins.
    #[pyo3(signature = (*, cost_usd=None, tokens=None, requests=None, step=""))]
    fn reserve(
        &self,
        py: Python<'_>,
        cost_usd: Option<&Bound<'_, PyAny>>,
        tokens: Option<&Bound<'_, PyAny>>,
        requests: Option<&Bound<'_, PyAny>>,
        step: &str,
    ) -> PyResult<Reservation> {
        let (step, estimate) = (Arc::from(step), usage(cost_usd, tokens, requests)?);
        checked(py, self.meter.reserve(&step, estimate))?;
        Ok(Reservation {
            meter: Arc::clone(&self.meter),
            step,
            estimate: Mutex::new(Some(estimate)),
        })
    }

    /// Counts what was used without a reservation.
    #[pyo3(signature = (*, cost_usd=None, tokens=None, requests=None, step=""))]
    fn add(
        &self,
        py: Python<'_>,
        cost_usd: Option<&Bound<'_, PyAny>>,
        tokens: Option<&Bound<'_, PyAny>>,
        requests: Option<&Bound<'_, PyAny>>,
        step: &str,
    ) -> PyResult<()> {
        let used = usage(cost_usd, tokens, requests)?;
        checked(py, self.meter.add(&Arc::from(step), used))
    }

    #[getter]
    fn used<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        totals(py, &self.meter.used().into())
    }

    #[getter]
    fn reserved<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        totals(py, &self.meter.reserved().into())
    }

    /// What it has counted since it was made.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let MeterStatistics {
            reserved,
            committed,
            refunded,
            batches,
        } = self.meter.statistics();
        let dict = PyDict::new(py);
        for (name, amount) in [
            ("reserved", reserved),
            ("committed", committed),
            ("refunded", refunded),
        ] {
            dict.set_item(name, totals(py, &amount.into())?)?;
        }
        dict.set_item("batches", batches)?;
        Ok(dict)
    }
}

impl Reservation {
    fn take(&self) -> Option<Usage> {
        self.estimate
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

#[pymethods]
impl Reservation {
    /// Replaces the estimate by what was used.
    #[pyo3(signature = (*, cost_usd=None, tokens=None, requests=None))]
    fn settle(
        &self,
        py: Python<'_>,
        cost_usd: Option<&Bound<'_, PyAny>>,
        tokens: Option<&Bound<'_, PyAny>>,
        requests: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let actual = usage(cost_usd, tokens, requests)?;
        let Some(estimate) = self.take() else {
            return Err(PyRuntimeError::new_err(
                "this reservation was settled or given back already: reserve once for each call",
            ));
        };
        checked(py, self.meter.settle(&self.step, estimate, actual))
    }

    /// Gives the estimate back: the work was not done. Nothing happens when it was settled or given back already.
    fn refund(&self) {
        if let Some(estimate) = self.take() {
            self.meter.refund(estimate);
        }
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_args))]
    fn __exit__(&self, _args: &Bound<'_, pyo3::types::PyTuple>) {
        self.refund();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.refund();
    }
}
