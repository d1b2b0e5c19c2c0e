//! What a runner watches its runs by: the time of steps, look-ups, memory, and parts that give way.

use std::sync::Arc;

use flujo_core::config::{OptimizationConfig, Part, Twins};
use flujo_core::plan::NodeId;
use flujo_core::stats::{Alert, MemoryStats};

use flujo_core::rate::ALONE;

use super::Running;
use crate::alarm::now;
use crate::memory::{Memory, Sampled};

impl Running {
    /// From which time on a machine of a run with these twins must tell of a step.
    pub(crate) fn tell_from(&self, twins: Twins) -> u64 {
        self.watch.tell_from(&self.analysed.plan, twins, &self.config)
    }

    /// Takes in that a step took so long; gives what is [to be told](Self::told).
    pub(crate) fn took(&self, node: NodeId, latency: u64, twins: Twins) -> Option<Alert> {
        let step = (self.analysed.plan.node(node), self.analysed.slot(node)?);
        self.watch.took(step, latency, twins, &self.config, now())
    }

    /// Takes in that the optimised twin of a part has failed in a run.
    pub(crate) fn gave_way(&self, part: Part, reason: &str) -> Option<Alert> {
        self.told(self.watch.gave_way(part, reason, now()))
    }

    /// Takes in that a run has ended which used these twins.
    #[inline]
    pub(crate) fn worked(&self, twins: Twins) {
        self.watch.ended(twins);
    }

    /// Takes in that a part has given way to its plain twin.
    pub(crate) fn degraded(&self, part: Part, reason: &str) -> Option<Alert> {
        self.told(self.watch.degraded(part, reason, now()))
    }

    /// The config that holds where no step has its own.
    pub(crate) fn config(&self) -> &OptimizationConfig {
        &self.config
    }

    /// Takes in that a cached step looked for a result; gives what is [to be told](Self::told).
    pub(crate) fn looked_up(&self, node: NodeId, hit: bool, twins: Twins) -> Option<Alert> {
        let step = (self.analysed.plan.node(node), self.analysed.slot(node)?);
        self.watch.looked_up(step, hit, twins, &self.config, now())
    }

    /// Takes in that rate limits are shared with other processes again.
    pub(crate) fn rates_are_shared(&self) {
        let alerts = self.watch.alerts();
        alerts.recovered_from(Part::Usage, |reason| reason.starts_with(ALONE));
    }

    /// Takes in that a part of the cache which had failed works again.
    pub(crate) fn cache_recovered(&self) {
        self.watch.alerts().recovered(Part::Cache);
    }

    /// Watches memory in the background, if somebody has asked to hear of it.
    pub(crate) fn watch_memory(self: &Arc<Self>) {
        if self.alarm.is_wanted() {
            Memory::sample(self);
        }
    }

    /// Measures memory, if somebody has asked to hear of it.
    pub(crate) fn measure_memory(&self) -> Option<Alert> {
        if !self.alarm.is_wanted() {
            return None;
        }
        self.grew(self.memory.stats())
    }

    fn grew(&self, memory: MemoryStats) -> Option<Alert> {
        let alert = self
            .watch
            .grew(memory.growth_bytes, self.twins(), &self.config, now());
        self.told(alert)
    }

    /// Tells of an alert.
    pub(crate) fn told(&self, alert: Option<Alert>) -> Option<Alert> {
        if let Some(alert) = &alert {
            self.alarm.tell(alert);
        }
        alert
    }
}

impl Sampled for Running {
    fn memory(&self) -> &Memory {
        &self.memory
    }

    fn sampled(&self, stats: MemoryStats) {
        let _ = self.grew(stats);
    }
}
