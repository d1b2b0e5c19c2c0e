//! Typed cached steps: found by what they read, cloned for each who gets them, kept beyond the process when durable.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flujo::{BoxError, BoxFuture, Cache, CachePolicy, Context, Flujo, Scope, SecondTier, Step, step};
use flujo_core::cache::{CacheKey, TierEntry, TierError};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Report {
    items: Vec<u32>,
}

#[derive(Clone, Default, Context)]
struct Caller {
    tenant: u32,
    time: u32,
}

fn report(ran: &Arc<AtomicU32>) -> Step<u32, Report, Caller> {
    let ran = Arc::clone(ran);
    step("report", move |input: u32, scope: Scope<Caller>| {
        ran.fetch_add(1, Ordering::Relaxed);
        async move {
            let tenant = scope.context().get()?.tenant;
            Ok::<_, BoxError>(Report {
                items: vec![input, tenant],
            })
        }
    })
}

#[tokio::test]
async fn each_who_gets_a_result_has_a_clone_of_its_own() {
    let ran = Arc::new(AtomicU32::new(0));
    let push = |mut report: Report| async move {
        report.items.push(9);
        Ok::<_, BoxError>(report)
    };
    let flujo = Flujo::new(report(&ran).cached(CachePolicy::default()) >> step("push", push));
    for _ in 0..3 {
        let mut done = flujo.run(1).await.unwrap();
        assert_eq!(done.output.items, [1, 0, 9]);
        done.output.items.clear();
        let kept: &Report = done.steps.get("report").unwrap().output().unwrap();
        assert_eq!(kept.items, [1, 0]);
    }
    assert_eq!(ran.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_typed_context_is_read_as_a_whole_and_another_one_is_another_question() {
    let ran = Arc::new(AtomicU32::new(0));
    let flujo = Flujo::new(report(&ran).cached(CachePolicy::default()));
    for (tenant, time, times) in [(1, 1, 1), (1, 1, 1), (2, 1, 2), (1, 2, 3)] {
        let done = flujo.run_with(7, &Caller { tenant, time }).await.unwrap();
        assert_eq!(
            (done.output.items, ran.load(Ordering::Relaxed)),
            (vec![7, tenant], times)
        );
    }
}

#[derive(Default)]
struct Shelf(Mutex<HashMap<CacheKey, Arc<[u8]>>>);

impl SecondTier for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }

    fn get(&self, key: CacheKey) -> BoxFuture<'_, Result<Option<TierEntry>, TierError>> {
        let bytes = self.0.lock().unwrap().get(&key).map(Arc::clone);
        Box::pin(async move {
            Ok(bytes.map(|bytes| TierEntry {
                bytes,
                expires_in: None,
            }))
        })
    }

    fn put(
        &self,
        key: CacheKey,
        bytes: Arc<[u8]>,
        _: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), TierError>> {
        self.0.lock().unwrap().insert(key, bytes);
        Box::pin(async { Ok(()) })
    }
}

#[tokio::test]
async fn a_durable_step_with_a_version_is_found_beyond_the_process() {
    let (ran, shelf) = (Arc::new(AtomicU32::new(0)), Arc::new(Shelf::default()));
    let policy = CachePolicy::default().version("1");
    for durable in [true, true, false] {
        let step = report(&ran).cached(policy.clone());
        let step = if durable { step.durable() } else { step };
        let cache = Cache::builder()
            .second_tier(Arc::clone(&shelf) as Arc<dyn SecondTier>)
            .build();
        let flujo = Flujo::builder(step).cache(&cache).build().unwrap();
        assert_eq!(flujo.run(5).await.unwrap().output, Report { items: vec![5, 0] });
        cache.flush().await;
    }
    // The second one found it; the third can't read it, since its type isn't said to be durable.
    assert_eq!(ran.load(Ordering::Relaxed), 2);
}
