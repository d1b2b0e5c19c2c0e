//! The run's one budget, watched: the most that was ever held of it.

use std::sync::Arc;

use flujo_core::config::Twin;
use flujo_core::machine::LimitBreach;
use flujo_core::usage::{MeterReading, Usage, UsageLimits, UsageMeter, meter};

/// The budget of a run and all its lanes.
#[derive(Debug, Clone)]
pub struct Budget {
    meter: Arc<dyn UsageMeter>,
    /// The most that was ever used and reserved together.
    pub peak: Usage,
}

impl Budget {
    /// A full budget, kept by either twin.
    pub fn new(twin: Twin, limits: UsageLimits) -> Self {
        Self {
            meter: meter(twin, limits, Usage::ZERO),
            peak: Usage::ZERO,
        }
    }

    /// A budget of which a run has used a part before it was stopped.
    pub(crate) fn having_used(twin: Twin, limits: UsageLimits, used: Usage) -> Self {
        Self {
            meter: meter(twin, limits, used),
            peak: used,
        }
    }

    /// What is set aside for calls under way.
    pub fn reserved(&self) -> Usage {
        self.meter.reserved()
    }

    /// Sets an estimate aside.
    ///
    /// # Errors
    /// The breach when it does not fit.
    pub fn reserve(&mut self, step: &Arc<str>, estimate: Usage) -> Result<(), Arc<LimitBreach>> {
        let answer = self.meter.reserve(step, estimate);
        self.keep_peak();
        answer
    }

    /// Replaces an estimate by what was used.
    ///
    /// # Errors
    /// The breach when the limit has been passed.
    pub fn settle(
        &mut self,
        step: &Arc<str>,
        estimate: Usage,
        actual: Usage,
    ) -> Result<(), Arc<LimitBreach>> {
        let answer = self.meter.settle(step, estimate, actual);
        self.keep_peak();
        answer
    }

    fn keep_peak(&mut self) {
        let MeterReading { used, reserved } = self.meter.read();
        let now = used + reserved;
        self.peak = Usage {
            cost: self.peak.cost.max(now.cost),
            tokens: self.peak.tokens.max(now.tokens),
            requests: self.peak.requests.max(now.requests),
            ..Usage::ZERO
        };
    }
}
