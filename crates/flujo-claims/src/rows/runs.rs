//! Whole runs: what one part or all of them together earn.

use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use flujo_core::cache::CachePolicy;
use flujo_core::config::{Part, Twin};
use flujo_core::context::Context;
use flujo_core::value::Value;
use flujo_tokio::{Handler, Pipeline, Runner, Step};
use lru::LruCache;
use tokio::runtime::Runtime;

use crate::load::{all_threads, branches, context, linear, noop, one_thread, runner, runner_with};
use crate::{Apart, Comparison, Effort};

/// Nanoseconds that each of `parts` of a run takes, over so many runs one after the other.
fn each(runtime: &Runtime, runner: &Runner, context: &Context, runs: u32, parts: u32) -> f64 {
    let begin = Instant::now();
    for _ in 0..runs {
        black_box(runtime.block_on(runner.run(Value::Int(0), context.clone())));
    }
    begin.elapsed().as_secs_f64() * 1e9 / f64::from(runs) / f64::from(parts)
}

pub(super) fn steps(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    let runtime = one_thread()?;
    let (plain, optimized) = (
        runner(linear(100), Twin::Plain)?,
        runner(linear(100), Twin::Optimized)?,
    );
    let nothing = Context::new();
    Ok(effort.compare(
        || each(&runtime, &plain, &nothing, 200, 100),
        || each(&runtime, &optimized, &nothing, 200, 100),
    ))
}

pub(super) fn branch(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    const BRANCHES: u32 = 16;
    let runtime = one_thread()?;
    let twin = |twin| runner_with(branches(BRANCHES as usize), Part::Context, twin);
    let (plain, optimized) = (twin(Twin::Plain)?, twin(Twin::Optimized)?);
    let large = context(100_000);
    Ok(effort.compare(
        || each(&runtime, &plain, &large, 4, BRANCHES),
        || each(&runtime, &optimized, &large, 25, BRANCHES),
    ))
}

pub(super) fn analysis(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    let pipeline = || {
        (0..10).fold(Pipeline::new(), |pipeline, step| {
            let same = || Handler::processor(|value, _| Ok(value.clone()));
            let accept = Handler::validator(|_, _| Ok(()));
            let step = noop(format!("step {step}"));
            pipeline.then(
                step.prompt_processor(same())
                    .output_processor(same())
                    .validator(accept),
            )
        })
    };
    let runtime = one_thread()?;
    let twin = |twin| runner_with(pipeline(), Part::Analysis, twin);
    let (plain, optimized) = (twin(Twin::Plain)?, twin(Twin::Optimized)?);
    let nothing = Context::new();
    Ok(effort.compare(
        || each(&runtime, &plain, &nothing, 300, 1),
        || each(&runtime, &optimized, &nothing, 300, 1),
    ))
}

/// Seconds that a run takes of a thousand at once.
fn at_once(runtime: &Runtime, runner: &Runner, context: &Context) -> f64 {
    const RUNS: u32 = 1_000;
    let begin = Instant::now();
    runtime.block_on(async {
        let started: Vec<_> = (0..RUNS)
            .map(|_| tokio::spawn(runner.run(Value::Int(0), context.clone())))
            .collect();
        for run in started {
            black_box(run.await.is_ok());
        }
    });
    begin.elapsed().as_secs_f64() / f64::from(RUNS)
}

pub(super) fn concurrency(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    let runtime = all_threads()?;
    let (plain, optimized) = (
        runner(branches(4), Twin::Plain)?,
        runner(branches(4), Twin::Optimized)?,
    );
    let usual = context(10_000);
    Ok(effort.compare(
        || at_once(&runtime, &plain, &usual),
        || at_once(&runtime, &optimized, &usual),
    ))
}

/// A run of one cached step whose result is there: key, look-up and result, of 10 KB each way.
pub(super) fn hits(effort: Effort, _: Apart<'_>) -> Result<Comparison, String> {
    let runtime = one_thread()?;
    let cached = |twin| {
        let same = Handler::function(|input| async move { Ok(input) });
        runner(
            Step::new("same", same).cached(CachePolicy::default()).into(),
            twin,
        )
    };
    let (plain, optimized) = (cached(Twin::Plain)?, cached(Twin::Optimized)?);
    let input = context(10_000).to_value();
    let hit = |runner: &Runner| {
        const RUNS: u32 = 100;
        let begin = Instant::now();
        for _ in 0..RUNS {
            black_box(runtime.block_on(runner.run(input.clone(), Context::new())));
        }
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(RUNS)
    };
    let compared = effort.compare(|| hit(&plain), || hit(&optimized));
    let outside = by_hand(effort, &input)?;
    for runner in [&plain, &optimized] {
        let misses = runner.performance_statistics().cache_misses;
        if misses != 1 {
            return Err(format!(
                "the result was looked for in vain {misses} times where once is right"
            ));
        }
    }
    Ok(compared.beside("serde_json, BLAKE3, Mutex and lru", outside))
}

/// Nanoseconds of what a program does that caches by itself, with what others have written.
fn by_hand(effort: Effort, input: &Value) -> Result<Vec<f64>, String> {
    const TIMES: u32 = 100;
    let input = serde_json::to_value(input).map_err(|error| error.to_string())?;
    let key = |input: &serde_json::Value| serde_json::to_vec(input).map(|text| blake3::hash(&text));
    let known = Mutex::new(LruCache::new(NonZeroUsize::MIN));
    let first = key(&input).map_err(|error| error.to_string())?;
    let mut known_now = known.lock().unwrap_or_else(PoisonError::into_inner);
    known_now.put(first, input.clone());
    drop(known_now);
    Ok(effort.sample(|| {
        let begin = Instant::now();
        for _ in 0..TIMES {
            let Ok(key) = key(black_box(&input)) else {
                return f64::NAN;
            };
            let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
            black_box(known.get(&key).cloned());
        }
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
    }))
}
