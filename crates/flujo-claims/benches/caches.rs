//! The optimised cache beside two well-kept ones, `moka` and `quick_cache`, on the same traces: misses, and the time of a
//! request with its insertion after a miss.
//!
//! `cargo bench -p flujo-claims --bench caches`

#[path = "../../flujo-core/benches/rows/mod.rs"]
mod rows;

use std::hint::black_box;
use std::time::Instant;

use flujo_core::cache::traces::{self, CAPACITY};
use flujo_core::cache::{CacheKey, OptimizedCache, ResultCache};
use rows::Row;

const ROUNDS: usize = 5;

/// Whether the key was there; it is afterwards, as far as the cache keeps it.
type Ask = Box<dyn FnMut(CacheKey) -> bool>;
type New = fn() -> Ask;

fn ours() -> Ask {
    let cache = OptimizedCache::new(CAPACITY);
    Box::new(move |key| {
        let found = cache.get(key, 0).is_some();
        if !found {
            cache.insert(key, 0_u64, None, 0);
        }
        found
    })
}

fn moka() -> Ask {
    let cache = moka::sync::Cache::new(CAPACITY as u64);
    Box::new(move |key| {
        let found = cache.get(&key).is_some();
        if !found {
            cache.insert(key, 0_u64);
        }
        found
    })
}

fn quick_cache() -> Ask {
    let (hasher, weight) = (foldhash::fast::RandomState::default(), quick_cache::UnitWeighter);
    let lifecycle = quick_cache::sync::DefaultLifecycle::default();
    let cache = quick_cache::sync::Cache::with(CAPACITY, CAPACITY as u64, weight, hasher, lifecycle);
    Box::new(move |key| {
        let found = cache.get(&key).is_some();
        if !found {
            cache.insert(key, 0_u64);
        }
        found
    })
}

/// Misses, and nanoseconds for a request; the best of a few rounds, each with a new cache.
fn measured(cache: New, trace: &[CacheKey]) -> (f64, f64) {
    let round = |_| {
        let mut ask = cache();
        let begin = Instant::now();
        let missed = trace.iter().filter(|key| !black_box(ask(**key))).count();
        #[allow(clippy::cast_precision_loss)] // of small numbers
        let (missed, requests) = (missed as f64, trace.len() as f64);
        (missed, begin.elapsed().as_secs_f64() * 1e9 / requests)
    };
    let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(round).collect();
    rounds
        .into_iter()
        .fold((f64::INFINITY, f64::INFINITY), |best, round| {
            (best.0.min(round.0), best.1.min(round.1))
        })
}

fn main() -> std::io::Result<()> {
    let traces = [
        ("zipf 0.9", traces::zipf(0.9, 0, 42)),
        ("zipf 1.0", traces::zipf(1.0, 0, 42)),
        ("zipf 1.1", traces::zipf(1.1, 0, 42)),
        ("zipf 1.0 and 20 % scans", traces::zipf(1.0, 20, 42)),
        (
            "a loop of 1.2 times the capacity",
            traces::round_and_round(CAPACITY * 12 / 10),
        ),
        (
            "a loop of 10 times the capacity",
            traces::round_and_round(CAPACITY * 10),
        ),
    ];
    let others: [(&'static str, New); 2] = [("moka", moka), ("quick_cache", quick_cache)];
    let mut all = Vec::new();
    for (name, trace) in &traces {
        let mine = measured(ours, trace);
        for (against, other) in others {
            let other = measured(other, trace);
            let row = |what: &str, value, unit, baseline| Row {
                name: format!("rust cache, {what}, {name}"),
                value,
                unit,
                baseline,
                reach: "reported",
                holds: true,
                against,
            };
            all.push(row("misses", mine.0, "misses", other.0));
            all.push(row("a request", mine.1, "ns", other.1));
        }
    }
    rows::print(all)
}
