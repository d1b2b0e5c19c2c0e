//! Requests to compare caches by, the same everywhere: tests, the benchmark `caching` and `flujo bench claims`.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // of small numbers

use super::{CacheKey, ResultCache};

const KEYS: usize = 10_000;
/// Of a cache: a tenth of the keys.
pub const CAPACITY: usize = KEYS / 10;
const REQUESTS: usize = 200_000;

/// A small generator (xorshift64*: Marsaglia 2003, Vigna 2016).
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Requests whose frequencies fall with the rank to the power of `skew`; of a hundred requests `scanned` are for keys that
/// come once. Each `seed` gives its own.
pub fn zipf(skew: f64, scanned: u64, seed: u64) -> Vec<CacheKey> {
    let mut sums: Vec<f64> = Vec::with_capacity(KEYS);
    let mut sum = 0.0;
    for rank in 1..=KEYS {
        sum += (rank as f64).powf(-skew);
        sums.push(sum);
    }
    let mut random = Random(seed.max(1));
    let mut once = KEYS as u128;
    let request = |_| {
        if random.below(100) < scanned {
            once += 1;
            return CacheKey(once);
        }
        let share = random.share() * sum;
        CacheKey(sums.partition_point(|sum| *sum < share) as u128)
    };
    (0..REQUESTS).map(request).collect()
}

/// All of so many keys again and again.
pub fn round_and_round(keys: usize) -> Vec<CacheKey> {
    (0..REQUESTS)
        .map(|place| CacheKey((place % keys) as u128))
        .collect()
}

/// How often a cache hasn't what is asked for and is given then.
pub fn misses(cache: &dyn ResultCache<()>, trace: &[CacheKey]) -> f64 {
    for key in trace {
        if cache.get(*key, 0).is_none() {
            cache.insert(*key, (), None, 0);
        }
    }
    cache.statistics().misses as f64
}
