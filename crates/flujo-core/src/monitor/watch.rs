//! A runner's monitor, both twins of it, and its alerts: from what a host has measured to what it is to tell.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::{Alerts, Change, Monitor, OptimizedMonitor, PlainMonitor};
use crate::config::{OptimizationConfig, Part, Twin, Twins};
use crate::plan::{Node, Plan};
use crate::stats::{Alert, StepSlot};

/// Watches the runs of one runner. What it gives back is an alert that was kept and that the host is to tell of.
#[derive(Debug, Default)]
pub struct Watch {
    plain: PlainMonitor,
    optimized: OptimizedMonitor,
    alerts: Alerts,
    /// One bit for each part whose optimised twin has failed in the last run that used it.
    failed: AtomicU8,
}

impl Watch {
    /// The twin that a run uses.
    pub fn of(&self, twin: Twin) -> &dyn Monitor {
        match twin {
            Twin::Plain => &self.plain,
            Twin::Optimized => &self.optimized,
        }
    }

    /// From which time on a machine must tell of a step, in nanoseconds: the plain monitor hears of each step, the
    /// optimised one of those that matter to it.
    pub fn tell_from<C>(&self, plan: &Plan<C>, twins: Twins, runner: &OptimizationConfig) -> u64 {
        if !twins.is_optimized(Part::Monitor) || self.optimized.is_alarmed() {
            0
        } else {
            plan.shortest_limit(runner)
        }
    }

    /// A step of a run with these twins took so many nanoseconds. `runner`: the runner's config.
    pub fn took<C>(
        &self,
        (node, step): (&Node<C>, StepSlot),
        latency: u64,
        twins: Twins,
        runner: &OptimizationConfig,
        now: Duration,
    ) -> Option<Alert> {
        let limit = node.config(runner).execution_limit_ns();
        let twin = twins.within(node.optimization.as_deref()).of(Part::Monitor);
        let change = self.of(twin).took(step, latency, limit);
        self.raised(change, || Alert::slow(&node.name, latency, limit, now))
    }

    /// A step of a run with these twins looked for a result in its cache.
    pub fn looked_up<C>(
        &self,
        (node, step): (&Node<C>, StepSlot),
        hit: bool,
        twins: Twins,
        runner: &OptimizationConfig,
        now: Duration,
    ) -> Option<Alert> {
        let least = node.config(runner).cache_hit_rate_threshold;
        let twin = twins.within(node.optimization.as_deref()).of(Part::Monitor);
        let (change, share) = self.of(twin).looked_up(step, hit, least);
        self.raised(change, || Alert::misses(&node.name, share, least, now))
    }

    /// Resident memory has grown by so many bytes since the runner was made.
    pub fn grew(
        &self,
        bytes: u64,
        twins: Twins,
        config: &OptimizationConfig,
        now: Duration,
    ) -> Option<Alert> {
        let limit = config.memory_limit_bytes();
        let change = self.of(twins.of(Part::Monitor)).grew(bytes, limit);
        self.raised(change, || Alert::memory(bytes, limit, now))
    }

    /// A part has given way to its plain twin; told once, until it has recovered or gives way for another reason.
    pub fn degraded(&self, part: Part, reason: &str, now: Duration) -> Option<Alert> {
        self.alerts.degraded(part, reason, now)
    }

    /// The optimised twin of a part has failed in a run; it counts as recovered once a run has ended without that.
    pub fn gave_way(&self, part: Part, reason: &str, now: Duration) -> Option<Alert> {
        self.failed.fetch_or(1 << part as u8, Ordering::Relaxed);
        self.degraded(part, reason, now)
    }

    /// Takes in that a run has ended which used these twins: optimised ones that had failed in another run have worked.
    #[inline]
    pub fn ended(&self, twins: Twins) {
        let failed = self.failed.load(Ordering::Relaxed);
        if failed != 0 {
            self.recover(failed, twins);
        }
    }

    /// Whether the optimised twin of a part failed in the last run that used it.
    #[inline]
    pub fn has_failed(&self, part: Part) -> bool {
        self.failed.load(Ordering::Relaxed) & (1 << part as u8) != 0
    }

    /// The optimised twin of a part has worked.
    #[inline]
    pub fn works(&self, part: Part) {
        if self.has_failed(part) {
            self.recover(1 << part as u8, Twins::OPTIMIZED);
        }
    }

    #[cold]
    fn recover(&self, failed: u8, twins: Twins) {
        for part in Part::ALL {
            let bit = 1 << part as u8;
            if failed & bit != 0 && twins.is_optimized(part) {
                self.failed.fetch_and(!bit, Ordering::Relaxed);
                self.alerts.recovered(part);
            }
        }
    }

    /// The alerts so far.
    pub fn alerts(&self) -> &Alerts {
        &self.alerts
    }

    /// Starts anew: nothing counts as crossed.
    pub fn reset(&self) {
        self.plain.reset();
        self.optimized.reset();
        self.alerts.reset();
    }

    fn raised(&self, change: Change, alert: impl FnOnce() -> Alert) -> Option<Alert> {
        (change == Change::Crossed).then(|| {
            let alert = alert();
            self.alerts.raise(alert.clone());
            alert
        })
    }
}
