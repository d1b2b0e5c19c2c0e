//! Cached steps on tokio: made once, found by whoever wants the same, isolated, and never another's.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flujo_core::agent::BoxFuture;
use flujo_core::cache::{CacheKey, SecondTier, TierEntry, TierError};
use flujo_core::config::OptimizationConfig;
use flujo_core::context::Context;
use flujo_core::machine::Status;
use flujo_core::stats::AlertKind;
use flujo_core::usage::{Cost, Usage, UsageLimits};
use flujo_core::value::{Opaque, Value};
use flujo_tokio::{
    Cache, CachePolicy, CacheScope, Handler, Human, MapOver, Merge, Parallel, Pipeline, Run, Runner,
    RunnerBuilder, Step,
};
use tokio::sync::Notify;

/// Counts how often something ran.
#[derive(Clone, Default)]
struct Ran(Arc<AtomicU32>);

impl Ran {
    fn once_more(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn times(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

fn policy() -> CachePolicy {
    CachePolicy::default()
}

/// A step that gives how often it ran.
fn counting(name: &str, ran: &Ran) -> Step {
    let ran = ran.clone();
    let count = Handler::function(move |_| {
        let times = ran.once_more();
        async move { Ok(Value::Int(i64::from(times))) }
    });
    Step::new(name.to_owned(), count)
}

fn context(fields: &[(&str, i64)]) -> Context {
    let fields = fields
        .iter()
        .map(|(name, value)| (Arc::from(*name), Value::Int(*value)));
    fields.collect()
}

async fn output(run: Run) -> Value {
    run.await.output().unwrap().clone()
}

fn build(builder: RunnerBuilder) -> Runner {
    builder.build().unwrap()
}

#[tokio::test]
async fn nothing_is_cached_that_is_not_declared_cacheable() {
    let ran = Ran::default();
    let runner = build(Runner::builder(counting("count", &ran)));
    for times in 1..4 {
        assert_eq!(
            output(runner.run(Value::Null, Context::new())).await,
            Value::Int(times)
        );
    }
    let statistics = runner.performance_statistics();
    assert_eq!((statistics.cache_hits, statistics.cache_misses), (0, 0));
}

#[tokio::test]
async fn a_hit_costs_nothing_counts_against_no_limit_and_says_what_it_saved() {
    let ran = Ran::default();
    let paid = {
        let ran = ran.clone();
        Handler::scoped(move |_, scope| {
            ran.once_more();
            scope.add_usage(Usage::new(Cost::from_dollars(0.02).unwrap(), 100));
            async move { Ok(Value::from("answer")) }
        })
    };
    let step = Pipeline::from(
        Step::new("ask", paid)
            .cached(policy())
            .cache_key(|_| Ok(Value::Null)),
    );
    let limits = UsageLimits {
        cost: Some(Cost::from_dollars(0.03).unwrap()),
        tokens: Some(150),
        ..UsageLimits::default()
    };
    let three_times = step.clone().then(step.clone()).then(step);
    let runner = build(Runner::builder(three_times).usage_limits(limits));
    let done = runner.run(Value::from("question"), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::from("answer")));
    let used = Usage::new(Cost::from_dollars(0.02).unwrap(), 100);
    assert_eq!(
        (done.finish.usage.cost, done.finish.usage.tokens),
        (used.cost, used.tokens)
    );
    let records = &done.finish.history.records;
    let saved = records
        .iter()
        .map(|record| record.details.as_ref().and_then(|details| details.saved));
    let saved: Vec<_> = saved
        .map(|saved| saved.map(|saved| (saved.cost, saved.tokens)))
        .collect();
    let hit = Some((used.cost, used.tokens));
    assert_eq!(saved, [None, hit, hit]);
    assert_eq!((records[1].usage, records[1].attempts), (Usage::ZERO, 0));
    let statistics = runner.performance_statistics();
    assert_eq!(
        (ran.times(), statistics.cache_hits, statistics.cache_misses),
        (1, 2, 1)
    );
    assert!((statistics.cache_hit_rate - 200.0 / 3.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_key_depends_on_what_the_step_reads_and_on_the_fingerprints_of_resources() {
    let ran = Ran::default();
    let step = |scope: CacheScope| {
        let ran = ran.clone();
        let read = Handler::scoped(move |_, scope| {
            ran.once_more();
            let tenant = scope.context().get("tenant").cloned().unwrap_or_default();
            async move { Ok(tenant) }
        });
        Pipeline::from(Step::new("read", read).cached(policy().scope(scope)))
    };
    let cache = Cache::builder().build();
    let auto = step(CacheScope::Auto);
    let with_model = |pipeline: &Pipeline, model: &str| {
        build(
            Runner::builder(pipeline.clone())
                .cache(&cache)
                .fingerprint("model", model),
        )
    };
    let (runner, other_model) = (with_model(&auto, "small"), with_model(&auto, "large"));
    let of = |runner: &Runner, tenant, time| {
        let fields = context(&[("tenant", tenant), ("time", time)]);
        output(runner.run(Value::Null, fields))
    };
    // The time is not read, so it makes no difference.
    for (tenant, time) in [(1, 1), (2, 2), (1, 3), (2, 4)] {
        assert_eq!(of(&runner, tenant, time).await, Value::Int(tenant));
    }
    assert_eq!(ran.times(), 2);
    assert_eq!(of(&other_model, 1, 1).await, Value::Int(1));
    assert_eq!(ran.times(), 3);
    // Who says that the input is all gets the first one's result.
    let input_only = build(Runner::builder(step(CacheScope::Input)));
    assert_eq!(of(&input_only, 1, 1).await, Value::Int(1));
    assert_eq!(of(&input_only, 2, 1).await, Value::Int(1));
    assert_eq!(ran.times(), 4);
    let declared = CacheScope::declared(["context.time", "resources.model"]).unwrap();
    let declared = with_model(&step(declared), "small");
    for (time, times) in [(1, 5), (1, 5), (2, 6)] {
        let _ = of(&declared, 1, time).await;
        assert_eq!(ran.times(), times);
    }
}

#[tokio::test]
async fn a_step_that_reads_too_much_or_names_an_unknown_resource_runs_each_time_and_the_reason_is_counted() {
    let ran = Ran::default();
    let step = |scope| {
        let ran = ran.clone();
        let read = Handler::scoped(move |_, scope| {
            ran.once_more();
            for field in 0..20 {
                let _ = scope.context().get(&format!("field{field}"));
            }
            async move { Ok(Value::Null) }
        });
        Step::new("read", read).cached(policy().scope(scope))
    };
    let unknown = CacheScope::declared(["resources.prices"]).unwrap();
    for (scope, reason, times) in [(CacheScope::Auto, "too_many_fields", 2), (unknown, "resource", 4)] {
        let cache = Cache::builder().build();
        let runner = build(Runner::builder(step(scope)).cache(&cache));
        for _ in 0..2 {
            assert_eq!(output(runner.run(Value::Null, Context::new())).await, Value::Null);
        }
        assert_eq!(ran.times(), times);
        assert_eq!(cache.statistics().steps.uncached, BTreeMap::from([(reason, 2)]));
    }
}

#[tokio::test]
async fn inputs_of_other_types_are_other_inputs() {
    let ran = Ran::default();
    let runner = build(Runner::builder(counting("count", &ran).cached(policy())));
    let one = Value::Int(1);
    let inputs = [
        one.clone(),
        Value::Bool(true),
        Value::Float(1.0),
        Value::list([one]),
        Value::from("1"),
    ];
    for _ in 0..2 {
        for (place, input) in (1..).zip(&inputs) {
            assert_eq!(
                output(runner.run(input.clone(), Context::new())).await,
                Value::Int(place)
            );
        }
    }
    let forth = Value::map([("a", Value::Int(1)), ("b", Value::Int(2))]);
    let back = Value::map([("b", Value::Int(2)), ("a", Value::Int(1))]);
    assert_eq!(output(runner.run(forth, Context::new())).await, Value::Int(6));
    assert_eq!(output(runner.run(back, Context::new())).await, Value::Int(6));
}

#[tokio::test]
async fn steps_that_look_alike_get_no_results_of_one_another() {
    let cache = Cache::builder().build();
    for number in 0..200_i64 {
        // Closures of one place in the source, one after the other at perhaps the same address.
        let give = Handler::function(move |_| async move { Ok(Value::Int(number)) });
        let runner = build(Runner::builder(Step::new("give", give).cached(policy())).cache(&cache));
        for _ in 0..2 {
            assert_eq!(
                output(runner.run(Value::Null, Context::new())).await,
                Value::Int(number)
            );
        }
    }
    assert_eq!(
        (cache.statistics().steps.hits, cache.statistics().steps.misses),
        (200, 200)
    );
}

#[derive(Clone)]
struct Basket(Vec<i64>);

#[tokio::test]
async fn a_hit_hands_out_an_isolated_value_and_what_cannot_be_isolated_is_not_kept() {
    /// A counter that everybody who holds it shares, unless it is cloned.
    struct Shared(AtomicU32);
    impl Clone for Shared {
        fn clone(&self) -> Self {
            Self(AtomicU32::new(self.0.load(Ordering::Relaxed)))
        }
    }
    let fill = |cloneable: bool| {
        let fill = Handler::function(move |_| async move {
            let shared = Shared(AtomicU32::new(1));
            Ok(if cloneable {
                Value::Opaque(Opaque::cloneable(shared, None))
            } else {
                Value::opaque(shared)
            })
        });
        let cache = Cache::builder().build();
        (
            build(Runner::builder(Step::new("fill", fill).cached(policy())).cache(&cache)),
            cache,
        )
    };
    let touch = |value: &Value| match value {
        Value::Opaque(object) => object
            .downcast_ref::<Shared>()
            .unwrap()
            .0
            .fetch_add(1, Ordering::Relaxed),
        _ => 0,
    };
    let (runner, cache) = fill(true);
    for _ in 0..3 {
        assert_eq!(touch(&output(runner.run(Value::Null, Context::new())).await), 1);
    }
    assert_eq!(cache.statistics().steps.hits, 2);
    let (runner, cache) = fill(false);
    for _ in 0..3 {
        assert_eq!(touch(&output(runner.run(Value::Null, Context::new())).await), 1);
    }
    assert_eq!(cache.statistics().steps.uncached, BTreeMap::from([("output", 3)]));
    // What a run did with its own result is nobody else's.
    let basket = Value::Opaque(Opaque::cloneable(Basket(vec![1]), None));
    let isolated = basket.isolated().unwrap();
    let (Value::Opaque(mine), Value::Opaque(theirs)) = (basket, isolated) else {
        unreachable!()
    };
    assert!(!mine.same_object(&theirs));
    assert_eq!(theirs.take::<Basket>().ok().unwrap().0, [1]);
}

#[tokio::test]
async fn runs_and_items_at_the_same_time_make_a_result_once() {
    let (ran, go) = (Ran::default(), Arc::new(Notify::new()));
    let slow = {
        let (ran, go) = (ran.clone(), Arc::clone(&go));
        Handler::function(move |_| {
            let (times, go) = (ran.once_more(), Arc::clone(&go));
            async move {
                go.notified().await;
                Ok(Value::Int(i64::from(times)))
            }
        })
    };
    let each = MapOver::new("each", Step::new("slow", slow).cached(policy())).max_concurrency(50);
    let runner = build(Runner::builder(each));
    let items = Value::list(vec![Value::Int(7); 50]);
    let runs: Vec<_> = (0..4)
        .map(|_| tokio::spawn(output(runner.run(items.clone(), Context::new()))))
        .collect();
    while ran.times() == 0 {
        tokio::task::yield_now().await;
    }
    go.notify_one();
    for run in runs {
        assert_eq!(run.await.unwrap(), Value::list(vec![Value::Int(1); 50]));
    }
    assert_eq!(ran.times(), 1);
    let statistics = runner.performance_statistics();
    assert_eq!((statistics.cache_hits, statistics.cache_misses), (199, 1));
}

#[tokio::test]
async fn when_the_run_that_makes_a_result_fails_or_is_dropped_another_one_takes_over() {
    let (ran, begun, go) = (Ran::default(), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let slow = {
        let (ran, begun, go) = (ran.clone(), Arc::clone(&begun), Arc::clone(&go));
        Handler::function(move |_| {
            let (times, begun, go) = (ran.once_more(), Arc::clone(&begun), Arc::clone(&go));
            async move {
                begun.notify_one();
                go.notified().await;
                match times {
                    2 => Err("the second one fails".into()),
                    times => Ok(Value::Int(i64::from(times))),
                }
            }
        })
    };
    let runner = build(Runner::builder(
        Step::new("slow", slow).retries(0).cached(policy()),
    ));
    let start = || {
        let run = runner.run(Value::Null, Context::new());
        tokio::spawn(async move { run.await.output().cloned() })
    };
    let first = start();
    begun.notified().await;
    let (second, third, fourth) = (start(), start(), start());
    // The first is dropped, the second fails, the third makes it for the fourth.
    first.abort();
    begun.notified().await;
    go.notify_one();
    begun.notified().await;
    go.notify_one();
    let mut outputs = vec![second.await.unwrap(), third.await.unwrap(), fourth.await.unwrap()];
    outputs.sort_by_key(|output| output.as_ref().and_then(Value::as_int));
    assert_eq!(outputs, [None, Some(Value::Int(3)), Some(Value::Int(3))]);
    assert_eq!(ran.times(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_result_expires_and_waiting_for_one_counts_against_the_deadline() {
    let ran = Ran::default();
    let hour = Duration::from_hours(1);
    let runner = build(Runner::builder(
        counting("count", &ran).cached(policy().ttl(hour)),
    ));
    let run = || output(runner.run(Value::Null, Context::new()));
    assert_eq!((run().await, run().await), (Value::Int(1), Value::Int(1)));
    tokio::time::advance(hour).await;
    assert_eq!(run().await, Value::Int(2));

    let forever = Handler::function(|_| std::future::pending());
    let step = Step::new("forever", forever)
        .cached(policy())
        .deadline(Duration::from_secs(5));
    let runner = build(Runner::builder(step));
    let (one, two) = tokio::join!(
        runner.run(Value::Null, Context::new()).into_future(),
        runner.run(Value::Null, Context::new()).into_future(),
    );
    let attempts: Vec<_> = [&one, &two]
        .map(|done| done.finish.history.records[0].attempts)
        .into();
    assert_eq!(attempts.iter().sum::<u32>(), 1, "one of them only waited");
    for done in [one, two] {
        assert_eq!(done.finish.history.records[0].status, Status::Failed);
    }
}

#[tokio::test]
async fn what_a_step_writes_is_written_on_a_hit_and_a_step_that_writes_otherwise_is_not_kept() {
    let ran = Ran::default();
    let runner = build(Runner::builder(
        counting("count", &ran).cached(policy()).sink_to("report.count"),
    ));
    for _ in 0..2 {
        let done = runner.run(Value::Null, Context::new()).await;
        assert_eq!(done.finish.context.get_path("report.count"), Some(&Value::Int(1)));
    }
    let writes = Handler::scoped(|_, scope| {
        scope.update(|context| context.set("seen", Value::Int(1)));
        async move { Ok(Value::Null) }
    });
    let cache = Cache::builder().build();
    let runner = build(Runner::builder(Step::new("writes", writes).cached(policy())).cache(&cache));
    for _ in 0..2 {
        let done = runner.run(Value::Null, Context::new()).await;
        assert_eq!(done.finish.context.get("seen"), Some(&Value::Int(1)));
    }
    assert_eq!(cache.statistics().steps.uncached, BTreeMap::from([("wrote", 2)]));
}

#[tokio::test]
async fn what_a_step_writes_as_it_was_already_is_written_where_it_was_not() {
    type Write = fn(&mut Context);
    let ways: [Write; 3] = [
        |context| context.set("note", Value::Int(1)),
        |context| {
            context.set("note", Value::Int(9));
            context.set("note", Value::Int(1));
        },
        |context| {
            context.remove("other");
            let _ = context.set_path("note", Value::Int(1));
        },
    ];
    for write in ways {
        let ran = Ran::default();
        let counted = ran.clone();
        let writes = Handler::scoped(move |_, scope| {
            counted.once_more();
            scope.update(write);
            async move { Ok(Value::Null) }
        });
        let runner = build(Runner::builder(Step::new("writes", writes).cached(policy())));
        for note in [1, 2, 1, 2] {
            let done = runner.run(Value::Null, context(&[("note", note)])).await;
            assert_eq!(done.finish.context.get("note"), Some(&Value::Int(1)));
        }
        assert_eq!(
            ran.times(),
            3,
            "the note is 1 already: found; it is 2: made each time"
        );
    }
}

#[tokio::test]
async fn a_construct_is_cached_as_a_whole_by_what_its_parts_read() {
    let ran = Ran::default();
    let read = |field: &'static str| {
        let ran = ran.clone();
        let read = Handler::scoped(move |_, scope| {
            ran.once_more();
            let value = scope.context().get(field).cloned().unwrap_or_default();
            async move { Ok(value) }
        });
        Step::new(field, read)
    };
    let both = Parallel::new("both")
        .branch("x", read("x"))
        .branch("y", read("y"))
        .merge(Merge::default());
    let runner = build(Runner::builder(Step::body("both", both).cached(policy())));
    for (x, y, z, times) in [(1, 2, 3, 2), (1, 2, 4, 2), (1, 3, 4, 4), (1, 2, 5, 4)] {
        let done = runner
            .run(Value::Null, context(&[("x", x), ("y", y), ("z", z)]))
            .await;
        let expected = Value::map([("x", Value::Int(x)), ("y", Value::Int(y))]);
        assert_eq!((done.output(), ran.times()), (Some(&expected), times));
    }
}

#[tokio::test]
async fn both_twins_and_a_switch_while_running_give_the_same_results() {
    for enabled in [true, false] {
        let ran = Ran::default();
        let config = OptimizationConfig {
            cache_max_size: 2,
            cache_ttl_seconds: None,
            ..OptimizationConfig::default()
        };
        let runner = Runner::builder(counting("count", &ran).cached(policy()));
        let runner = build(runner.optimization_config(config).optimizations(enabled));
        for input in [1, 1, 2, 2, 1] {
            let _ = output(runner.run(Value::Int(input), Context::new())).await;
        }
        assert_eq!(ran.times(), 2);
        if enabled {
            runner.disable_optimizations();
        } else {
            runner.enable_optimizations();
        }
        let _ = output(runner.run(Value::Int(1), Context::new())).await;
        assert_eq!(ran.times(), 3, "each twin keeps its own results");
    }
}

/// A second tier in memory, which may fail or never answer.
#[derive(Default)]
struct Shelf {
    kept: Mutex<HashMap<CacheKey, Arc<[u8]>>>,
    asked: AtomicU32,
    trouble: Mutex<Option<Trouble>>,
}

#[derive(Clone, Copy)]
enum Trouble {
    Fails,
    Hangs,
}

impl Shelf {
    fn get_into(&self, trouble: Option<Trouble>) {
        *self.trouble.lock().unwrap() = trouble;
    }

    fn answer<'a, T: Send + 'a>(&self, answer: T) -> BoxFuture<'a, Result<T, TierError>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match *self.trouble.lock().unwrap() {
            None => Box::pin(async move { Ok(answer) }),
            Some(Trouble::Fails) => Box::pin(async { Err(TierError::new("the shelf is broken")) }),
            Some(Trouble::Hangs) => Box::pin(std::future::pending()),
        }
    }
}

impl SecondTier for Shelf {
    fn name(&self) -> &'static str {
        "shelf"
    }

    fn get(&self, key: CacheKey) -> BoxFuture<'_, Result<Option<TierEntry>, TierError>> {
        let bytes = self.kept.lock().unwrap().get(&key).map(Arc::clone);
        self.answer(bytes.map(|bytes| TierEntry {
            bytes,
            expires_in: None,
        }))
    }

    fn put(
        &self,
        key: CacheKey,
        bytes: Arc<[u8]>,
        _: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), TierError>> {
        if self.trouble.lock().unwrap().is_none() {
            self.kept.lock().unwrap().insert(key, bytes);
        }
        self.answer(())
    }
}

#[tokio::test]
async fn steps_with_a_version_are_found_in_the_second_tier_by_other_processes() {
    let shelf = Arc::new(Shelf::default());
    let ran = Ran::default();
    // Another process has a cache and a pipeline of its own, and the same tier.
    let process = |version: Option<&str>| {
        let tenant = {
            let ran = ran.clone();
            Handler::scoped(move |_, scope| {
                ran.once_more();
                scope.add_usage(Usage::new(Cost::ZERO, 9));
                let tenant = scope.context().get("tenant").cloned().unwrap_or_default();
                async move {
                    Ok(Value::map([
                        ("tenant", tenant),
                        ("list", Value::list([Value::Float(1.0)])),
                    ]))
                }
            })
        };
        let mut policy = policy();
        policy.version = version.map(Arc::from);
        let cache = Cache::builder()
            .second_tier(Arc::clone(&shelf) as Arc<dyn SecondTier>)
            .build();
        let runner = build(Runner::builder(Step::new("read", tenant).cached(policy)).cache(&cache));
        (runner, cache)
    };
    let fields = |time| context(&[("tenant", 1), ("time", time)]);
    for (time, version) in [(1, "1"), (2, "1"), (3, "1"), (4, "2")] {
        let (runner, cache) = process(Some(version));
        let done = runner.run(Value::from("x"), fields(time)).await;
        assert_eq!(
            done.output().unwrap().get("list"),
            Some(&Value::list([Value::Float(1.0)]))
        );
        cache.flush().await;
        let made = time == 1 || version == "2";
        let saved = done.finish.history.records[0]
            .details
            .as_ref()
            .and_then(|details| details.saved);
        assert_eq!(saved.map(|saved| saved.tokens), (!made).then_some(9));
        assert_eq!(cache.statistics().steps.misses, u64::from(made));
        assert_eq!(cache.statistics().tier.unwrap().errors, 0);
    }
    assert_eq!(ran.times(), 2);
    // Steps that only this process knows stay in it.
    let asked = shelf.asked.load(Ordering::Relaxed);
    let (runner, cache) = process(None);
    let _ = output(runner.run(Value::from("x"), fields(1))).await;
    cache.flush().await;
    assert_eq!(shelf.asked.load(Ordering::Relaxed), asked);
}

#[tokio::test(start_paused = true)]
async fn when_the_second_tier_fails_or_hangs_the_first_carries_on_and_it_is_told_once() {
    for trouble in [Trouble::Fails, Trouble::Hangs] {
        let shelf = Arc::new(Shelf::default());
        let cache = Cache::builder()
            .second_tier(Arc::clone(&shelf) as Arc<dyn SecondTier>)
            .build();
        let ran = Ran::default();
        let step = counting("count", &ran).cached(policy().version("1"));
        let runner = build(Runner::builder(step).cache(&cache));
        let run = |input| output(runner.run(Value::Int(input), Context::new()));
        assert_eq!(run(1).await, Value::Int(1));
        cache.flush().await;
        shelf.get_into(Some(trouble));
        // What is in memory is found, what isn't is made; the tier is asked once and then left alone.
        assert_eq!(
            (run(1).await, run(2).await, run(3).await, run(2).await),
            (Value::Int(1), Value::Int(2), Value::Int(3), Value::Int(2))
        );
        cache.flush().await;
        let tier = cache.statistics().tier.unwrap();
        assert_eq!((tier.name, tier.errors), ("shelf", 1));
        assert!(tier.passed_by >= 2);
        let alerts = runner.performance_statistics().alerts;
        let degraded: Vec<_> = alerts
            .iter()
            .filter(|alert| alert.kind == AlertKind::Degraded)
            .collect();
        assert_eq!(degraded.len(), 1);
        assert!(degraded[0].message.contains("shelf"), "{}", degraded[0].message);
        // After a while it is asked again, and when it works, used again.
        shelf.get_into(None);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(run(4).await, Value::Int(4));
        cache.flush().await;
        let other = Cache::builder()
            .second_tier(Arc::clone(&shelf) as Arc<dyn SecondTier>)
            .build();
        let step = counting("count", &ran).cached(policy().version("1"));
        let runner = build(Runner::builder(step).cache(&other));
        assert_eq!(
            output(runner.run(Value::Int(4), Context::new())).await,
            Value::Int(4)
        );
    }
}

#[tokio::test]
async fn a_run_that_stands_still_for_an_answer_lets_another_one_make_the_result() {
    let asked = Arc::new(AtomicU32::new(0));
    let human = {
        let asked = Arc::clone(&asked);
        Human::new("ask").question(move |_, _| {
            asked.fetch_add(1, Ordering::Relaxed);
            Ok(Value::from("how many?"))
        })
    };
    let runner = build(Runner::builder(Step::body("asks", human).cached(policy())));
    let first = runner.run(Value::Null, Context::new()).await;
    let paused = first.paused.unwrap().clone();
    // The second one does not wait for the answer of the first.
    let second = runner.run(Value::Null, Context::new()).await;
    assert!(second.paused.is_some());
    let done = runner.resume(&paused, Value::Int(3)).unwrap().await;
    assert_eq!(done.output(), Some(&Value::Int(3)));
    // What somebody answered is not kept.
    assert!(runner.run(Value::Null, Context::new()).await.paused.is_some());
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}
