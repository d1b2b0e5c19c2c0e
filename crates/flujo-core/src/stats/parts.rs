//! What the optimised parts count about themselves, as a host hands it to [`Statistics::snapshot`].
//!
//! Each is a plain record of counters since the runner was made. A part that isn't used leaves its counters at 0.
//!
//! [`Statistics::snapshot`]: super::Statistics::snapshot

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Part, TwinInUse};

/// What every part counts about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PartStatistics {
    /// Results found in the cache.
    pub cache_hits: u64,
    /// Results looked for in the cache and not found.
    pub cache_misses: u64,
    /// Spans and their export.
    pub telemetry: TelemetryStats,
    /// Reuse of allocations.
    pub pool: PoolStats,
    /// Isolation and merging of contexts.
    pub context: ContextStats,
    /// Analysis of pipelines.
    pub analysis: AnalysisStats,
    /// Resident memory of the process.
    pub memory: MemoryStats,
    /// The last alerts raised, oldest first.
    pub alerts: Vec<Alert>,
    /// How many there were, and what became of the callbacks.
    pub alert_counts: AlertStats,
    /// Which twin each part uses now, and why.
    pub optimizations: BTreeMap<Part, TwinInUse>,
}

/// Spans and their export.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TelemetryStats {
    /// Spans begun.
    pub spans_started: u64,
    /// Spans ended.
    pub spans_ended: u64,
    /// Spans given up because the queue was full, or because an exporter could not deliver them.
    pub spans_dropped: u64,
    /// Batches handed to an exporter.
    pub flushes: u64,
    /// The longest the queue of spans has been.
    pub queue_high_water: u64,
    /// Time a span takes on the step's own thread, on average, in seconds.
    pub overhead_per_span: f64,
}

/// Reuse of allocations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolStats {
    /// Objects taken from the pool.
    pub hits: u64,
    /// Objects made because the pool had none.
    pub misses: u64,
    /// Objects given back and let go because the pool was full.
    pub overflow: u64,
    /// Objects out of the pool now.
    pub in_use: u64,
    /// Objects in the pool now, by kind.
    pub retained: BTreeMap<String, u64>,
}

/// Isolation and merging of contexts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextStats {
    /// Isolated views made for an attempt or a branch.
    pub forks: u64,
    /// Fields copied because somebody could have changed them.
    pub fields_cloned: u64,
    /// Bytes copied with them, as far as they can be told.
    pub bytes_cloned: u64,
    /// Branches merged back.
    pub merges: u64,
    /// Merges refused because branches wrote different values to one place.
    pub conflicts: u64,
}

/// Analysis of pipelines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnalysisStats {
    /// Pipelines compiled to a plan.
    pub analyses: u64,
    /// Runs that found their plan ready.
    pub reuses: u64,
    /// Plans given up because their pipeline was changed.
    pub invalidations: u64,
}

/// Resident memory of the process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStats {
    /// Now.
    pub current_rss_bytes: u64,
    /// The most there has been.
    pub peak_rss_bytes: u64,
    /// Growth since the runner was made.
    pub growth_bytes: u64,
}

/// A threshold was crossed, or an optimised part gave way to its plain twin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// What happened.
    pub kind: AlertKind,
    /// The part concerned.
    pub part: Part,
    /// What was measured, in the unit of the threshold: seconds, megabytes or a share from 0 to 1.
    pub value: Option<f64>,
    /// The threshold.
    pub threshold: Option<f64>,
    /// The step concerned.
    pub step: Option<Arc<str>>,
    /// When, in seconds since the Unix epoch.
    pub time: f64,
    /// What happened and why, for people to read.
    pub message: String,
}

/// How many alerts there were, and what became of the callbacks that are told of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertStats {
    /// Alerts raised.
    pub raised: u64,
    /// Callbacks that failed.
    pub callbacks_failed: u64,
    /// Alerts that a callback wasn't told of, since it was still busy with earlier ones.
    pub callbacks_skipped: u64,
}

/// What an [`Alert`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// A step took longer than `execution_time_threshold`.
    ExecutionTime,
    /// Resident memory grew by more than `memory_usage_threshold`.
    MemoryUsage,
    /// The cache hit rate fell below `cache_hit_rate_threshold`.
    CacheHitRate,
    /// An optimised part failed and its plain twin took over.
    Degraded,
}

impl AlertKind {
    /// The name used in statistics, such as `execution_time`.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExecutionTime => "execution_time",
            Self::MemoryUsage => "memory_usage",
            Self::CacheHitRate => "cache_hit_rate",
            Self::Degraded => "degraded",
        }
    }
}
