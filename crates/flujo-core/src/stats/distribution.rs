//! Durations of one kind of work: exact count, sum, extremes and deviation, and percentiles within 0.8 %.

use serde::{Deserialize, Serialize};

use super::Histogram;

/// Durations collected, in nanoseconds.
#[derive(Debug, Clone)]
pub(super) struct Distribution {
    count: u64,
    sum: u128,
    /// The sum of squares modulo 2¹²⁸. The sum of squared deviations computed from it comes out exact while it fits: a
    /// billion durations may differ by 18 years.
    squares: u128,
    min: u64,
    max: u64,
    histogram: Histogram,
}

/// What is known of a kind of work's durations, in seconds. All 0 when there were none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TimeStats {
    /// How many durations were recorded.
    pub count: u64,
    /// The average.
    pub mean: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
    /// The standard deviation (of all that was recorded, not of a sample).
    pub std: f64,
    /// Half took no longer than this.
    pub p50: f64,
    /// 90 % took no longer than this.
    pub p90: f64,
    /// 95 % took no longer than this.
    pub p95: f64,
    /// 99 % took no longer than this.
    pub p99: f64,
}

impl Default for Distribution {
    fn default() -> Self {
        Self {
            count: 0,
            sum: 0,
            squares: 0,
            min: u64::MAX,
            max: 0,
            histogram: Histogram::default(),
        }
    }
}

impl Distribution {
    pub(super) fn record(&mut self, nanos: u64) {
        let wide = u128::from(nanos);
        self.count += 1;
        self.sum += wide;
        self.squares = self.squares.wrapping_add(wide * wide);
        self.min = self.min.min(nanos);
        self.max = self.max.max(nanos);
        self.histogram.record(nanos);
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    pub(super) fn total_seconds(&self) -> f64 {
        seconds(self.sum)
    }

    pub(super) fn clear(&mut self) {
        let mut histogram = std::mem::take(&mut self.histogram);
        histogram.clear();
        *self = Self {
            histogram,
            ..Self::default()
        };
    }

    /// Costs one visit per bucket in use, however many durations were recorded.
    #[allow(clippy::cast_precision_loss)] // floats are asked for
    pub(super) fn summary(&self) -> TimeStats {
        if self.count == 0 {
            return TimeStats::default();
        }
        let [p50, p90, p95, p99] = self
            .histogram
            .percentiles([50, 90, 95, 99])
            .map(|nanos| seconds(u128::from(nanos.clamp(self.min, self.max))));
        TimeStats {
            count: self.count,
            mean: seconds(self.sum) / self.count as f64,
            min: seconds(u128::from(self.min)),
            max: seconds(u128::from(self.max)),
            std: self.variance().sqrt() / NANOS_PER_SECOND,
            p50,
            p90,
            p95,
            p99,
        }
    }

    /// In nanoseconds squared. About the whole part `q` of the mean: Σ(v − q)² = Σv² − 2qΣv + nq², in integers, since
    /// the same in floats loses everything when the deviation is small beside the mean.
    #[allow(clippy::cast_precision_loss)] // a float is asked for
    fn variance(&self) -> f64 {
        let count = u128::from(self.count);
        let (whole, rest) = (self.sum / count, self.sum % count);
        let about_whole = self
            .squares
            .wrapping_sub(whole.wrapping_mul(self.sum).wrapping_mul(2))
            .wrapping_add(count.wrapping_mul(whole).wrapping_mul(whole));
        let fraction = rest as f64 / count as f64;
        (about_whole as f64 / count as f64 - fraction * fraction).max(0.0)
    }
}

const NANOS_PER_SECOND: f64 = 1e9;

#[allow(clippy::cast_precision_loss)] // a float is asked for
fn seconds(nanos: u128) -> f64 {
    nanos as f64 / NANOS_PER_SECOND
}
