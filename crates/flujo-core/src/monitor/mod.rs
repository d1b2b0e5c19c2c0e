//! Thresholds of [`OptimizationConfig`](crate::config::OptimizationConfig): who crosses one, and who is back.
//!
//! A monitor is told of steps, look-ups in a cache and memory, each with the threshold that holds there, and says when
//! one was crossed: once per crossing, and again only after the value has been back. It reads no clock and tells nobody:
//! a host turns what it says into an [`Alert`](crate::stats::Alert), which [`Alerts`] keeps.

mod alerts;
mod optimized;
mod plain;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;

pub use alerts::Alerts;
pub use optimized::OptimizedMonitor;
pub use plain::PlainMonitor;
pub use watch::Watch;

use crate::stats::StepSlot;

/// How many look-ups of a step a hit rate is taken over: each hundred is judged for itself.
pub const LOOKUPS: u32 = 100;

/// Watches thresholds. Shared by all runs of a runner.
pub trait Monitor: fmt::Debug + Send + Sync {
    /// A step took this long where `limit` is allowed, both in nanoseconds.
    fn took(&self, step: StepSlot, latency: u64, limit: u64) -> Change;

    /// A step looked for a result in its cache, of which at least this share of [`LOOKUPS`] in a row is to be found.
    /// Gives the share too when one was judged; `Stays` until then.
    fn looked_up(&self, step: StepSlot, hit: bool, least: f64) -> (Change, f64);

    /// Resident memory has grown by so many bytes where `limit` is allowed.
    fn grew(&self, bytes: u64, limit: u64) -> Change;

    /// Whether some step has last taken longer than it was allowed, so that it is worth telling of each that ends.
    fn is_alarmed(&self) -> bool;

    /// What it has seen.
    fn statistics(&self) -> MonitorStats;

    /// Forgets everything: each threshold counts as not crossed.
    fn reset(&self);
}

/// What became of a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Change {
    /// Nothing: on the side where it was.
    Stays,
    /// The value was on the good side and is on the bad one.
    Crossed,
    /// The value was on the bad side and is back.
    Recovered,
}

impl Change {
    /// From what it was to what it is.
    fn between(was_bad: bool, is_bad: bool) -> Self {
        match (was_bad, is_bad) {
            (false, true) => Self::Crossed,
            (true, false) => Self::Recovered,
            _ => Self::Stays,
        }
    }
}

/// What a monitor has seen since it was made or last reset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MonitorStats {
    /// Values that it was told.
    pub records: u64,
    /// Thresholds crossed.
    pub crossings: u64,
    /// Thresholds that are crossed now.
    pub alarmed: u64,
}
