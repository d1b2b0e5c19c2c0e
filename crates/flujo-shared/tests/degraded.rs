//! A Redis server that dies while a run uses it: the run goes on, one alert says so, and nothing is made twice.
#![allow(clippy::expect_used, clippy::unwrap_used)] // a test fails by panicking

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::redis_server::RedisProcess;
use flujo_core::cache::CachePolicy;
use flujo_core::config::{Part, Twin};
use flujo_core::context::Context;
use flujo_core::stats::AlertKind;
use flujo_core::value::Value;
use flujo_shared::cache::{RedisStore, Tier};
use flujo_shared::server::ServerOptions;
use flujo_tokio::{Cache, Handler, Pipeline, Runner, Step};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_within_a_run_is_told_of_and_nothing_is_made_twice() {
    let server = Arc::new(Mutex::new(RedisProcess::start()));
    let mut options = ServerOptions::default();
    options.connect_timeout = Duration::from_mins(1);
    options.operation_timeout = Duration::from_mins(1);
    let store = RedisStore::new(&server.lock().unwrap().address(), options).unwrap();
    let cache = Cache::builder().second_tier(Arc::new(Tier::new(store))).build();
    let made = Arc::new(AtomicU32::new(0));
    let more = || {
        let made = Arc::clone(&made);
        let more = Handler::processor(move |input, _| {
            made.fetch_add(1, Ordering::Relaxed);
            Ok(Value::from(input.as_int().unwrap_or(0) + 1))
        });
        Step::new("more", more).cached(CachePolicy::default().version("1"))
    };
    let dies = {
        let (server, cache) = (Arc::clone(&server), cache.clone());
        Handler::function(move |input| {
            let (server, cache) = (Arc::clone(&server), cache.clone());
            async move {
                cache.flush().await;
                server.lock().unwrap().kill();
                Ok(input)
            }
        })
    };
    let zero = Handler::processor(|_, _| Ok(Value::from(0)));
    let pipeline = Pipeline::from(more()) // made, and stored there
        .then(Step::new("dies", dies))
        .then(more()) // made: it is another input, and the server is dead
        .then(Step::new("zero", zero))
        .then(more()) // found in memory
        .then(more()); // so is this
    let runner = Runner::builder(pipeline).cache(&cache).build().unwrap();
    let done = runner.run(Value::from(0), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::from(2)));
    assert_eq!(made.load(Ordering::Relaxed), 2, "each result once");
    cache.flush().await;
    let statistics = runner.performance_statistics();
    let degraded: Vec<_> = statistics
        .alerts
        .iter()
        .filter(|alert| alert.kind == AlertKind::Degraded)
        .collect();
    assert_eq!(degraded.len(), 1, "{degraded:?}");
    assert_eq!(degraded[0].part, Part::Cache);
    assert!(degraded[0].message.contains("redis"), "{}", degraded[0].message);
    assert_eq!(statistics.optimizations[&Part::Cache].twin, Twin::Plain);
    assert!(cache.statistics().tier.unwrap().errors > 0);
    assert_eq!((statistics.cache_hits, statistics.cache_misses), (2, 2));
}
