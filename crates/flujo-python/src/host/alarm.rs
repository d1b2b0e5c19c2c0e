//! Alerts of the asyncio host: from what a driver measures to the log, the runner's callback and whoever listens.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flujo_core::config::Part;
use flujo_core::plan::NodeId;
use flujo_core::stats::{Alert, AlertStats, MemoryStats};
use flujo_tokio::{Memory, Sampled};
use pyo3::intern;
use pyo3::prelude::*;

use super::engine::EngineInner;
use super::shared::Shared;
use super::{events, names};

/// The time of day, since the Unix epoch.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

impl EngineInner {
    /// Writes an alert to the log and tells the callback of it; gives it as Python sees it.
    fn tell_of<'py>(&self, py: Python<'py>, alert: &Alert) -> PyResult<Bound<'py, PyAny>> {
        let fields = (
            alert.kind.name(),
            alert.part.name(),
            alert.value,
            alert.threshold,
            alert.step.as_deref(),
            alert.time,
            &*alert.message,
        );
        names::alert_raised(py)?.call1((&self.on_alert, fields))
    }

    /// An optimised part has failed and its plain twin stands in for it.
    pub(crate) fn degraded(&self, py: Python<'_>, part: Part, reason: &str) -> PyResult<()> {
        match self.watch.degraded(part, reason, now()) {
            Some(alert) => self.tell_of(py, &alert).map(drop),
            None => Ok(()),
        }
    }

    /// The optimised twin of a part has failed in a run, until one ends in which it works.
    #[cold]
    pub(super) fn gave_way(&self, py: Python<'_>, part: Part, reason: &str) -> PyResult<()> {
        match self.watch.gave_way(part, reason, now()) {
            Some(alert) => self.tell_of(py, &alert).map(drop),
            None => Ok(()),
        }
    }

    /// Watches memory in the background, if somebody has asked to hear of it.
    pub(crate) fn watch_memory(self: &Arc<Self>) {
        if self.on_alert.is_some() {
            Memory::sample(self);
        }
    }

    fn grew(&self, memory: MemoryStats) -> Option<Alert> {
        let (twins, config) = self.in_use();
        self.watch.grew(memory.growth_bytes, twins, &config, now())
    }

    /// Measures memory for the statistics, and takes in what that says of its threshold.
    pub(crate) fn measure_memory(&self, py: Python<'_>) -> PyResult<MemoryStats> {
        let memory = self.memory.stats();
        if let Some(alert) = self.grew(memory) {
            self.tell_of(py, &alert)?;
        }
        Ok(memory)
    }

    /// What became of alerts and of the callback.
    pub(crate) fn alert_counts(&self, py: Python<'_>) -> PyResult<AlertStats> {
        let mut counts = self.watch.alerts().statistics();
        if let Some(teller) = &self.on_alert {
            let teller = teller.bind(py);
            counts.callbacks_failed = teller.getattr(intern!(py, "failed"))?.extract()?;
            counts.callbacks_skipped = teller.getattr(intern!(py, "skipped"))?.extract()?;
        }
        Ok(counts)
    }
}

impl Sampled for EngineInner {
    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn sampled(&self, stats: MemoryStats) {
        if let Some(alert) = self.grew(stats) {
            // An interpreter that is ending has nobody to tell any more.
            Python::try_attach(|py| {
                if let Err(error) = self.tell_of(py, &alert) {
                    error.write_unraisable(py, None);
                }
            });
        }
    }
}

impl Shared {
    /// From which time on a machine must tell of a step.
    pub(crate) fn tell_from(&self) -> u64 {
        let engine = &self.engine;
        engine
            .watch
            .tell_from(&self.plan.plan, self.twins.now(), &engine.config)
    }

    /// Takes in that a step took so long; what there is to tell of is told.
    pub(crate) fn took(
        &self,
        py: Python<'_>,
        lane: Option<&Arc<flujo_core::machine::LanePlace>>,
        node: NodeId,
        latency: u64,
    ) -> PyResult<()> {
        let Some(slot) = self.slot(node) else {
            return Ok(());
        };
        let engine = &self.engine;
        let step = (self.plan.plan.node(node), slot);
        let nearest = step.0.optimization.as_deref();
        let alert = self.contain(py, Part::Monitor, nearest, |twins| {
            engine.watch.took(step, latency, twins, &engine.config, now())
        })?;
        let Some(alert) = alert else {
            return Ok(());
        };
        let shown = engine.tell_of(py, &alert)?;
        events::alert(py, self, lane, node, shown)
    }

    /// Takes in that a step looked for a result in its cache; what there is to tell of is told.
    pub(crate) fn looked_up(
        &self,
        py: Python<'_>,
        lane: Option<&Arc<flujo_core::machine::LanePlace>>,
        node: NodeId,
        hit: bool,
    ) -> PyResult<()> {
        let engine = &self.engine;
        engine.cached.looked_up(hit);
        let Some(slot) = self.slot(node) else {
            return Ok(());
        };
        let step = (self.plan.plan.node(node), slot);
        let nearest = step.0.optimization.as_deref();
        let alert = self.contain(py, Part::Monitor, nearest, |twins| {
            engine.watch.looked_up(step, hit, twins, &engine.config, now())
        })?;
        let Some(alert) = alert else {
            return Ok(());
        };
        let shown = engine.tell_of(py, &alert)?;
        events::alert(py, self, lane, node, shown)
    }

    /// Measures memory at the end of a run, if somebody has asked to hear of it.
    pub(crate) fn measure_memory(&self, py: Python<'_>) -> PyResult<()> {
        match self.engine.on_alert {
            Some(_) => self.engine.measure_memory(py).map(drop),
            None => Ok(()),
        }
    }
}
