//! `RateLimit`, and the buckets of this process: those of the system's time, and those of loops with a time of their own.

use std::sync::OnceLock;
use std::time::Instant;

use flujo_core::machine::Time;
use flujo_core::rate::{RateLimit, Registry, Sharing};
use flujo_shared::rates::RedisRates;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict};

/// The buckets that count in the system's time.
pub(crate) static REGISTRY: Registry = Registry::new();

/// That time: since the first look at it.
pub(crate) fn now() -> Time {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let elapsed = BEGIN.get_or_init(Instant::now).elapsed();
    Time::try_from(elapsed.as_nanos()).unwrap_or(Time::MAX)
}

/// The buckets of a loop whose time is its own; the loop holds them.
#[pyclass(module = "flujo._native", frozen)]
#[derive(Default)]
pub(crate) struct LoopRates {
    pub(crate) registry: Registry,
}

impl LoopRates {
    pub(crate) fn of<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Self>> {
        let py = event_loop.py();
        let name = intern!(py, "_flujo_rates");
        if let Some(known) = event_loop.getattr_opt(name)? {
            return Ok(known.cast_into()?);
        }
        let rates = Bound::new(py, Self::default())?;
        event_loop.setattr(name, &rates)?;
        Ok(rates)
    }
}

/// How many calls may be made; whatever has the same name shares it.
#[pyclass(module = "flujo", name = "RateLimit", frozen, eq)]
#[derive(Clone, PartialEq)]
pub(crate) struct PyRateLimit {
    pub(crate) limit: RateLimit,
    /// The address of the server that counts for several processes.
    redis: Option<String>,
}

fn rate(value: Option<&Bound<'_, PyAny>>, field: &str) -> PyResult<Option<f64>> {
    let Some(value) = value.filter(|value| !value.is_none()) else {
        return Ok(None);
    };
    let number = match value.extract() {
        Ok(number) if !value.is_instance_of::<PyBool>() => number,
        _ => {
            let text = format!("{field} must be a number above 0, or None, not {}", value.repr()?);
            return Err(PyTypeError::new_err(text));
        }
    };
    Ok(Some(number))
}

fn calls(value: Option<&Bound<'_, PyAny>>) -> PyResult<Option<u32>> {
    let Some(value) = value.filter(|value| !value.is_none()) else {
        return Ok(None);
    };
    let wrong = || {
        format!(
            "max_concurrent must be a whole number from 1 to {}, or None",
            u32::MAX
        )
    };
    if value.is_instance_of::<PyBool>() || !value.is_instance_of::<pyo3::types::PyInt>() {
        let text = format!("{}, not {}", wrong(), value.repr()?);
        return Err(PyTypeError::new_err(text));
    }
    let number = value.extract();
    number
        .map(Some)
        .map_err(|_| PyValueError::new_err(format!("{}, not {value}", wrong())))
}

#[pymethods]
impl PyRateLimit {
    #[new]
    #[pyo3(signature = (name, requests_per_minute=None, tokens_per_minute=None, max_concurrent=None, *, redis=None))]
    fn new(
        name: &str,
        requests_per_minute: Option<&Bound<'_, PyAny>>,
        tokens_per_minute: Option<&Bound<'_, PyAny>>,
        max_concurrent: Option<&Bound<'_, PyAny>>,
        redis: Option<String>,
    ) -> PyResult<Self> {
        let shared = redis.as_deref().map(RedisRates::of_process).transpose();
        let shared = shared.map_err(|error| PyValueError::new_err(error.to_string()))?;
        let limit = RateLimit {
            name: name.into(),
            requests_per_minute: rate(requests_per_minute, "requests_per_minute")?,
            tokens_per_minute: rate(tokens_per_minute, "tokens_per_minute")?,
            max_concurrent: calls(max_concurrent)?,
            shared: shared.map(|shared| Sharing(shared)),
        };
        let limit = limit
            .checked()
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { limit, redis })
    }

    #[getter]
    fn name(&self) -> &str {
        &self.limit.name
    }

    #[getter]
    fn requests_per_minute(&self) -> Option<f64> {
        self.limit.requests_per_minute
    }

    #[getter]
    fn tokens_per_minute(&self) -> Option<f64> {
        self.limit.tokens_per_minute
    }

    #[getter]
    fn max_concurrent(&self) -> Option<u32> {
        self.limit.max_concurrent
    }

    /// The address of the server that counts for several processes, without name and password.
    #[getter]
    fn redis(&self) -> Option<&str> {
        self.limit.shared.as_ref().map(|shared| shared.0.name())
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.__repr__(py)?.into_bound_py_any(py)?.hash()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let mut text = format!("RateLimit({}", self.name().into_bound_py_any(py)?.repr()?);
        let limit = &self.limit;
        let fields = [
            (
                "requests_per_minute",
                limit.requests_per_minute.map(|rate| rate.to_string()),
            ),
            (
                "tokens_per_minute",
                limit.tokens_per_minute.map(|rate| rate.to_string()),
            ),
            (
                "max_concurrent",
                limit.max_concurrent.map(|calls| calls.to_string()),
            ),
        ];
        for (field, value) in fields {
            if let Some(value) = value {
                text = format!("{text}, {field}={value}");
            }
        }
        if let Some(redis) = self.redis() {
            text = format!("{text}, redis={}", redis.into_bound_py_any(py)?.repr()?);
        }
        Ok(text + ")")
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((&str,), Bound<'py, PyDict>)> {
        let fields = PyDict::new(py);
        fields.set_item("requests_per_minute", self.limit.requests_per_minute)?;
        fields.set_item("tokens_per_minute", self.limit.tokens_per_minute)?;
        fields.set_item("max_concurrent", self.limit.max_concurrent)?;
        fields.set_item("redis", self.redis.as_deref())?;
        Ok(((self.name(),), fields))
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LoopRates>()?;
    module.add_class::<PyRateLimit>()
}
