//! What both twins count with: one number for each kind of limit.

use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::sync::Arc;

use super::{Cost, MeterReading, Usage, UsageLimits};
use crate::machine::{LimitBreach, LimitKind};

const KINDS: [LimitKind; 3] = [LimitKind::Cost, LimitKind::Tokens, LimitKind::Requests];

/// Nano-dollars, tokens and requests. A difference may be negative; sums are held at the largest numbers there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amounts([i64; 3]);

impl Amounts {
    pub(super) const ZERO: Self = Self([0; 3]);
    /// Less than any amount: differences are of amounts that are none below zero.
    pub(super) const LEAST: Self = Self([i64::MIN; 3]);

    /// What is limited, and more than can be counted of what isn't.
    pub(super) fn of_limits(limits: UsageLimits) -> Self {
        let count = |limit: Option<u64>| limit.map_or(i64::MAX, whole);
        let cost = limits.cost.map_or(i64::MAX, Cost::nanos);
        Self([cost, count(limits.tokens), count(limits.requests)])
    }

    fn each(self, other: Self, combine: fn(i64, i64) -> i64) -> Self {
        let Self([cost, tokens, requests]) = self;
        let Self([other_cost, other_tokens, other_requests]) = other;
        Self([
            combine(cost, other_cost),
            combine(tokens, other_tokens),
            combine(requests, other_requests),
        ])
    }

    /// What of it is above zero.
    pub(super) fn positive(self) -> Self {
        self.each(Self::ZERO, i64::max)
    }

    /// One of so many equal parts, rounded down.
    pub(super) fn part(self, parts: i64) -> Self {
        self.each(Self([parts; 3]), |amount, parts| amount / parts)
    }

    #[inline]
    pub(super) fn fits(self, room: Self) -> bool {
        self.0.iter().zip(room.0).all(|(amount, room)| *amount <= room)
    }

    /// The first kind that is more than there is room for.
    fn over(self, room: Self) -> Option<LimitKind> {
        let over = self
            .0
            .iter()
            .zip(room.0)
            .position(|(amount, room)| *amount > room);
        over.map(|kind| KINDS[kind])
    }

    pub(super) fn usage(self, unpriced: bool) -> Usage {
        let Self([cost, tokens, requests]) = self.positive();
        Usage {
            cost: Cost::from_nanos(cost).unwrap_or(Cost::ZERO),
            tokens: tokens.unsigned_abs(),
            requests: requests.unsigned_abs(),
            unpriced,
        }
    }
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

impl From<Usage> for Amounts {
    #[inline]
    fn from(usage: Usage) -> Self {
        Self([usage.cost.nanos(), whole(usage.tokens), whole(usage.requests)])
    }
}

impl Add for Amounts {
    type Output = Self;

    #[inline]
    fn add(self, other: Self) -> Self {
        self.each(other, i64::saturating_add)
    }
}

impl AddAssign for Amounts {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Amounts {
    type Output = Self;

    #[inline]
    fn sub(self, other: Self) -> Self {
        self.each(other, i64::saturating_sub)
    }
}

impl SubAssign for Amounts {
    #[inline]
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

/// What has been counted, by all threads or by one of them; one may settle what another has reserved.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Account {
    pub(super) used: Amounts,
    pub(super) reserved: Amounts,
    /// All that was ever reserved.
    pub(super) set_aside: Amounts,
    /// All that was ever given back.
    pub(super) refunded: Amounts,
}

impl Account {
    #[inline]
    pub(super) fn reserve(&mut self, estimate: Amounts) {
        self.reserved += estimate;
        self.set_aside += estimate;
    }

    #[inline]
    pub(super) fn settle(&mut self, estimate: Amounts, actual: Amounts) {
        self.reserved -= estimate;
        self.used += actual;
        self.refunded += (estimate - actual).positive();
    }

    #[inline]
    pub(super) fn refund(&mut self, estimate: Amounts) {
        self.reserved -= estimate;
        self.refunded += estimate;
    }

    /// What is used and reserved.
    pub(super) fn held(&self) -> Amounts {
        self.used + self.reserved
    }
}

impl AddAssign for Account {
    fn add_assign(&mut self, other: Self) {
        self.used += other.used;
        self.reserved += other.reserved;
        self.set_aside += other.set_aside;
        self.refunded += other.refunded;
    }
}

/// The limit that `amounts` passes; that on cost is passed by whatever has no price.
pub(super) fn passed(limits: UsageLimits, of: Usage, amounts: Amounts, room: Amounts) -> Option<LimitKind> {
    if limits.needs_price_of(of) {
        Some(LimitKind::Price)
    } else {
        amounts.over(room)
    }
}

/// A limit that is passed, or would be.
pub(super) fn breach(
    limits: UsageLimits,
    which: LimitKind,
    reading: MeterReading,
    step: &Arc<str>,
    refused: bool,
) -> Arc<LimitBreach> {
    Arc::new(LimitBreach {
        limits,
        which,
        used: reading.used,
        reserved: reading.reserved,
        step: Arc::clone(step),
        refused,
    })
}
