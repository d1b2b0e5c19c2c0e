//! Performance statistics as they are read: one serialisable record with the documented keys.
//!
//! The overall part is computed when the snapshot is made; times by step keep hold of what was recorded and compute a
//! step's percentiles when that step is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::table::Table;
use super::{
    Alert, AlertStats, AnalysisStats, ContextStats, MemoryStats, PartStatistics, PoolStats, TelemetryStats,
    TimeStats,
};
use crate::config::{Part, TwinInUse};
use crate::usage::Usage;

/// How a runner has performed since it was made or last reset. Times are in seconds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct PerformanceStatistics {
    /// Runs that have ended.
    pub execution_count: u64,
    /// Time these runs took together.
    pub total_execution_time: f64,
    /// Time a run took on average; 0 before the first.
    pub average_execution_time: f64,
    /// Results found in the cache.
    pub cache_hits: u64,
    /// Results looked for in the cache and not found.
    pub cache_misses: u64,
    /// Hits among look-ups, as a percentage; 0 before the first.
    pub cache_hit_rate: f64,
    /// Times of runs and of steps.
    pub execution_time_stats: ExecutionTimeStats,
    /// Failures.
    pub error_stats: ErrorStats,
    /// Spans and their export.
    pub telemetry_metrics: TelemetryStats,
    /// Reuse of allocations.
    pub pool_stats: PoolStats,
    /// Isolation and merging of contexts.
    pub context_stats: ContextStats,
    /// Analysis of pipelines.
    pub analysis_stats: AnalysisStats,
    /// Cost and tokens.
    pub usage_stats: UsageStats,
    /// Resident memory of the process.
    pub memory_stats: MemoryStats,
    /// The last 100 alerts raised, oldest first.
    pub alerts: Vec<Alert>,
    /// How many there were, and what became of the callbacks.
    pub alert_stats: AlertStats,
    /// Which twin each part uses now, and why.
    pub optimizations: BTreeMap<Part, TwinInUse>,
}

/// Times of runs, and of steps by name.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ExecutionTimeStats {
    /// Times of whole runs.
    #[serde(flatten)]
    pub overall: TimeStats,
    /// Times of steps.
    pub by_step: TimesByStep,
}

/// Failures, of steps and of runs that failed outside any step.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorStats {
    /// How many failures there were.
    pub count: u64,
    /// By type of error; more than 1,000 types are counted together as `other`.
    pub by_type: BTreeMap<Arc<str>, u64>,
    /// By name of the step.
    pub by_step: BTreeMap<Arc<str>, u64>,
    /// When the last run with a failure ended, in seconds since the Unix epoch.
    pub last_error_time: Option<f64>,
}

/// Cost and tokens, reserved and spent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageStats {
    /// Set aside before the work, by estimate.
    pub reserved: UsageTotals,
    /// Spent by the runs that have ended.
    pub committed: UsageTotals,
    /// Given back because the work used less.
    pub refunded: UsageTotals,
    /// Updates of the shared pool.
    pub batches: u64,
}

/// An amount of usage for people to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct UsageTotals {
    /// Money, in US dollars.
    pub cost_usd: f64,
    /// Tokens, prompt and completion together.
    pub tokens: u64,
    /// Requests to a model or service.
    pub requests: u64,
}

impl From<Usage> for UsageTotals {
    fn from(usage: Usage) -> Self {
        Self {
            cost_usd: usage.cost.dollars(),
            tokens: usage.tokens,
            requests: usage.requests,
        }
    }
}

impl PerformanceStatistics {
    pub(super) fn new(table: Arc<Table>, parts: PartStatistics) -> Self {
        let overall = table.runs.summary();
        Self {
            execution_count: overall.count,
            total_execution_time: table.runs.total_seconds(),
            average_execution_time: overall.mean,
            cache_hits: parts.cache_hits,
            cache_misses: parts.cache_misses,
            cache_hit_rate: percentage(parts.cache_hits, parts.cache_misses),
            error_stats: table.errors(),
            usage_stats: UsageStats {
                reserved: table.metered.reserved.into(),
                committed: table.usage.into(),
                refunded: table.metered.refunded.into(),
                batches: table.metered.batches,
            },
            execution_time_stats: ExecutionTimeStats {
                overall,
                by_step: TimesByStep(Source::Recorded(table)),
            },
            telemetry_metrics: parts.telemetry,
            pool_stats: parts.pool,
            context_stats: parts.context,
            analysis_stats: parts.analysis,
            memory_stats: parts.memory,
            alerts: parts.alerts,
            alert_stats: parts.alert_counts,
            optimizations: parts.optimizations,
        }
    }
}

#[allow(clippy::cast_precision_loss)] // a float is asked for
fn percentage(hits: u64, misses: u64) -> f64 {
    let lookups = hits as f64 + misses as f64;
    if lookups == 0.0 {
        0.0
    } else {
        100.0 * hits as f64 / lookups
    }
}

/// Times of steps by name, in the order in which the names became known. The names beyond the first 1,000 are counted
/// together as `other`, which comes last.
#[derive(Debug, Clone, Default)]
pub struct TimesByStep(Source);

#[derive(Debug, Clone)]
enum Source {
    /// As recorded: percentiles are computed on reading.
    Recorded(Arc<Table>),
    /// As read from where it was written.
    Written(Vec<(Arc<str>, TimeStats)>),
}

impl Default for Source {
    fn default() -> Self {
        Self::Written(Vec::new())
    }
}

impl TimesByStep {
    /// The times of one step; `None` for a step that never ran.
    pub fn get(&self, step: &str) -> Option<TimeStats> {
        match &self.0 {
            Source::Recorded(table) => table.step(step).map(|record| record.times.summary()),
            Source::Written(steps) => steps
                .iter()
                .find(|(name, _)| **name == *step)
                .map(|(_, times)| *times),
        }
    }

    /// Every step that ran, with its times, computed as the iterator advances.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, TimeStats)> {
        let (recorded, written) = match &self.0 {
            Source::Recorded(table) => (Some(table.steps_that_ran()), None),
            Source::Written(steps) => (None, Some(steps.iter())),
        };
        let recorded = recorded
            .into_iter()
            .flatten()
            .map(|step| (&step.name, step.times.summary()));
        recorded.chain(written.into_iter().flatten().map(|(name, times)| (name, *times)))
    }

    /// How many steps ran.
    pub fn len(&self) -> usize {
        match &self.0 {
            Source::Recorded(table) => table.steps_that_ran().count(),
            Source::Written(steps) => steps.len(),
        }
    }

    /// Whether no step ran.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Serialize for TimesByStep {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for TimesByStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(Arc<str>, TimeStats)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("times by the name of the step")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut steps = Vec::new();
                while let Some(step) = map.next_entry()? {
                    steps.push(step);
                }
                Ok(steps)
            }
        }
        deserializer
            .deserialize_map(InOrder)
            .map(|steps| Self(Source::Written(steps)))
    }
}
