//! The optimised meter of a run, whose failure costs the run nothing: a plain one takes over all that was counted.

use std::sync::{Arc, OnceLock};

use super::optimized::OptimizedMeter;
use super::{MeterReading, MeterStatistics, Usage, UsageLimits, UsageMeter};
use crate::config::{Part, Twins};
use crate::machine::LimitBreach;

/// An optimised meter, and once that has failed the plain one it has given way to.
#[derive(Debug)]
pub(super) struct ContainedMeter {
    optimized: OptimizedMeter,
    twins: Twins,
    fault: OnceLock<String>,
}

impl ContainedMeter {
    pub(super) fn new(twins: Twins, optimized: OptimizedMeter) -> Self {
        Self {
            optimized,
            twins,
            fault: OnceLock::new(),
        }
    }

    #[inline]
    fn contain<R>(
        &self,
        optimized: impl FnOnce(&OptimizedMeter) -> R,
        plain: impl FnOnce(&dyn UsageMeter) -> R,
    ) -> R {
        if self.fault.get().is_none() {
            match self.twins.attempt(Part::Usage, || optimized(&self.optimized)) {
                Ok(done) => return done,
                // Another thread's reason may have come first.
                Err(reason) => drop(self.fault.set(reason)),
            }
        }
        plain(self.optimized.give_way())
    }
}

impl UsageMeter for ContainedMeter {
    fn limits(&self) -> UsageLimits {
        self.optimized.limits()
    }

    fn reserve(&self, step: &Arc<str>, estimate: Usage) -> Result<(), Arc<LimitBreach>> {
        self.contain(
            |meter| meter.reserve(step, estimate),
            |meter| meter.reserve(step, estimate),
        )
    }

    fn settle(&self, step: &Arc<str>, estimate: Usage, actual: Usage) -> Result<(), Arc<LimitBreach>> {
        self.contain(
            |meter| meter.settle(step, estimate, actual),
            |meter| meter.settle(step, estimate, actual),
        )
    }

    fn refund(&self, estimate: Usage) {
        self.contain(|meter| meter.refund(estimate), |meter| meter.refund(estimate));
    }

    fn read(&self) -> MeterReading {
        self.optimized.read()
    }

    fn statistics(&self) -> MeterStatistics {
        self.optimized.statistics()
    }

    fn fault(&self) -> Option<&str> {
        self.fault.get().map(String::as_str)
    }
}
