//! What the optimised parts are given that they can't work with: a clear error or documented containment, and the run's
//! result unharmed. Alerts are in `alerts.rs`, values that can't be kept in `caching.rs`, collectors in `flujo-observe`,
//! parts that fail in the middle in `degraded.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use flujo_core::cache::CachePolicy;
use flujo_core::config::OptimizationConfig;
use flujo_core::context::Context;
use flujo_core::usage::{Cost, Usage, UsageLimits};
use flujo_core::value::{Opaque, Value};
use flujo_tokio::{BuildError, Handler, Parallel, Pipeline, Runner, Step};

#[test]
fn a_cost_that_is_no_amount_is_refused_and_never_counted() {
    for dollars in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.01, 1e300] {
        let error = Cost::from_dollars(dollars).unwrap_err().to_string();
        assert!(!error.is_empty());
    }
    assert_eq!(Cost::from_nanos(-1), None);
}

#[tokio::test]
async fn usage_beyond_what_can_be_counted_is_held_at_the_most_and_passes_a_limit() {
    for optimized in [true, false] {
        let much = Step::new(
            "much",
            Handler::scoped(|input, scope| async move {
                let most = Usage {
                    cost: Cost::from_nanos(i64::MAX).unwrap_or_default(),
                    tokens: u64::MAX,
                    requests: u64::MAX,
                    unpriced: false,
                };
                scope.add_usage(most);
                scope.add_usage(most);
                Ok(input)
            }),
        );
        let twice = Pipeline::from(much.clone()).then(much);
        let unlimited = Runner::builder(twice.clone()).optimizations(optimized).build();
        let done = unlimited.unwrap().run(Value::Null, Context::new()).await;
        assert_eq!((done.status(), done.finish.usage.tokens), ("completed", u64::MAX));
        let limits = UsageLimits {
            tokens: Some(1 << 62),
            ..UsageLimits::default()
        };
        let limited = Runner::builder(twice)
            .usage_limits(limits)
            .optimizations(optimized);
        let done = limited.build().unwrap().run(Value::Null, Context::new()).await;
        assert_eq!(done.status(), "limit_exceeded");
    }
}

#[tokio::test]
async fn a_pool_or_cache_of_a_million_million_takes_no_memory_for_it() {
    for optimized in [true, false] {
        let ran = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&ran);
        let step = Step::new(
            "count",
            Handler::processor(move |input, _| {
                counted.fetch_add(1, Ordering::Relaxed);
                Ok(input.clone())
            }),
        );
        let config = OptimizationConfig {
            max_pool_size: 1_000_000_000_000,
            cache_max_size: 1_000_000_000_000,
            ..OptimizationConfig::default()
        };
        let runner = Runner::builder(step.cached(CachePolicy::default()))
            .optimization_config(config)
            .optimizations(optimized)
            .build()
            .unwrap();
        for _ in 0..20 {
            let done = runner.run(Value::from(1), Context::new()).await;
            assert_eq!(done.output(), Some(&Value::from(1)));
        }
        assert_eq!(ran.load(Ordering::Relaxed), 1);
        assert!(runner.performance_statistics().pool_stats.retained["machine"] <= 1);
    }
}

#[test]
fn thresholds_out_of_range_are_refused_with_the_field_the_value_and_what_is_allowed() {
    type Set = fn(&mut OptimizationConfig, f64);
    let fields: [(&str, Set, &[f64]); 4] = [
        (
            "execution_time_threshold",
            |config, value| config.execution_time_threshold = value,
            &[],
        ),
        (
            "memory_usage_threshold",
            |config, value| config.memory_usage_threshold = value,
            &[],
        ),
        (
            "cache_hit_rate_threshold",
            |config, value| config.cache_hit_rate_threshold = value,
            &[1.01],
        ),
        (
            "cache_ttl_seconds",
            |config, value| config.cache_ttl_seconds = Some(value),
            &[],
        ),
    ];
    for (field, set, more) in fields {
        for value in [f64::NAN, f64::INFINITY, -1.0].iter().chain(more) {
            let mut config = OptimizationConfig::default();
            set(&mut config, *value);
            let step = Step::new("only", Handler::processor(|input, _| Ok(input.clone())));
            let built = Runner::builder(step).optimization_config(config).build();
            let Err(BuildError::Optimization(error)) = built else {
                unreachable!("{field} of {value} was taken");
            };
            assert_eq!(error.field, field);
            assert!(error.to_string().contains(&value.to_string()), "{error}");
        }
    }
}

/// Something that nobody can copy or store.
#[derive(Debug)]
struct Handle(u32);

#[tokio::test]
async fn what_cannot_be_isolated_or_stored_is_handed_on_in_contexts_branches_and_past_the_cache() {
    for optimized in [true, false] {
        let made = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&made);
        let gives = Step::new(
            "gives",
            Handler::processor(move |_, _| {
                Ok(Value::Opaque(Opaque::new(Handle(
                    counted.fetch_add(1, Ordering::Relaxed),
                ))))
            }),
        );
        let looks = |name: &str| {
            Step::new(
                name,
                Handler::scoped(|input: Value, scope| async move {
                    tokio::task::yield_now().await;
                    let number = |value: &Value| match value {
                        Value::Opaque(object) => object.downcast_ref::<Handle>().map(|handle| handle.0),
                        _ => None,
                    };
                    let context = scope.context();
                    let bench = context.get("bench").and_then(number);
                    Ok(Value::list([
                        Value::from(i64::from(number(&input).unwrap_or(99))),
                        Value::from(i64::from(bench.unwrap_or(99))),
                    ]))
                }),
            )
        };
        let fan = Parallel::new("fan")
            .branch("a", looks("a"))
            .branch("b", looks("b"));
        let pipeline = Pipeline::from(gives.cached(CachePolicy::default())).then(fan);
        let runner = Runner::builder(pipeline)
            .optimizations(optimized)
            .build()
            .unwrap();
        for run in 0..2 {
            let mut context = Context::new();
            context.set("bench", Value::Opaque(Opaque::new(Handle(7))));
            let done = runner.run(Value::Null, context).await;
            let seen = Value::list([Value::from(run), Value::from(7)]);
            let output = done.output().unwrap();
            assert_eq!((output.get("a"), output.get("b")), (Some(&seen), Some(&seen)));
        }
        assert_eq!(
            made.load(Ordering::Relaxed),
            2,
            "a result that can't be isolated is made each time"
        );
        assert_eq!(runner.performance_statistics().alerts, []);
    }
}
