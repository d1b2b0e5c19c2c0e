//! Which twin of each optimised part is in use, and the sizes and thresholds the parts work with.
//!
//! A part exists twice: an obvious implementation (*plain*) and a fast one (*optimised*). Results never depend on the
//! choice. This file only describes and validates it; a runner reads it when a run starts.

mod containment;
#[cfg(test)]
mod tests;
mod twins;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use containment::{Drills, RunTwins, contained};
pub use twins::Twins;

/// A part of the engine that exists as a plain and as an optimised implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Reuse of the engine's own allocations.
    Pool,
    /// Isolation of the run's context.
    Context,
    /// Analysis of the steps, kept between runs.
    Analysis,
    /// Spans and counters.
    Telemetry,
    /// Thresholds and alerts.
    Monitor,
    /// Results of steps that are declared cacheable.
    Cache,
    /// The meter of cost and tokens.
    Usage,
}

impl Part {
    /// Every part, in the order of declaration.
    pub const ALL: [Self; 7] = [
        Self::Pool,
        Self::Context,
        Self::Analysis,
        Self::Telemetry,
        Self::Monitor,
        Self::Cache,
        Self::Usage,
    ];

    /// The name used in statistics, such as `cache`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Context => "context",
            Self::Analysis => "analysis",
            Self::Telemetry => "telemetry",
            Self::Monitor => "monitor",
            Self::Cache => "cache",
            Self::Usage => "usage",
        }
    }

    /// The field of [`OptimizationConfig`] that chooses this part's twin, such as `enable_cache_optimization`.
    pub fn switch(self) -> &'static str {
        match self {
            Self::Pool => "enable_object_pooling",
            Self::Context => "enable_context_optimization",
            Self::Analysis => "enable_step_analysis",
            Self::Telemetry => "enable_telemetry_optimization",
            Self::Monitor => "enable_performance_monitoring",
            Self::Cache => "enable_cache_optimization",
            Self::Usage => "enable_usage_optimization",
        }
    }
}

/// One of a part's two implementations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Twin {
    /// The obvious implementation.
    Plain,
    /// The fast implementation.
    Optimized,
}

impl Twin {
    /// `plain` or `optimized`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Optimized => "optimized",
        }
    }
}

/// The twin a part uses now, and why, for people to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinInUse {
    /// The implementation in use.
    pub twin: Twin,
    /// Why this one.
    pub reason: Cow<'static, str>,
}

impl TwinInUse {
    /// The plain twin, standing in for an optimised one that failed for `reason`.
    pub fn degraded(reason: &str) -> Self {
        Self {
            twin: Twin::Plain,
            reason: Cow::Owned(format!("the optimized twin failed: {reason}")),
        }
    }
}

/// Which twin each part uses, with the sizes and thresholds the parts work with.
///
/// Every field has a default, so that a value names only what differs. Fields are checked by [`validate`], which
/// deserialising does by itself and a runner does when it is built.
///
/// ```
/// use flujo_core::config::{OptimizationConfig, Part, Twin};
///
/// let config = OptimizationConfig { cache_max_size: 10_000, ..OptimizationConfig::default() };
/// assert!(config.validate().is_ok());
/// assert_eq!(config.twin(Part::Cache), Twin::Optimized);
/// ```
///
/// [`validate`]: Self::validate
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools)] // the documented names of seven independent switches
pub struct OptimizationConfig {
    /// Whether the engine reuses its own allocations.
    pub enable_object_pooling: bool,
    /// Whether contexts are isolated without copying.
    pub enable_context_optimization: bool,
    /// Whether the analysis of steps is kept between runs.
    pub enable_step_analysis: bool,
    /// Whether spans and counters are collected in batches.
    pub enable_telemetry_optimization: bool,
    /// Whether thresholds are watched in constant time and memory.
    pub enable_performance_monitoring: bool,
    /// Whether the cache resists scans and loops.
    pub enable_cache_optimization: bool,
    /// Whether usage is metered without a lock.
    pub enable_usage_optimization: bool,
    /// A step that takes longer raises an alert; in seconds.
    pub execution_time_threshold: f64,
    /// Growth of the process's resident memory beyond this raises an alert; in megabytes (10⁶ bytes).
    pub memory_usage_threshold: f64,
    /// A cache hit rate below this raises an alert; a share from 0 to 1.
    pub cache_hit_rate_threshold: f64,
    /// How many objects of a kind the pool keeps; 0 keeps none.
    pub max_pool_size: usize,
    /// How many results the cache keeps; 0 keeps none.
    pub cache_max_size: usize,
    /// How long a cached result is valid, in seconds; 0 or `None` is for ever.
    pub cache_ttl_seconds: Option<f64>,
}

/// A field of [`OptimizationConfig`] holds what it must not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("OptimizationConfig.{field} must be {allowed}, but is {value}")]
pub struct OptimizationConfigError {
    /// The field's name.
    pub field: &'static str,
    /// What it holds.
    pub value: String,
    /// What it may hold.
    pub allowed: &'static str,
}

impl Default for OptimizationConfig {
    fn default() -> Self {
        Self {
            enable_object_pooling: true,
            enable_context_optimization: true,
            enable_step_analysis: true,
            enable_telemetry_optimization: true,
            enable_performance_monitoring: true,
            enable_cache_optimization: true,
            enable_usage_optimization: true,
            execution_time_threshold: 1.0,
            memory_usage_threshold: 100.0,
            cache_hit_rate_threshold: 0.8,
            max_pool_size: 100,
            cache_max_size: 1024,
            cache_ttl_seconds: Some(3600.0),
        }
    }
}

impl OptimizationConfig {
    /// Every field's name with what it may hold, in the order of declaration.
    pub const FIELDS: [(&'static str, &'static str); 13] = [
        ("enable_object_pooling", SWITCH),
        ("enable_context_optimization", SWITCH),
        ("enable_step_analysis", SWITCH),
        ("enable_telemetry_optimization", SWITCH),
        ("enable_performance_monitoring", SWITCH),
        ("enable_cache_optimization", SWITCH),
        ("enable_usage_optimization", SWITCH),
        ("execution_time_threshold", SECONDS),
        ("memory_usage_threshold", MEGABYTES),
        ("cache_hit_rate_threshold", SHARE),
        ("max_pool_size", SIZE),
        ("cache_max_size", SIZE),
        ("cache_ttl_seconds", LIFETIME),
    ];

    /// Every part on its plain twin, with the default sizes and thresholds.
    pub fn plain() -> Self {
        let mut config = Self::default();
        for part in Part::ALL {
            config.set_twin(part, Twin::Plain);
        }
        config
    }

    /// The twin chosen for a part.
    pub fn twin(&self, part: Part) -> Twin {
        if *self.switch(part) {
            Twin::Optimized
        } else {
            Twin::Plain
        }
    }

    /// Chooses the twin of a part.
    pub fn set_twin(&mut self, part: Part, twin: Twin) {
        *self.switch_mut(part) = twin == Twin::Optimized;
    }

    /// The twin of each part for a runner that has all optimisations on ([`Twin::Optimized`]: this config decides)
    /// or off ([`Twin::Plain`]), with the reasons.
    pub fn in_use(&self, runner: Twin) -> BTreeMap<Part, TwinInUse> {
        let decide = |part: Part| match (runner, self.twin(part)) {
            (Twin::Plain, _) => TwinInUse {
                twin: Twin::Plain,
                reason: "optimizations are disabled for this runner".into(),
            },
            (_, Twin::Plain) => TwinInUse {
                twin: Twin::Plain,
                reason: format!("{} is off", part.switch()).into(),
            },
            (_, Twin::Optimized) => TwinInUse {
                twin: Twin::Optimized,
                reason: format!("{} is on", part.switch()).into(),
            },
        };
        Part::ALL.into_iter().map(|part| (part, decide(part))).collect()
    }

    /// [`execution_time_threshold`](Self::execution_time_threshold) as a duration.
    pub fn execution_time_limit(&self) -> Duration {
        duration(self.execution_time_threshold)
    }

    /// The same in nanoseconds, as many as fit.
    pub fn execution_limit_ns(&self) -> u64 {
        u64::try_from(self.execution_time_limit().as_nanos()).unwrap_or(u64::MAX)
    }

    /// [`memory_usage_threshold`](Self::memory_usage_threshold) in bytes.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // the cast saturates, which is meant
    pub fn memory_limit_bytes(&self) -> u64 {
        (self.memory_usage_threshold * 1e6) as u64
    }

    /// How long a cached result is valid; `None` is for ever.
    pub fn cache_ttl(&self) -> Option<Duration> {
        self.cache_ttl_seconds
            .filter(|seconds| *seconds > 0.0)
            .map(duration)
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that holds what it must not, with the value and what is allowed.
    pub fn validate(&self) -> Result<(), OptimizationConfigError> {
        let at_least_zero = |value: f64| value.is_finite() && value >= 0.0;
        let numbers = [
            ("execution_time_threshold", self.execution_time_threshold, SECONDS),
            ("memory_usage_threshold", self.memory_usage_threshold, MEGABYTES),
            ("cache_hit_rate_threshold", self.cache_hit_rate_threshold, SHARE),
            (
                "cache_ttl_seconds",
                self.cache_ttl_seconds.unwrap_or(0.0),
                LIFETIME,
            ),
        ];
        for (field, value, allowed) in numbers {
            if !at_least_zero(value) || (allowed == SHARE && value > 1.0) {
                return Err(OptimizationConfigError {
                    field,
                    value: value.to_string(),
                    allowed,
                });
            }
        }
        Ok(())
    }

    fn switch(&self, part: Part) -> &bool {
        match part {
            Part::Pool => &self.enable_object_pooling,
            Part::Context => &self.enable_context_optimization,
            Part::Analysis => &self.enable_step_analysis,
            Part::Telemetry => &self.enable_telemetry_optimization,
            Part::Monitor => &self.enable_performance_monitoring,
            Part::Cache => &self.enable_cache_optimization,
            Part::Usage => &self.enable_usage_optimization,
        }
    }

    fn switch_mut(&mut self, part: Part) -> &mut bool {
        match part {
            Part::Pool => &mut self.enable_object_pooling,
            Part::Context => &mut self.enable_context_optimization,
            Part::Analysis => &mut self.enable_step_analysis,
            Part::Telemetry => &mut self.enable_telemetry_optimization,
            Part::Monitor => &mut self.enable_performance_monitoring,
            Part::Cache => &mut self.enable_cache_optimization,
            Part::Usage => &mut self.enable_usage_optimization,
        }
    }
}

const SWITCH: &str = "a boolean";
const SECONDS: &str = "a finite number of seconds, 0 or more";
const MEGABYTES: &str = "a finite number of megabytes, 0 or more";
const SHARE: &str = "a number from 0 to 1";
const SIZE: &str = "a whole number, 0 or more";
const LIFETIME: &str = "a finite number of seconds, 0 or more, or nothing (0 and nothing: never expires)";

/// Seconds as a duration, held at the longest there is.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

// `remote = "Self"` makes the derives inherent functions, which these wrap: what is read is also validated.
impl Serialize for OptimizationConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for OptimizationConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let config = Self::deserialize(deserializer)?;
        config.validate().map_err(de::Error::custom)?;
        Ok(config)
    }
}
