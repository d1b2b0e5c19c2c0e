//! The run's one budget: what is committed and what is reserved, against the limits.

use flujo_core::machine::{LimitBreach, LimitKind};
use flujo_core::usage::{Cost, Usage, UsageLimits};

/// The budget of a run and all its lanes.
#[derive(Debug, Clone, Default)]
pub struct Budget {
    /// The limits.
    pub limits: UsageLimits,
    /// What finished calls have used.
    pub committed: Usage,
    /// What calls under way have reserved.
    pub reserved: Usage,
    /// The most that was ever committed and reserved together.
    pub peak: Usage,
}

impl Budget {
    /// Takes an estimate.
    ///
    /// # Errors
    /// The breach when it does not fit.
    pub fn reserve(&mut self, step: &str, estimate: Usage) -> Result<(), LimitBreach> {
        let wanted = self.committed + self.reserved + estimate;
        if let Some(which) = self.over(wanted) {
            return Err(self.breach(step, which, true));
        }
        self.reserved += estimate;
        self.keep_peak();
        Ok(())
    }

    /// Replaces a reservation by what was used.
    ///
    /// # Errors
    /// The breach when the limit has been passed.
    pub fn settle(&mut self, step: &str, estimate: Usage, actual: Usage) -> Result<(), LimitBreach> {
        self.reserved = less(self.reserved, estimate);
        self.committed += actual;
        self.keep_peak();
        match self.over(self.committed) {
            Some(which) => Err(self.breach(step, which, false)),
            None => Ok(()),
        }
    }

    fn keep_peak(&mut self) {
        let now = self.committed + self.reserved;
        self.peak = Usage {
            cost: self.peak.cost.max(now.cost),
            tokens: self.peak.tokens.max(now.tokens),
            requests: self.peak.requests.max(now.requests),
        };
    }

    fn over(&self, usage: Usage) -> Option<LimitKind> {
        let over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
        if self.limits.cost.is_some_and(|limit| usage.cost > limit) {
            Some(LimitKind::Cost)
        } else if over(self.limits.tokens, usage.tokens) {
            Some(LimitKind::Tokens)
        } else if over(self.limits.requests, usage.requests) {
            Some(LimitKind::Requests)
        } else {
            None
        }
    }

    fn breach(&self, step: &str, which: LimitKind, refused: bool) -> LimitBreach {
        LimitBreach {
            limits: self.limits,
            which,
            used: self.committed,
            reserved: self.reserved,
            step: step.into(),
            refused,
        }
    }
}

fn less(from: Usage, amount: Usage) -> Usage {
    Usage {
        cost: Cost::from_nanos(from.cost.nanos() - amount.cost.nanos()).unwrap_or_default(),
        tokens: from.tokens.saturating_sub(amount.tokens),
        requests: from.requests.saturating_sub(amount.requests),
    }
}
