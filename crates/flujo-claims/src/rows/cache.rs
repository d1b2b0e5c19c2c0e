//! The result cache alone: how often it hasn't what is asked for, and how fast it answers.

use std::hint::black_box;
use std::time::Instant;

use flujo_core::cache::traces::{self, CAPACITY};
use flujo_core::cache::{CacheKey, OptimizedCache, PlainCache, ResultCache};

use crate::{Apart, Comparison, Effort};

/// As large as a runner's is without more ado, and what it is filled with.
const USUAL: usize = 1024;
const KEPT: u128 = 700;
const THREADS: usize = 2;

/// Seconds that a get takes while several threads ask for keys that are there.
fn seconds(get: impl Fn(CacheKey) -> bool + Sync, trace: &[CacheKey]) -> f64 {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (apart, get) = (trace.len() / THREADS * thread, &get);
            scope.spawn(move || {
                for key in trace[apart..].iter().chain(&trace[..apart]) {
                    black_box(get(*key));
                }
            });
        }
    });
    #[allow(clippy::cast_precision_loss)] // of small numbers
    let gets = (trace.len() * THREADS) as f64;
    begin.elapsed().as_secs_f64() / gets
}

#[allow(clippy::unnecessary_wraps)] // as every row
pub(super) fn gets(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    let (plain, optimized) = (PlainCache::new(USUAL), OptimizedCache::new(USUAL));
    let moka = moka::sync::Cache::new(USUAL as u64);
    for key in (0..KEPT).map(CacheKey) {
        plain.insert(key, 0_u64, None, 0);
        optimized.insert(key, 0_u64, None, 0);
        moka.insert(key, 0_u64);
    }
    let trace: Vec<_> = traces::zipf(1.0, 0, 1)
        .iter()
        .map(|key| CacheKey(key.0 % KEPT))
        .collect();
    let compared = effort.compare(
        || seconds(|key| plain.get(key, 0).is_some(), &trace),
        || seconds(|key| optimized.get(key, 0).is_some(), &trace),
    );
    let outside = effort.sample(|| seconds(|key| moka.get(&key).is_some(), &trace));
    Ok(compared.beside("moka", outside))
}

/// Misses of both twins on as many traces as there are pairs, each of its own making.
fn misses(effort: Effort, trace: impl Fn(u64) -> Vec<CacheKey>) -> Comparison {
    let mut comparison = Comparison::default();
    for seed in 1..=effort.pairs.max(1) as u64 {
        let trace = trace(seed);
        let (plain, optimized) = (PlainCache::new(CAPACITY), OptimizedCache::new(CAPACITY));
        comparison.plain.push(traces::misses(&plain, &trace));
        let missed = traces::misses(&optimized, &trace);
        comparison
            .optimized
            .push(missed * f64::from(effort.repeated.max(1)));
    }
    comparison
}

#[allow(clippy::unnecessary_wraps)] // as every row
pub(super) fn misses_of_zipf(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    Ok(misses(effort, |seed| traces::zipf(1.0, 0, seed)))
}

#[allow(clippy::unnecessary_wraps)] // as every row
pub(super) fn misses_of_scans(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    Ok(misses(effort, |seed| traces::zipf(1.0, 20, seed)))
}

#[allow(clippy::unnecessary_wraps)] // as every row
pub(super) fn misses_of_loops(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    Ok(misses(effort, |_| traces::round_and_round(CAPACITY * 12 / 10)))
}
