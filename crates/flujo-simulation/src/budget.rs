//! The run's one budget, watched: the most that was ever held of it.

use std::sync::Arc;

use flujo_core::machine::LimitBreach;
use flujo_core::usage::{Usage, UsageLimits, UsagePool};

/// The budget of a run and all its lanes.
#[derive(Debug, Clone)]
pub struct Budget {
    pool: Arc<UsagePool>,
    /// The most that was ever used and reserved together.
    pub peak: Usage,
}

impl Budget {
    /// A full budget.
    pub fn new(limits: UsageLimits) -> Self {
        Self {
            pool: Arc::new(UsagePool::new(limits)),
            peak: Usage::ZERO,
        }
    }

    /// What is set aside for calls under way.
    pub fn reserved(&self) -> Usage {
        self.pool.reserved()
    }

    /// Sets an estimate aside.
    ///
    /// # Errors
    /// The breach when it does not fit.
    pub fn reserve(&mut self, step: &Arc<str>, estimate: Usage) -> Result<(), Arc<LimitBreach>> {
        let answer = self.pool.reserve(step, estimate);
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
        let answer = self.pool.settle(step, estimate, actual);
        self.keep_peak();
        answer
    }

    fn keep_peak(&mut self) {
        let now = self.pool.used() + self.pool.reserved();
        self.peak = Usage {
            cost: self.peak.cost.max(now.cost),
            tokens: self.peak.tokens.max(now.tokens),
            requests: self.peak.requests.max(now.requests),
            ..Usage::ZERO
        };
    }
}
