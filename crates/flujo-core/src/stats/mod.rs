//! Performance statistics of a runner.
//!
//! A runner owns one [`Statistics`]. A plan asks once for the [slots](Statistics::slots) of its step names; each run,
//! when it ends, is recorded in one call. Counters are exact, never sampled; percentiles are within 0.8 %. Nothing here
//! reads a clock: durations and times are handed in.

mod distribution;
mod histogram;
mod parts;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub use distribution::TimeStats;
pub use histogram::Histogram;
pub use parts::{
    Alert, AlertKind, AlertStats, AnalysisStats, ContextStats, MemoryStats, PartStatistics, PoolStats,
    TelemetryStats,
};
pub use snapshot::{
    ErrorStats, ExecutionTimeStats, PerformanceStatistics, TimesByStep, UsageStats, UsageTotals,
};

use crate::usage::{MeterStatistics, Usage};
pub(crate) use table::MAX_NAMES;
use table::Table;

/// Collects how the runs of one runner performed; shared by all of them.
///
/// ```
/// use std::sync::Arc;
/// use flujo_core::stats::{PartStatistics, RunFacts, Statistics, StepFact};
///
/// let statistics = Statistics::default();
/// let slots = statistics.slots(&[Arc::from("read"), Arc::from("count")]); // once per plan
/// let steps = slots.iter().map(|slot| StepFact { slot: *slot, latency_ns: 1_000_000, error: None });
/// statistics.record_run(&RunFacts { latency_ns: 2_500_000, ..RunFacts::default() }, steps);
///
/// let read = statistics.snapshot(PartStatistics::default());
/// assert_eq!(read.execution_count, 1);
/// assert_eq!(read.execution_time_stats.by_step.get("read").map(|times| times.count), Some(1));
/// ```
#[derive(Debug, Default)]
pub struct Statistics {
    // A snapshot takes a reference, so that reading costs the same however much was recorded; a run that is recorded
    // while somebody still holds one copies the table first.
    table: Mutex<Arc<Table>>,
}

/// Where a step's facts go: found once per plan, so that recording is an index. Valid for the [`Statistics`] that gave
/// it, also after a reset; with another one the facts go to some other step's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StepSlot(usize);

impl StepSlot {
    /// The row of the names that there was no room for.
    pub const OTHER: Self = Self(usize::MAX);

    /// Its place among the names that are kept apart; beyond all of them for the others.
    pub(crate) fn index(self) -> usize {
        self.0
    }
}

/// One run that has ended.
#[derive(Debug, Clone, Copy, Default)]
pub struct RunFacts<'a> {
    /// How long it took, in nanoseconds of active time.
    pub latency_ns: u64,
    /// What it used, failed attempts included.
    pub usage: Usage,
    /// What its meter counted, where usage was limited.
    pub meter: Option<MeterStatistics>,
    /// The type of an error that belongs to no step, such as a limit reached between steps. A failed step's error is
    /// said in its [`StepFact`] only, or it would count twice.
    pub error: Option<&'a str>,
    /// When it ended, since the Unix epoch.
    pub ended_at: Duration,
}

/// One step that a run has finished, successfully or not.
#[derive(Debug, Clone, Copy)]
pub struct StepFact<'a> {
    /// The step.
    pub slot: StepSlot,
    /// How long it took with its retries, in nanoseconds.
    pub latency_ns: u64,
    /// The type of the error it failed with; `None` for success.
    pub error: Option<&'a str>,
}

impl Statistics {
    /// The slots of a plan's step names, in their order. The first 1,000 names are kept apart; the others share
    /// [`StepSlot::OTHER`].
    pub fn slots<'n>(&self, names: impl IntoIterator<Item = &'n Arc<str>>) -> Box<[StepSlot]> {
        let mut table = self.lock();
        let table = Arc::make_mut(&mut table);
        names.into_iter().map(|name| table.slot(name)).collect()
    }

    /// Records a run that has ended, with the steps it finished. `steps` is consumed under a lock, so it must neither
    /// wait nor use these statistics.
    pub fn record_run<'f>(&self, run: &RunFacts<'_>, steps: impl IntoIterator<Item = StepFact<'f>>) {
        let mut table = self.lock();
        let table = Arc::make_mut(&mut table);
        let errors_before = table.error_count();
        for step in steps {
            table.record_step(&step);
        }
        table.record_run(run, errors_before);
    }

    /// What was recorded so far, together with what the parts count about themselves.
    pub fn snapshot(&self, parts: PartStatistics) -> PerformanceStatistics {
        let table = Arc::clone(&self.lock());
        PerformanceStatistics::new(table, parts)
    }

    /// Starts anew. Slots stay valid; the parts' own counters are the host's to reset.
    pub fn reset(&self) {
        Arc::make_mut(&mut self.lock()).clear();
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Table>> {
        // A panic in somebody's iterator leaves whole counters behind, so the table stays usable.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
