//! `PerformanceMonitor`: the thresholds of a configuration, usable by themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flujo_core::config::OptimizationConfig;
use flujo_core::monitor::{Change, Monitor, OptimizedMonitor};
use flujo_core::stats::{Alert, Statistics, StepSlot};
use flujo_tokio::Memory;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::config::PyOptimizationConfig;

/// Watches thresholds without a lock; what it says is an alert's fields, once per crossing.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct MonitorCore {
    config: OptimizationConfig,
    monitor: OptimizedMonitor,
    /// Gives each step's name its place.
    names: Statistics,
    steps: Mutex<HashMap<String, (Arc<str>, StepSlot)>>,
    memory: Memory,
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<MonitorCore>()
}

/// An alert as the fields of Python's `Alert`.
type Fields = (
    &'static str,
    &'static str,
    Option<f64>,
    Option<f64>,
    Option<String>,
    f64,
    String,
);

fn fields(change: Change, alert: impl FnOnce(Duration) -> Alert) -> Option<Fields> {
    (change == Change::Crossed).then(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let alert = alert(now);
        (
            alert.kind.name(),
            alert.part.name(),
            alert.value,
            alert.threshold,
            alert.step.map(|step| step.to_string()),
            alert.time,
            alert.message,
        )
    })
}

impl MonitorCore {
    fn step(&self, name: &str) -> (Arc<str>, StepSlot) {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = steps.get(name) {
            return known.clone();
        }
        let shared: Arc<str> = Arc::from(name);
        let slot = self.names.slots([&shared]).first().copied();
        let slot = slot.unwrap_or(StepSlot::OTHER);
        if slot != StepSlot::OTHER {
            steps.insert(name.to_owned(), (Arc::clone(&shared), slot));
        }
        (shared, slot)
    }
}

#[pymethods]
impl MonitorCore {
    #[new]
    #[pyo3(signature = (config=None))]
    fn new(config: Option<&Bound<'_, PyOptimizationConfig>>) -> Self {
        Self {
            config: config.map_or_else(OptimizationConfig::default, |config| {
                config.get().config().clone()
            }),
            monitor: OptimizedMonitor::default(),
            names: Statistics::default(),
            steps: Mutex::default(),
            memory: Memory::at_start(),
        }
    }

    /// A step took so long.
    fn record(&self, step: &str, seconds: f64) -> PyResult<Option<Fields>> {
        let latency = Duration::try_from_secs_f64(seconds).map_err(|_| {
            PyValueError::new_err(format!(
                "seconds must be a finite number, 0 or more, not {seconds}"
            ))
        })?;
        let latency = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let ((name, slot), limit) = (self.step(step), self.config.execution_limit_ns());
        let change = self.monitor.took(slot, latency, limit);
        Ok(fields(change, |now| Alert::slow(&name, latency, limit, now)))
    }

    /// A step looked for a result in its cache.
    fn record_lookup(&self, step: &str, hit: bool) -> Option<Fields> {
        let ((name, slot), least) = (self.step(step), self.config.cache_hit_rate_threshold);
        let (change, share) = self.monitor.looked_up(slot, hit, least);
        fields(change, |now| Alert::misses(&name, share, least, now))
    }

    /// Looks at the memory of the process.
    fn record_memory(&self) -> Option<Fields> {
        let (growth, limit) = (self.memory.stats().growth_bytes, self.config.memory_limit_bytes());
        fields(self.monitor.grew(growth, limit), |now| {
            Alert::memory(growth, limit, now)
        })
    }

    /// What it has seen.
    fn statistics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let seen = self.monitor.statistics();
        let dict = PyDict::new(py);
        dict.set_item("records", seen.records)?;
        dict.set_item("crossings", seen.crossings)?;
        dict.set_item("alarmed", seen.alarmed)?;
        Ok(dict)
    }

    /// Forgets everything.
    fn reset(&self) {
        self.monitor.reset();
    }
}
