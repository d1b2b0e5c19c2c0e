//! The run's one shared budget: what is to be used is reserved first and settled afterwards, by any number of lanes at
//! the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Cost, Usage, UsageLimits};
use crate::machine::{LimitBreach, LimitKind};

/// A budget shared by all lanes of a run. What is committed plus what is reserved never passes a limit by a
/// reservation; exactly at the limit is allowed.
#[derive(Debug)]
pub struct UsagePool {
    limits: UsageLimits,
    cost: Meter,
    tokens: Meter,
    requests: Meter,
}

/// One amount: what is held (committed and reserved), and what of it is committed.
#[derive(Debug, Default)]
struct Meter {
    held: AtomicU64,
    committed: AtomicU64,
}

impl Meter {
    /// Takes `amount` unless that would pass `limit`.
    fn reserve(&self, amount: u64, limit: Option<u64>) -> bool {
        let taken = self
            .held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
                let held = held.saturating_add(amount);
                limit.is_none_or(|limit| held <= limit).then_some(held)
            });
        taken.is_ok()
    }

    fn give_back(&self, amount: u64) {
        let _ = self
            .held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
                Some(held.saturating_sub(amount))
            });
    }

    /// Replaces a reservation by what was used; whether the limit still holds.
    fn settle(&self, reserved: u64, used: u64, limit: Option<u64>) -> bool {
        let _ = self
            .held
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
                Some(held.saturating_sub(reserved).saturating_add(used))
            });
        let before = self.committed.fetch_add(used, Ordering::AcqRel);
        limit.is_none_or(|limit| before.saturating_add(used) <= limit)
    }

    fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    fn reserved(&self) -> u64 {
        self.held.load(Ordering::Acquire).saturating_sub(self.committed())
    }
}

impl UsagePool {
    /// A full budget.
    pub fn new(limits: UsageLimits) -> Self {
        Self {
            limits,
            cost: Meter::default(),
            tokens: Meter::default(),
            requests: Meter::default(),
        }
    }

    /// The limits in force.
    pub fn limits(&self) -> UsageLimits {
        self.limits
    }

    /// What calls that have ended used.
    pub fn used(&self) -> Usage {
        usage(&self.cost, &self.tokens, &self.requests, Meter::committed)
    }

    /// What is set aside for calls under way.
    pub fn reserved(&self) -> Usage {
        usage(&self.cost, &self.tokens, &self.requests, Meter::reserved)
    }

    /// Sets `estimate` aside for a call of `step`.
    ///
    /// # Errors
    /// [`LimitBreach`] when a limit would be passed, or cost is limited and the call has no price; nothing is set aside
    /// then.
    pub fn reserve(&self, step: &Arc<str>, estimate: Usage) -> Result<(), Arc<LimitBreach>> {
        if self.limits.needs_price_of(estimate) {
            return Err(self.breach(LimitKind::Price, step, true));
        }
        let mut taken: Vec<(&Meter, u64)> = Vec::new();
        for (which, meter, amount, limit) in self.meters(estimate) {
            if !meter.reserve(amount, limit) {
                for (meter, amount) in taken {
                    meter.give_back(amount);
                }
                return Err(self.breach(which, step, true));
            }
            taken.push((meter, amount));
        }
        Ok(())
    }

    /// Replaces the `estimate` that was set aside for a call of `step` by what it used.
    ///
    /// # Errors
    /// [`LimitBreach`] when what has been used by now passes a limit, or cost is limited and what was used has no price.
    /// It counts all the same.
    pub fn settle(&self, step: &Arc<str>, estimate: Usage, actual: Usage) -> Result<(), Arc<LimitBreach>> {
        let mut passed = self.limits.needs_price_of(actual).then_some(LimitKind::Price);
        let reserved = self.meters(estimate);
        for ((which, meter, used, limit), (_, _, reserved, _)) in
            self.meters(actual).into_iter().zip(reserved)
        {
            if !meter.settle(reserved, used, limit) {
                passed = passed.or(Some(which));
            }
        }
        match passed {
            Some(which) => Err(self.breach(which, step, false)),
            None => Ok(()),
        }
    }

    /// Gives back an `estimate` that was set aside for a call that was never made.
    pub fn refund(&self, estimate: Usage) {
        for (_, meter, amount, _) in self.meters(estimate) {
            meter.give_back(amount);
        }
    }

    fn meters(&self, amount: Usage) -> [(LimitKind, &Meter, u64, Option<u64>); 3] {
        let cost_limit = self.limits.cost.map(nanos);
        [
            (LimitKind::Cost, &self.cost, nanos(amount.cost), cost_limit),
            (LimitKind::Tokens, &self.tokens, amount.tokens, self.limits.tokens),
            (
                LimitKind::Requests,
                &self.requests,
                amount.requests,
                self.limits.requests,
            ),
        ]
    }

    fn breach(&self, which: LimitKind, step: &Arc<str>, refused: bool) -> Arc<LimitBreach> {
        Arc::new(LimitBreach {
            limits: self.limits,
            which,
            used: self.used(),
            reserved: self.reserved(),
            step: Arc::clone(step),
            refused,
        })
    }
}

fn nanos(cost: Cost) -> u64 {
    u64::try_from(cost.nanos()).unwrap_or(0) // a cost is never negative
}

fn usage(cost: &Meter, tokens: &Meter, requests: &Meter, amount: fn(&Meter) -> u64) -> Usage {
    let nanos = i64::try_from(amount(cost)).unwrap_or(i64::MAX);
    Usage {
        cost: Cost::from_nanos(nanos).unwrap_or(Cost::ZERO),
        tokens: amount(tokens),
        requests: amount(requests),
        unpriced: false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Cost, Usage, UsageLimits, UsagePool};
    use crate::machine::LimitKind;

    fn tokens(tokens: u64) -> Usage {
        Usage {
            tokens,
            ..Usage::ZERO
        }
    }

    fn pool(tokens: u64) -> UsagePool {
        UsagePool::new(UsageLimits {
            tokens: Some(tokens),
            ..UsageLimits::default()
        })
    }

    #[test]
    fn exactly_at_the_limit_is_allowed_and_one_more_is_refused() {
        let (pool, step) = (pool(10), Arc::from("s"));
        assert_eq!(pool.reserve(&step, tokens(10)), Ok(()));
        let breach = pool.reserve(&step, tokens(1)).unwrap_err();
        assert_eq!((breach.which, breach.refused), (LimitKind::Tokens, true));
        assert_eq!(breach.reserved, tokens(10));
        assert_eq!(pool.settle(&step, tokens(10), tokens(10)), Ok(()));
        assert_eq!((pool.used(), pool.reserved()), (tokens(10), Usage::ZERO));
    }

    #[test]
    fn what_was_not_used_is_free_again() {
        let (pool, step) = (pool(10), Arc::from("s"));
        pool.reserve(&step, tokens(8)).unwrap();
        pool.settle(&step, tokens(8), tokens(3)).unwrap();
        assert_eq!(pool.reserve(&step, tokens(7)), Ok(()));
        pool.refund(tokens(7));
        assert_eq!((pool.used(), pool.reserved()), (tokens(3), Usage::ZERO));
    }

    #[test]
    fn usage_beyond_the_limit_counts_and_is_a_breach() {
        let (pool, step) = (pool(10), Arc::from("s"));
        pool.reserve(&step, Usage::ZERO).unwrap();
        let breach = pool.settle(&step, Usage::ZERO, tokens(12)).unwrap_err();
        assert_eq!((breach.used, breach.refused), (tokens(12), false));
        assert!(pool.reserve(&step, Usage::ZERO).is_err());
    }

    #[test]
    fn a_refusal_leaves_nothing_reserved() {
        let pool = UsagePool::new(UsageLimits {
            tokens: Some(10),
            requests: Some(0),
            ..UsageLimits::default()
        });
        let one = Usage {
            requests: 1,
            ..tokens(5)
        };
        assert!(pool.reserve(&Arc::from("s"), one).is_err());
        assert_eq!(pool.reserved(), Usage::ZERO);
    }

    #[test]
    fn what_has_no_price_is_refused_under_a_limit_on_cost_and_only_there() {
        let step = Arc::from("s");
        let unpriced = Usage {
            unpriced: true,
            ..tokens(5)
        };
        let costs = UsagePool::new(UsageLimits {
            cost: Some(Cost::ZERO),
            ..UsageLimits::default()
        });
        let breach = costs.reserve(&step, unpriced).unwrap_err();
        assert_eq!((breach.which, breach.refused), (LimitKind::Price, true));
        assert_eq!(costs.reserved(), Usage::ZERO);
        let breach = costs.settle(&step, Usage::ZERO, unpriced).unwrap_err();
        assert_eq!((breach.which, breach.refused), (LimitKind::Price, false));
        assert_eq!(costs.used(), tokens(5));
        assert_eq!(pool(10).reserve(&step, unpriced), Ok(()));
    }

    #[test]
    fn threads_together_never_hold_more_than_the_limit() {
        let (pool, step): (_, Arc<str>) = (pool(1000), Arc::from("s"));
        let granted: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut granted = 0;
                        while pool.reserve(&step, tokens(3)).is_ok() {
                            pool.settle(&step, tokens(3), tokens(3)).unwrap();
                            granted += 3;
                        }
                        granted
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(granted, 999);
        assert_eq!(pool.used(), tokens(999));
    }
}
