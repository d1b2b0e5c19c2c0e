//! Counts of values by size: a sparse log-linear histogram.
//!
//! Each power of two is cut into 64 equal buckets, so a value read back is off by at most 1/128 (0.8 %). Only powers of
//! two that hold something take memory, half a kilobyte each, and there are at most 3,776 buckets, however many values
//! are recorded.

/// Buckets per block, as a number of bits. A block covers a power of two; the first two are exact, up to 127.
const BITS: u32 = 6;
const BUCKETS: usize = 1 << BITS;

/// How often each size of value occurred.
///
/// ```
/// use flujo_core::stats::Histogram;
///
/// let mut histogram = Histogram::default();
/// for value in 1..=100 {
///     histogram.record(value);
/// }
/// assert_eq!(histogram.percentiles([50, 100]), [50, 100]); // exact below 128
/// ```
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    blocks: Vec<Option<Box<Block>>>,
}

#[derive(Debug, Clone)]
struct Block {
    /// The sum over the buckets, so that reading steps over whole blocks.
    count: u64,
    buckets: [u64; BUCKETS],
}

/// A bucket, and how many values lie below it.
#[derive(Default)]
struct Place {
    block: usize,
    bucket: usize,
    below: u64,
}

impl Histogram {
    /// Counts one value.
    #[inline]
    pub fn record(&mut self, value: u64) {
        let (at, bucket) = place_of(value);
        let block = match self.blocks.get_mut(at) {
            Some(Some(block)) => block,
            _ => self.add_block(at),
        };
        block.count += 1;
        block.buckets[bucket] += 1;
    }

    #[cold]
    fn add_block(&mut self, at: usize) -> &mut Box<Block> {
        if self.blocks.len() <= at {
            self.blocks.resize_with(at + 1, || None);
        }
        self.blocks[at].get_or_insert_with(|| {
            Box::new(Block {
                count: 0,
                buckets: [0; BUCKETS],
            })
        })
    }

    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.blocks.iter().flatten().map(|block| block.count).sum()
    }

    /// How many buckets there is memory for, which bounds what reading visits.
    pub fn bucket_count(&self) -> usize {
        self.blocks.iter().flatten().count() * BUCKETS
    }

    /// For each percentage from 0 to 100, the smallest recorded value that at least this share of the values doesn't
    /// exceed (nearest rank), off by at most 0.8 %. All 0 when nothing was recorded. Rising percentages cost one pass
    /// over the buckets together.
    pub fn percentiles<const N: usize>(&self, percentages: [u64; N]) -> [u64; N] {
        let count = self.count();
        // Of hundreds and of what is left beside them, so that it never leaves 64 bits.
        let (hundreds, rest) = (count / 100, count % 100);
        let mut place = Place::default();
        percentages.map(|percentage| {
            let percentage = percentage.min(100);
            let rank = (hundreds * percentage + (rest * percentage).div_ceil(100)).max(1);
            if rank <= place.below {
                place = Place::default();
            }
            self.value_at(rank, &mut place)
        })
    }

    /// The value that is the `rank`th from below, counted from 1, looked for from a place below it, which is moved there.
    fn value_at(&self, rank: u64, place: &mut Place) -> u64 {
        while let Some(block) = self.blocks.get(place.block) {
            if let Some(block) = block {
                if place.bucket == 0 && place.below + block.count < rank {
                    place.below += block.count;
                } else {
                    for (bucket, count) in block.buckets.iter().enumerate().skip(place.bucket) {
                        if place.below + count >= rank {
                            place.bucket = bucket;
                            return middle_of(place.block, bucket);
                        }
                        place.below += count;
                    }
                }
            }
            place.block += 1;
            place.bucket = 0;
        }
        0
    }

    /// Forgets every value.
    pub fn clear(&mut self) {
        self.blocks.clear();
    }
}

/// The block and the bucket in it that a value falls into.
#[inline]
#[allow(clippy::cast_possible_truncation)] // below 128 after the shift
fn place_of(value: u64) -> (usize, usize) {
    let shift = (u64::BITS - 1 - (value | BUCKETS as u64).leading_zeros()) - BITS;
    let leading = (value >> shift) as usize; // 64 to 127; from 0 where nothing is shifted out
    (shift as usize + leading / BUCKETS, leading % BUCKETS)
}

/// The value in the middle of a bucket.
fn middle_of(block: usize, bucket: usize) -> u64 {
    if block < 2 {
        return (block * BUCKETS + bucket) as u64;
    }
    let shift = block - 1;
    (((BUCKETS + bucket) as u64) << shift) + (1 << shift) / 2
}
