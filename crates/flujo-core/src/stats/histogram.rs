//! Counts of values by size: a sparse log-linear histogram.
//!
//! Each power of two is cut into 64 equal buckets, so a value read back is off by at most 1/128 (0.8 %). Only buckets
//! that hold something take memory, and there are at most 3,776 of them, however many values are recorded.

/// Buckets per power of two, as a number of bits.
const BITS: u32 = 6;
const BUCKETS_PER_OCTAVE: u64 = 1 << BITS;

/// How often each size of value occurred.
///
/// ```
/// use flujo_core::stats::Histogram;
///
/// let mut histogram = Histogram::default();
/// (1..=100).for_each(|value| histogram.record(value));
/// assert_eq!(histogram.percentiles([50, 100]), [50, 100]); // exact below 128
/// ```
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// The buckets in use, ascending; beside them, in `counts`, how many values each holds.
    buckets: Vec<u16>,
    counts: Vec<u64>,
}

impl Histogram {
    /// Counts one value.
    pub fn record(&mut self, value: u64) {
        let bucket = bucket_of(value);
        match self.buckets.binary_search(&bucket) {
            Ok(at) => self.counts[at] += 1,
            Err(at) => {
                self.buckets.insert(at, bucket);
                self.counts.insert(at, 1);
            }
        }
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many buckets are in use, which is what reading costs.
    pub fn bucket_count(&self) -> usize {
        self.buckets.len()
    }

    /// For each percentage, the smallest recorded value that at least this share of the values doesn't exceed
    /// (nearest rank), off by at most 0.8 %. Percentages are ascending, from 0 to 100. All 0 when nothing was recorded.
    pub fn percentiles<const N: usize>(&self, percentages: [u64; N]) -> [u64; N] {
        let total = u128::from(self.count());
        let mut values = [0; N];
        let mut seen: u128 = 0;
        let mut filled = self.buckets.iter().zip(&self.counts);
        let mut current = 0;
        for (value, percentage) in values.iter_mut().zip(percentages) {
            let rank = (total * u128::from(percentage)).div_ceil(100).max(1);
            while seen < rank {
                let Some((bucket, count)) = filled.next() else {
                    break;
                };
                seen += u128::from(*count);
                current = middle_of(*bucket);
            }
            *value = current;
        }
        values
    }

    /// Forgets every value.
    pub fn clear(&mut self) {
        self.buckets.clear();
        self.counts.clear();
    }
}

/// The bucket a value falls into: the value itself below 128, then 64 to each power of two.
#[allow(clippy::cast_possible_truncation)] // at most 3,775
fn bucket_of(value: u64) -> u16 {
    let shift = (u64::BITS - 1 - (value | BUCKETS_PER_OCTAVE).leading_zeros()) - BITS;
    ((u64::from(shift) << BITS) + (value >> shift)) as u16
}

/// The value in the middle of a bucket.
fn middle_of(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < 2 * BUCKETS_PER_OCTAVE {
        return bucket;
    }
    let shift = (bucket >> BITS) - 1;
    let lowest = (bucket % BUCKETS_PER_OCTAVE + BUCKETS_PER_OCTAVE) << shift;
    lowest + (1 << shift) / 2
}
