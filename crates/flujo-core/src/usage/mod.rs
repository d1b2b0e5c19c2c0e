//! Cost and tokens: exact amounts, limits, and the meter that all lanes of a run share.
//!
//! Money is an integer number of nano-dollars; sums are exact and the sum at each level equals the sum of its leaves.
//!
//! What a call is expected to use is reserved before it begins and settled when it has ended; what nobody expected is
//! added. Two twins keep the same contract: [`PlainMeter`] has one lock around its counters, [`OptimizedMeter`] gives
//! each thread counters of its own and a part of the limit to count against. Reads are exact on both: they see all that
//! has been counted, wherever it is.
//!
//! ```
//! use std::sync::Arc;
//! use flujo_core::usage::{OptimizedMeter, Usage, UsageLimits, UsageMeter};
//!
//! let limits = UsageLimits { tokens: Some(1000), ..UsageLimits::default() };
//! let meter = OptimizedMeter::new(limits);
//! let (step, tokens) = (Arc::from("summarise"), |tokens| Usage { tokens, ..Usage::ZERO });
//!
//! meter.reserve(&step, tokens(600))?; // before the call
//! assert!(meter.reserve(&step, tokens(600)).is_err()); // 1,200 would pass the limit
//! meter.settle(&step, tokens(600), tokens(250))?; // after it
//! assert_eq!((meter.used().tokens, meter.reserved().tokens), (250, 0));
//! # Ok::<(), Arc<flujo_core::machine::LimitBreach>>(())
//! ```

mod account;
mod amount;
mod contained;
mod optimized;
mod plain;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::ops::AddAssign;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use amount::{Cost, CostError, Usage, UsageLimits};
pub use optimized::OptimizedMeter;
pub use plain::PlainMeter;

use crate::config::{Part, Twin, Twins};
use crate::machine::LimitBreach;

/// A budget shared by any number of lanes and threads. What is used and what is reserved together never pass a limit by
/// a reservation; exactly at the limit is allowed.
pub trait UsageMeter: Debug + Send + Sync {
    /// The limits in force.
    fn limits(&self) -> UsageLimits;

    /// Sets `estimate` aside for a call of `step`.
    ///
    /// # Errors
    /// [`LimitBreach`] when a limit would be passed, or cost is limited and the call has no price; nothing is set aside
    /// then.
    fn reserve(&self, step: &Arc<str>, estimate: Usage) -> Result<(), Arc<LimitBreach>>;

    /// Replaces the `estimate` that was set aside for a call of `step` by what it used.
    ///
    /// # Errors
    /// [`LimitBreach`] when what has been used by now passes a limit, or cost is limited and what was used has no price.
    /// It counts all the same.
    fn settle(&self, step: &Arc<str>, estimate: Usage, actual: Usage) -> Result<(), Arc<LimitBreach>>;

    /// Gives back an `estimate` that was set aside for a call that was never made.
    fn refund(&self, estimate: Usage);

    /// Counts what `step` used without a reservation.
    ///
    /// # Errors
    /// As [`settle`](Self::settle).
    fn add(&self, step: &Arc<str>, used: Usage) -> Result<(), Arc<LimitBreach>> {
        self.settle(step, Usage::ZERO, used)
    }

    /// What is used and what is reserved at one moment.
    fn read(&self) -> MeterReading;

    /// What calls that have ended used.
    fn used(&self) -> Usage {
        self.read().used
    }

    /// What is set aside for calls under way.
    fn reserved(&self) -> Usage {
        self.read().reserved
    }

    /// What has been counted since it was made. Exact, never sampled.
    fn statistics(&self) -> MeterStatistics;

    /// Why its optimised form has given way to the plain one, when it has.
    fn fault(&self) -> Option<&str> {
        None
    }
}

/// What a meter holds at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterReading {
    /// What calls that have ended used.
    pub used: Usage,
    /// What is set aside for calls under way.
    pub reserved: Usage,
}

/// What a meter has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterStatistics {
    /// Set aside before the work, by estimate.
    pub reserved: Usage,
    /// Used.
    pub committed: Usage,
    /// Given back because the work used less, or was never done.
    pub refunded: Usage,
    /// How often what all threads share was updated: once for each amount on the plain twin, once for many of them on
    /// the optimised one.
    pub batches: u64,
}

impl AddAssign for MeterStatistics {
    fn add_assign(&mut self, other: Self) {
        self.reserved += other.reserved;
        self.committed += other.committed;
        self.refunded += other.refunded;
        self.batches += other.batches;
    }
}

/// A meter of the given kind, on which `used` counts already.
pub fn meter(twin: Twin, limits: UsageLimits, used: Usage) -> Arc<dyn UsageMeter> {
    match twin {
        Twin::Plain => Arc::new(PlainMeter::going_on(limits, used)),
        Twin::Optimized => Arc::new(OptimizedMeter::going_on(limits, used)),
    }
}

/// The meter of a run with these twins. Should the optimised one fail, a plain one takes over all that was counted, and
/// [`fault`](UsageMeter::fault) says why.
pub fn run_meter(twins: Twins, limits: UsageLimits, used: Usage) -> Arc<dyn UsageMeter> {
    match twins.of(Part::Usage) {
        Twin::Plain => Arc::new(PlainMeter::going_on(limits, used)),
        Twin::Optimized => {
            let optimized = OptimizedMeter::going_on(limits, used);
            Arc::new(contained::ContainedMeter::new(twins, optimized))
        }
    }
}
