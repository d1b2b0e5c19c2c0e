//! The optimised twin: each thread counts for itself, against a part of the limit that it has been lent.
//!
//! A thread's shard holds what the thread has counted and its credit: how much more it may count without asking. What
//! all shards have counted and may yet count together is never more than the limit, so within its credit a thread
//! needs nobody. Beyond it, all shards are looked at at once; credit that others don't use is called in before
//! anything is refused. So every answer is the one that a single counter would give.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use super::account::{Account, Amounts, breach, passed};
use super::plain::PlainMeter;
use super::{MeterReading, MeterStatistics, Usage, UsageLimits, UsageMeter};
use crate::machine::LimitBreach;
use crate::sync::{Latch, LatchGuard, thread_number};

/// So many threads don't slow one another down.
const SHARDS: usize = 8;

/// A thread is lent one of so many parts of what is free.
const PARTS: i64 = 16;

/// A meter whose threads don't wait for one another.
#[derive(Debug)]
pub struct OptimizedMeter {
    limits: UsageLimits,
    room: Amounts,
    shards: Box<[CachePadded<Latch<Shard>>]>,
    unpriced: AtomicBool,
    batches: AtomicU64,
    /// Who counts since this meter gave way; set while all locks are held, and no shard has credit from then on.
    plain: OnceLock<PlainMeter>,
}

/// Without padding it fills two cache lines, the lock included.
#[derive(Debug)]
struct Shard {
    account: Account,
    /// [`CLOSED`] where nothing may be counted without asking, not even nothing.
    credit: Amounts,
}

/// Nothing fits, whatever is given back.
const CLOSED: Amounts = Amounts::LEAST;

impl Shard {
    /// Counts on credit, where that is enough for what is held more afterwards.
    #[inline]
    fn count(&mut self, more: Amounts, count: impl FnOnce(&mut Account)) -> bool {
        let fits = more.fits(self.credit);
        if fits {
            self.credit -= more;
            count(&mut self.account);
        }
        fits
    }
}

/// The place of the shard of the thread that asks.
#[inline]
fn own() -> usize {
    thread_number() % SHARDS
}

/// All shards at one moment.
struct All<'a>(Vec<LatchGuard<'a, Shard>>);

impl All<'_> {
    fn account(&self) -> Account {
        let mut sum = Account::default();
        self.0.iter().for_each(|shard| sum += shard.account);
        sum
    }

    /// Lends the shard at `own` a part of what is free of `room`.
    fn lend(&mut self, own: usize, room: Amounts) {
        let free = room - self.account().held();
        if !Amounts::ZERO.fits(free) {
            // More is held than is allowed: everybody has to ask.
            self.call_in();
            return;
        }
        self.0[own].credit = free.part(PARTS);
        let mut lent = Amounts::ZERO;
        self.0.iter().for_each(|shard| lent += shard.credit.positive());
        if !lent.fits(free) {
            self.call_in();
            self.0[own].credit = free.part(PARTS);
        }
    }

    fn call_in(&mut self) {
        self.0.iter_mut().for_each(|shard| shard.credit = CLOSED);
    }
}

impl OptimizedMeter {
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
        let accounts = std::iter::once(account).chain(std::iter::repeat(Account::default()));
        let shard = |account| Shard {
            account,
            credit: CLOSED,
        };
        Self {
            limits,
            room: Amounts::of_limits(limits),
            shards: accounts
                .take(SHARDS)
                .map(|account| CachePadded::new(Latch::new(shard(account))))
                .collect(),
            unpriced: AtomicBool::new(used.unpriced),
            batches: AtomicU64::new(0),
            plain: OnceLock::new(),
        }
    }

    /// Hands all that was counted and set aside over to a plain meter, which counts from now on; nothing is lost that
    /// other threads count meanwhile.
    pub fn give_way(&self) -> &PlainMeter {
        let mut all = self.all();
        self.plain.get_or_init(|| {
            all.call_in();
            let unpriced = self.unpriced.load(Ordering::Relaxed);
            let batches = self.batches.load(Ordering::Relaxed);
            PlainMeter::taking_over(self.limits, all.account(), unpriced, batches)
        })
    }

    #[inline]
    fn shard(&self, place: usize) -> LatchGuard<'_, Shard> {
        self.shards[place].lock()
    }

    /// Everybody takes the locks in this order, and nobody who waits for one holds a later one.
    fn all(&self) -> All<'_> {
        All((0..SHARDS).map(|place| self.shard(place)).collect())
    }

    fn reading(&self, account: &Account) -> MeterReading {
        MeterReading {
            used: account.used.usage(self.unpriced.load(Ordering::Relaxed)),
            reserved: account.reserved.usage(false),
        }
    }

    #[cold]
    fn ask(&self, own: usize, step: &Arc<str>, estimate: Usage) -> Result<(), Arc<LimitBreach>> {
        let amounts = Amounts::from(estimate);
        let mut all = self.all();
        if let Some(plain) = self.plain.get() {
            return plain.reserve(step, estimate);
        }
        let account = all.account();
        let refused = passed(self.limits, estimate, account.held() + amounts, self.room);
        if let Some(which) = refused {
            return Err(breach(self.limits, which, self.reading(&account), step, true));
        }
        self.batches.fetch_add(1, Ordering::Relaxed);
        all.0[own].account.reserve(amounts);
        all.lend(own, self.room);
        Ok(())
    }

    #[cold]
    fn count(
        &self,
        own: usize,
        step: &Arc<str>,
        estimate: Usage,
        actual: Usage,
    ) -> Result<(), Arc<LimitBreach>> {
        let mut all = self.all();
        if let Some(plain) = self.plain.get() {
            return plain.settle(step, estimate, actual);
        }
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.unpriced.fetch_or(actual.unpriced, Ordering::Relaxed);
        all.0[own].account.settle(estimate.into(), actual.into());
        all.lend(own, self.room);
        let account = all.account();
        let over = passed(self.limits, actual, account.used, self.room);
        match over {
            Some(which) => Err(breach(self.limits, which, self.reading(&account), step, false)),
            None => Ok(()),
        }
    }
}

impl UsageMeter for OptimizedMeter {
    fn limits(&self) -> UsageLimits {
        self.limits
    }

    #[inline]
    fn reserve(&self, step: &Arc<str>, estimate: Usage) -> Result<(), Arc<LimitBreach>> {
        let (own, amounts) = (own(), Amounts::from(estimate));
        let on_credit = |account: &mut Account| account.reserve(amounts);
        if !estimate.unpriced && self.shard(own).count(amounts, on_credit) {
            return Ok(());
        }
        self.ask(own, step, estimate)
    }

    #[inline]
    fn settle(&self, step: &Arc<str>, estimate: Usage, actual: Usage) -> Result<(), Arc<LimitBreach>> {
        let (own, expected, used) = (own(), Amounts::from(estimate), Amounts::from(actual));
        let counted = if actual.unpriced {
            false
        } else if expected == Amounts::ZERO {
            // Nothing was set aside, so nothing is given back.
            self.shard(own).count(used, |account| account.used += used)
        } else {
            let on_credit = |account: &mut Account| account.settle(expected, used);
            self.shard(own).count(used - expected, on_credit)
        };
        if counted {
            return Ok(());
        }
        self.count(own, step, estimate, actual)
    }

    fn refund(&self, estimate: Usage) {
        let (own, amounts) = (own(), Amounts::from(estimate));
        let on_credit = |account: &mut Account| account.refund(amounts);
        if self.shard(own).count(Amounts::ZERO - amounts, on_credit) {
            return;
        }
        let mut all = self.all();
        if let Some(plain) = self.plain.get() {
            return plain.refund(estimate);
        }
        self.batches.fetch_add(1, Ordering::Relaxed);
        all.0[own].account.refund(amounts);
        all.lend(own, self.room);
    }

    fn read(&self) -> MeterReading {
        let all = self.all();
        match self.plain.get() {
            Some(plain) => plain.read(),
            None => self.reading(&all.account()),
        }
    }

    fn statistics(&self) -> MeterStatistics {
        let all = self.all();
        if let Some(plain) = self.plain.get() {
            return plain.statistics();
        }
        let account = all.account();
        MeterStatistics {
            reserved: account.set_aside.usage(false),
            committed: self.reading(&account).used,
            refunded: account.refunded.usage(false),
            batches: self.batches.load(Ordering::Relaxed),
        }
    }
}
