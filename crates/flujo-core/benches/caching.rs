//! What the optimised cache earns against the plain one: fewer misses on known traces, more requests a second.
//!
//! `cargo bench -p flujo-core --bench caching`

mod rows;

use std::hint::black_box;
use std::time::Instant;

use flujo_core::cache::traces::{self, CAPACITY};
use flujo_core::cache::{CacheKey, OptimizedCache, PlainCache, ResultCache};
use rows::Row;

const THREADS: usize = 4;
/// A cache as large as a runner's is without more ado.
const USUAL: usize = 1024;
const ROUNDS: usize = 12;

/// Misses of both twins.
fn misses(trace: &[CacheKey]) -> (f64, f64) {
    let (optimized, plain) = (OptimizedCache::new(CAPACITY), PlainCache::new(CAPACITY));
    (traces::misses(&optimized, trace), traces::misses(&plain, trace))
}

/// Nanoseconds for a request of one thread, while several ask.
fn request(cache: &dyn ResultCache<u64>, trace: &[CacheKey]) -> f64 {
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let apart = trace.len() / THREADS * thread;
                for key in trace[apart..].iter().chain(&trace[..apart]) {
                    if black_box(cache.get(*key, 0)).is_none() {
                        cache.insert(*key, 0, None, 0);
                    }
                }
            });
        }
    });
    #[allow(clippy::cast_precision_loss)]
    let requests = (trace.len() * THREADS) as f64;
    begin.elapsed().as_secs_f64() * 1e9 / requests
}

/// The best of several rounds of both twins in turn.
fn requests(trace: &[CacheKey]) -> (f64, f64) {
    let (optimized, plain) = (OptimizedCache::new(USUAL), PlainCache::new(USUAL));
    (0..ROUNDS).fold((f64::INFINITY, f64::INFINITY), |(fast, slow), _| {
        (
            fast.min(request(&optimized, trace)),
            slow.min(request(&plain, trace)),
        )
    })
}

fn main() -> std::io::Result<()> {
    let row = |name: String, unit, (value, baseline): (f64, f64), reach, most: f64| Row {
        name,
        value,
        unit,
        baseline,
        reach,
        holds: value / baseline <= most,
        against: "the plain twin",
    };
    let traced = |name: &str, trace: &[CacheKey], reach, most| {
        row(
            format!("rust cache, misses, {name}"),
            "misses",
            misses(trace),
            reach,
            most,
        )
    };
    let mut all = Vec::new();
    for skew in [0.9, 1.0, 1.1] {
        let alone = traces::zipf(skew, 0, 42);
        all.push(traced(&format!("zipf {skew:.1}"), &alone, "<= 1 x", 1.0));
        let scans = traces::zipf(skew, 20, 42);
        all.push(traced(
            &format!("zipf {skew:.1} and 20 % scans"),
            &scans,
            "<= 0.88 x",
            0.88,
        ));
    }
    let little = traces::round_and_round(CAPACITY * 12 / 10);
    all.push(traced(
        "a loop of 1.2 times the capacity",
        &little,
        "<= 0.4 x",
        0.4,
    ));
    let much = traces::round_and_round(CAPACITY * 10);
    all.push(traced("a loop of 10 times the capacity", &much, "<= 1 x", 1.0));
    let skewed = traces::zipf(1.0, 0, 42);
    let kept: Vec<CacheKey> = skewed.iter().map(|key| CacheKey(key.0 % 700)).collect();
    let (hits, mixed) = (requests(&kept), requests(&skewed));
    all.push(row(
        "rust cache, a hit, 4 threads".into(),
        "ns",
        hits,
        "<= 0.5 x",
        0.5,
    ));
    let name = "rust cache, a request, 4 threads, a quarter miss and insert";
    all.push(row(name.into(), "ns", mixed, "reported", f64::INFINITY));
    rows::print(all)
}
