//! `OptimizationConfig` as Python sees it: conversion and messages; defaults and rules are the core's.

use flujo_core::config::OptimizationConfig;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyDict, PyMapping, PyTuple};

/// Which optimised parts are in use, with the sizes and thresholds they work with.
///
/// Keyword only, immutable, comparable and hashable; every field has a default. `replace()` makes a changed copy.
/// A switch that is off chooses the plain implementation of its part; results never depend on it.
#[pyclass(
    name = "OptimizationConfig",
    module = "flujo.application.core.executor_core",
    frozen,
    eq
)]
#[derive(PartialEq)]
pub(crate) struct PyOptimizationConfig {
    config: OptimizationConfig,
}

impl PyOptimizationConfig {
    /// The validated configuration.
    pub(crate) fn config(&self) -> &OptimizationConfig {
        &self.config
    }
}

#[pymethods]
impl PyOptimizationConfig {
    #[new]
    #[pyo3(
        signature = (**fields),
        text_signature = "(*, enable_object_pooling=True, enable_context_optimization=True, \
            enable_step_analysis=True, enable_telemetry_optimization=True, enable_performance_monitoring=True, \
            enable_cache_optimization=True, enable_usage_optimization=True, execution_time_threshold=1.0, \
            memory_usage_threshold=100.0, cache_hit_rate_threshold=0.8, max_pool_size=100, cache_max_size=1024, \
            cache_ttl_seconds=3600.0)"
    )]
    fn new(fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        changed(
            OptimizationConfig::default(),
            fields.map(PyDictMethods::as_mapping),
        )
    }

    /// The configuration with every part on its plain implementation.
    #[staticmethod]
    fn plain() -> Self {
        Self {
            config: OptimizationConfig::plain(),
        }
    }

    /// The configuration that a mapping of field names to values describes; fields it doesn't name have their
    /// defaults.
    #[staticmethod]
    #[pyo3(signature = (fields, /))]
    fn from_dict(fields: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Ok(mapping) = fields.cast::<PyMapping>() else {
            let taken = "OptimizationConfig.from_dict() takes a mapping of field names to values";
            return Err(PyTypeError::new_err(format!("{taken}, not {}", shown(fields))));
        };
        changed(OptimizationConfig::default(), Some(mapping))
    }

    /// Every field's value by its name, in plain types.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, place) in places(&mut self.config.clone()) {
            dict.set_item(name, place.get(py)?)?;
        }
        Ok(dict)
    }

    /// A copy in which the named fields have other values.
    #[pyo3(signature = (**fields))]
    fn replace(&self, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        changed(self.config.clone(), fields.map(PyDictMethods::as_mapping))
    }

    #[pyo3(signature = (**fields))]
    fn __replace__(&self, fields: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        self.replace(fields)
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        PyTuple::new(py, self.to_dict(py)?.values())?.hash()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let fields = self
            .to_dict(py)?
            .iter()
            .map(|(name, value)| Ok(format!("{name}={}", value.repr()?)));
        Ok(format!(
            "OptimizationConfig({})",
            fields.collect::<PyResult<Vec<_>>>()?.join(", ")
        ))
    }

    fn __copy__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __deepcopy__(slf: Py<Self>, _memo: &Bound<'_, PyAny>) -> Py<Self> {
        slf
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        Ok((PyTuple::empty(py), self.to_dict(py)?))
    }

    /// Whether the engine reuses its own allocations.
    #[getter]
    fn enable_object_pooling(&self) -> bool {
        self.config.enable_object_pooling
    }

    /// Whether contexts are isolated without copying.
    #[getter]
    fn enable_context_optimization(&self) -> bool {
        self.config.enable_context_optimization
    }

    /// Whether the analysis of steps is kept between runs.
    #[getter]
    fn enable_step_analysis(&self) -> bool {
        self.config.enable_step_analysis
    }

    /// Whether spans and counters are collected in batches.
    #[getter]
    fn enable_telemetry_optimization(&self) -> bool {
        self.config.enable_telemetry_optimization
    }

    /// Whether thresholds are watched in constant time and memory.
    #[getter]
    fn enable_performance_monitoring(&self) -> bool {
        self.config.enable_performance_monitoring
    }

    /// Whether the cache resists scans and loops.
    #[getter]
    fn enable_cache_optimization(&self) -> bool {
        self.config.enable_cache_optimization
    }

    /// Whether usage is metered without a lock.
    #[getter]
    fn enable_usage_optimization(&self) -> bool {
        self.config.enable_usage_optimization
    }

    /// A step that takes longer raises an alert; in seconds.
    #[getter]
    fn execution_time_threshold(&self) -> f64 {
        self.config.execution_time_threshold
    }

    /// Growth of resident memory beyond this raises an alert; in megabytes.
    #[getter]
    fn memory_usage_threshold(&self) -> f64 {
        self.config.memory_usage_threshold
    }

    /// A cache hit rate below this raises an alert; from 0 to 1.
    #[getter]
    fn cache_hit_rate_threshold(&self) -> f64 {
        self.config.cache_hit_rate_threshold
    }

    /// How many objects of a kind the pool keeps; 0 keeps none.
    #[getter]
    fn max_pool_size(&self) -> usize {
        self.config.max_pool_size
    }

    /// How many results the cache keeps; 0 keeps none.
    #[getter]
    fn cache_max_size(&self) -> usize {
        self.config.cache_max_size
    }

    /// How long a cached result is valid, in seconds; 0 or None never expires.
    #[getter]
    fn cache_ttl_seconds(&self) -> Option<f64> {
        self.config.cache_ttl_seconds
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyOptimizationConfig>()
}

/// A field's place in a configuration, by the kind of value it takes.
enum Place<'c> {
    Switch(&'c mut bool),
    Number(&'c mut f64),
    Size(&'c mut usize),
    Lifetime(&'c mut Option<f64>),
}

impl Place<'_> {
    fn set(self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        match self {
            Self::Switch(place) => *place = value.extract()?,
            Self::Number(place) => *place = number(value)?,
            Self::Size(place) => *place = number(value)?,
            Self::Lifetime(place) => {
                *place = if value.is_none() {
                    None
                } else {
                    Some(number(value)?)
                }
            }
        }
        Ok(())
    }

    fn get(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        match self {
            Self::Switch(place) => place.into_bound_py_any(py),
            Self::Number(place) => place.into_bound_py_any(py),
            Self::Size(place) => place.into_bound_py_any(py),
            Self::Lifetime(place) => place.into_bound_py_any(py),
        }
    }
}

fn places(config: &mut OptimizationConfig) -> [(&'static str, Place<'_>); 13] {
    use Place::{Lifetime, Number, Size, Switch};
    [
        ("enable_object_pooling", Switch(&mut config.enable_object_pooling)),
        (
            "enable_context_optimization",
            Switch(&mut config.enable_context_optimization),
        ),
        ("enable_step_analysis", Switch(&mut config.enable_step_analysis)),
        (
            "enable_telemetry_optimization",
            Switch(&mut config.enable_telemetry_optimization),
        ),
        (
            "enable_performance_monitoring",
            Switch(&mut config.enable_performance_monitoring),
        ),
        (
            "enable_cache_optimization",
            Switch(&mut config.enable_cache_optimization),
        ),
        (
            "enable_usage_optimization",
            Switch(&mut config.enable_usage_optimization),
        ),
        (
            "execution_time_threshold",
            Number(&mut config.execution_time_threshold),
        ),
        (
            "memory_usage_threshold",
            Number(&mut config.memory_usage_threshold),
        ),
        (
            "cache_hit_rate_threshold",
            Number(&mut config.cache_hit_rate_threshold),
        ),
        ("max_pool_size", Size(&mut config.max_pool_size)),
        ("cache_max_size", Size(&mut config.cache_max_size)),
        ("cache_ttl_seconds", Lifetime(&mut config.cache_ttl_seconds)),
    ]
}

/// A number; a boolean isn't one, though Python would take it for 0 or 1.
fn number<'py, T>(value: &Bound<'py, PyAny>) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    if value.extract::<bool>().is_ok() {
        return Err(PyTypeError::new_err("a boolean isn't a number"));
    }
    value.extract()
}

/// `config` with the named fields set, validated.
fn changed(
    mut config: OptimizationConfig,
    fields: Option<&Bound<'_, PyMapping>>,
) -> PyResult<PyOptimizationConfig> {
    let Some(fields) = fields else {
        return Ok(PyOptimizationConfig { config });
    };
    for item in fields.items()? {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
        let known = name.extract::<PyBackedStr>().ok();
        let known = places(&mut config)
            .into_iter()
            .find(|(field, _)| known.as_deref() == Some(field));
        let Some((field, place)) = known else {
            return Err(unknown_field(&name));
        };
        place.set(&value).map_err(|error| refused(error, field, &value))?;
        config
            .validate()
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
    }
    Ok(PyOptimizationConfig { config })
}

fn unknown_field(name: &Bound<'_, PyAny>) -> PyErr {
    let names = OptimizationConfig::FIELDS.map(|(name, _)| name).join(", ");
    PyTypeError::new_err(format!(
        "OptimizationConfig has no field {}; its fields are {names}",
        shown(name)
    ))
}

/// One sentence on a value of a wrong type or a whole number out of range. What a value's own conversion raised
/// otherwise, such as an interrupt, stays what it is.
fn refused(error: PyErr, field: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let py = value.py();
    let allowed = OptimizationConfig::FIELDS
        .iter()
        .find(|(name, _)| *name == field)
        .map_or("", |(_, rule)| rule);
    let kind = value
        .get_type()
        .name()
        .map_or_else(|_| "?".to_owned(), |name| name.to_string());
    let message = format!(
        "OptimizationConfig.{field} must be {allowed}, but is {} ({kind})",
        shown(value)
    );
    if error.is_instance_of::<PyOverflowError>(py) || error.is_instance_of::<PyValueError>(py) {
        PyValueError::new_err(message)
    } else if error.is_instance_of::<PyTypeError>(py) {
        PyTypeError::new_err(message)
    } else {
        error
    }
}

/// A value for an error message, cut where it gets long.
fn shown(value: &Bound<'_, PyAny>) -> String {
    const LONGEST: usize = 80;
    let text = value.repr().map_or_else(
        |_| "a value that can't be shown".to_owned(),
        |text| text.to_string(),
    );
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
