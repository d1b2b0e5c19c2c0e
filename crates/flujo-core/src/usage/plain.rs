//! The plain twin: one lock around the counters.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::account::{Account, Amounts, breach, passed};
use super::{MeterReading, MeterStatistics, Usage, UsageLimits, UsageMeter};
use crate::machine::{LimitBreach, LimitKind};

/// A meter whose threads take turns.
#[derive(Debug)]
pub struct PlainMeter {
    limits: UsageLimits,
    room: Amounts,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    account: Account,
    unpriced: bool,
    batches: u64,
}

impl Counted {
    fn reading(&self) -> MeterReading {
        MeterReading {
            used: self.account.used.usage(self.unpriced),
            reserved: self.account.reserved.usage(false),
        }
    }
}

impl PlainMeter {
    /// A meter on which nothing counts yet.
    pub fn new(limits: UsageLimits) -> Self {
        Self::going_on(limits, Usage::ZERO)
    }

    /// A meter on which `used` counts already.
    pub fn going_on(limits: UsageLimits, used: Usage) -> Self {
        let account = Account {
            used: used.into(),
            ..Account::default()
        };
        Self::taking_over(limits, account, used.unpriced, 0)
    }

    /// A meter that goes on for another one.
    pub(super) fn taking_over(limits: UsageLimits, account: Account, unpriced: bool, batches: u64) -> Self {
        Self {
            limits,
            room: Amounts::of_limits(limits),
            counted: Mutex::new(Counted {
                account,
                unpriced,
                batches,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn breach(
        &self,
        counted: &Counted,
        which: LimitKind,
        step: &Arc<str>,
        refused: bool,
    ) -> Arc<LimitBreach> {
        breach(self.limits, which, counted.reading(), step, refused)
    }
}

impl UsageMeter for PlainMeter {
    fn limits(&self) -> UsageLimits {
        self.limits
    }

    fn reserve(&self, step: &Arc<str>, estimate: Usage) -> Result<(), Arc<LimitBreach>> {
        let amounts = Amounts::from(estimate);
        let mut counted = self.lock();
        let refused = passed(self.limits, estimate, counted.account.held() + amounts, self.room);
        if let Some(which) = refused {
            return Err(self.breach(&counted, which, step, true));
        }
        counted.account.reserve(amounts);
        counted.batches += 1;
        Ok(())
    }

    fn settle(&self, step: &Arc<str>, estimate: Usage, actual: Usage) -> Result<(), Arc<LimitBreach>> {
        let mut counted = self.lock();
        counted.account.settle(estimate.into(), actual.into());
        counted.unpriced |= actual.unpriced;
        counted.batches += 1;
        let over = passed(self.limits, actual, counted.account.used, self.room);
        match over {
            Some(which) => Err(self.breach(&counted, which, step, false)),
            None => Ok(()),
        }
    }

    fn refund(&self, estimate: Usage) {
        let mut counted = self.lock();
        counted.account.refund(estimate.into());
        counted.batches += 1;
    }

    fn read(&self) -> MeterReading {
        self.lock().reading()
    }

    fn statistics(&self) -> MeterStatistics {
        let counted = self.lock();
        MeterStatistics {
            reserved: counted.account.set_aside.usage(false),
            committed: counted.reading().used,
            refunded: counted.account.refunded.usage(false),
            batches: counted.batches,
        }
    }
}
