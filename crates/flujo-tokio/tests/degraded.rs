//! An optimised part that fails: its plain form takes its place for that run, the run goes on, one alert names the part
//! and the reason, and nothing is lost or run twice. What can fail for real does; the rest fails by a drill.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flujo_core::cache::CachePolicy;
use flujo_core::config::{OptimizationConfig, Part, Twin};
use flujo_core::context::Context;
use flujo_core::machine::Status;
use flujo_core::stats::{AlertKind, PerformanceStatistics};
use flujo_core::telemetry::{Span, SpanQueue, SpanSettings};
use flujo_core::usage::{Usage, UsageLimits};
use flujo_core::value::Value;
use flujo_tokio::{Done, EventKind, Handler, Loop, Parallel, Pipeline, Runner, RunnerBuilder, Step};

/// How often the steps of a test ran.
#[derive(Clone, Default)]
struct Ran(Arc<AtomicU32>);

impl Ran {
    fn times(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A step that counts itself, uses ten tokens, notes itself in the context and adds one.
fn counting(name: &'static str, ran: &Ran) -> Step {
    let ran = ran.clone();
    Step::new(
        name,
        Handler::scoped(move |input: Value, scope| {
            let ran = ran.clone();
            async move {
                ran.0.fetch_add(1, Ordering::Relaxed);
                scope.add_usage(Usage {
                    tokens: 10,
                    ..Usage::ZERO
                });
                scope.update(|context| context.set(name, Value::from(true)));
                tokio::task::yield_now().await;
                Ok(Value::from(input.as_int().unwrap_or(0) + 1))
            }
        }),
    )
}

/// Steps in a row, beside each other and in a loop, which run six times together.
fn whole(ran: &Ran) -> Pipeline {
    let lanes = Parallel::new("lanes")
        .branch("left", counting("left", ran))
        .branch("right", counting("right", ran));
    let one = Handler::processor(|outputs: &Value, _| Ok(outputs.get("left").cloned().unwrap_or_default()));
    let turns = Loop::until("turns", counting("turn", ran), |output, _| {
        Ok(output.as_int() >= Some(5))
    });
    Pipeline::from(counting("first", ran))
        .then(lanes)
        .then(Step::new("one", one))
        .then(counting("middle", ran))
        .then(turns)
}

fn limited(builder: RunnerBuilder, tokens: u64) -> Runner {
    let limits = UsageLimits {
        tokens: Some(tokens),
        ..UsageLimits::default()
    };
    match builder.usage_limits(limits).build() {
        Ok(runner) => runner,
        Err(error) => unreachable!("{error}"),
    }
}

async fn run(runner: &Runner) -> Done {
    runner.run(Value::from(0), Context::new()).await
}

/// The parts that one alert each was raised of, with what it says.
fn degraded(statistics: &PerformanceStatistics) -> Vec<(Part, String)> {
    let alerts = statistics.alerts.iter();
    alerts
        .filter(|alert| alert.kind == AlertKind::Degraded)
        .map(|alert| (alert.part, alert.message.clone()))
        .collect()
}

/// What a run came to, but for times.
type Outcome = (Option<Value>, Usage, Context, Vec<(Arc<str>, Status, u32)>);

fn outcome(done: &Done) -> Outcome {
    let records = done.finish.history.records.iter();
    let told = records.map(|record| {
        let node = done.plan.node(record.node);
        (Arc::clone(&node.name), record.status, record.attempts)
    });
    (
        done.output().cloned(),
        done.finish.usage,
        done.finish.context.clone(),
        told.collect(),
    )
}

/// A part fails in a run: the run's result is that of one that was plain from the start, each step has run as often, one
/// alert is raised, and the next run without a fault uses the optimised form again.
async fn gives_way(part: Part, pipeline: fn(&Ran) -> Pipeline) {
    let (plain_ran, ran) = (Ran::default(), Ran::default());
    let slow = OptimizationConfig {
        execution_time_threshold: 0.0,
        ..OptimizationConfig::default()
    };
    let queue = || Arc::new(SpanQueue::new(SpanSettings::default()));
    let (plain_queue, spans) = (queue(), queue());
    let plain = limited(
        Runner::builder(pipeline(&plain_ran))
            .optimizations(false)
            .optimization_config(slow.clone())
            .telemetry(Arc::clone(&plain_queue)),
        1_000,
    );
    let runner = limited(
        Runner::builder(pipeline(&ran))
            .optimization_config(slow)
            .telemetry(Arc::clone(&spans)),
        1_000,
    );
    let expected = run(&plain).await;
    runner.begin_drill(part);
    let mut drilled = runner.run(Value::from(0), Context::new());
    let (mut events, mut told) = (drilled.events(), Vec::new());
    while let Some(event) = events.next().await {
        if let EventKind::Alert(alert) = event.kind
            && alert.kind == AlertKind::Degraded
        {
            told.push(alert.part);
        }
    }
    let done = drilled.await;
    assert_eq!(outcome(&done), outcome(&expected), "{part:?}");
    assert_eq!(ran.times(), plain_ran.times(), "{part:?}: nothing runs twice");
    assert_eq!(told, [part], "the run's events tell of it once");
    let statistics = runner.performance_statistics();
    let alerts = degraded(&statistics);
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    let (alerted, message) = &alerts[0];
    assert_eq!(*alerted, part);
    assert!(
        message.contains(part.name()) && message.contains("a drill"),
        "{message}"
    );
    let in_use = &statistics.optimizations[&part];
    assert_eq!(in_use.twin, Twin::Plain);
    assert!(in_use.reason.contains("a drill"), "{}", in_use.reason);
    assert_eq!(statistics.execution_count, 1);
    assert_eq!(
        statistics.usage_stats.committed,
        plain.performance_statistics().usage_stats.committed
    );
    assert_eq!(
        names(&spans),
        names(&plain_queue),
        "{part:?}: every span is there once"
    );
    // It is told once, however many runs it happens in.
    let _ = run(&runner).await;
    assert_eq!(degraded(&runner.performance_statistics()).len(), 1);
    // A run without a fault uses the optimised form again.
    runner.end_drill(part);
    assert_eq!(run(&runner).await.output(), expected.output());
    let statistics = runner.performance_statistics();
    assert_eq!(statistics.optimizations[&part].twin, Twin::Optimized, "{part:?}");
    assert_eq!(degraded(&statistics).len(), 1);
    assert_eq!(statistics.pool_stats.in_use, 0);
}

/// The names of spans in some order, with what each is inside of.
fn names(queue: &SpanQueue) -> Vec<(String, Option<String>)> {
    let spans = queue.take(usize::MAX);
    let around = |span: &Span| {
        let parent = spans.iter().find(|other| Some(other.context.span) == span.parent);
        parent.map(|parent| parent.name.clone())
    };
    let mut named: Vec<_> = spans
        .iter()
        .map(|span| (span.name.clone(), around(span)))
        .collect();
    named.sort();
    named
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_fails_gives_way_to_the_allocator() {
    gives_way(Part::Pool, whole).await;
}

#[tokio::test(start_paused = true)]
async fn contexts_that_cannot_be_shared_are_copied() {
    gives_way(Part::Context, whole).await;
}

#[tokio::test(start_paused = true)]
async fn a_context_that_fails_after_the_run_has_begun_gives_way_there() {
    let ran = Ran::default();
    // Only the last step shares what the first one has copied.
    let last = counting("last", &ran).optimization(OptimizationConfig::default());
    let runner = Runner::builder(Pipeline::from(counting("first", &ran)).then(last))
        .optimization_config(OptimizationConfig {
            enable_context_optimization: false,
            ..OptimizationConfig::default()
        })
        .build()
        .unwrap();
    runner.begin_drill(Part::Context);
    let done = run(&runner).await;
    assert_eq!(done.output(), Some(&Value::from(2)));
    assert_eq!(ran.times(), 2);
    for step in ["first", "last"] {
        assert_eq!(done.finish.context.get(step), Some(&Value::from(true)));
    }
    let alerts = degraded(&runner.performance_statistics());
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!(alerts[0].0, Part::Context);
    runner.end_drill(Part::Context);
    assert_eq!(run(&runner).await.output(), Some(&Value::from(2)));
    assert_eq!(degraded(&runner.performance_statistics()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_analysis_that_was_kept_and_is_no_good_is_made_anew() {
    gives_way(Part::Analysis, whole).await;
}

#[tokio::test(start_paused = true)]
async fn telemetry_that_fails_gives_way_and_no_span_is_missing() {
    gives_way(Part::Telemetry, whole).await;
}

#[tokio::test(start_paused = true)]
async fn a_monitor_that_fails_gives_way_and_the_alert_of_the_slow_step_is_raised_all_the_same() {
    gives_way(Part::Monitor, whole).await;
    let config = OptimizationConfig {
        execution_time_threshold: 0.1,
        ..OptimizationConfig::default()
    };
    let slow = Handler::function(|input| async move {
        tokio::time::advance(Duration::from_millis(150)).await;
        Ok(input)
    });
    let runner = Runner::builder(Step::new("slow", slow))
        .optimization_config(config)
        .build()
        .unwrap();
    runner.begin_drill(Part::Monitor);
    let _ = run(&runner).await;
    let alerts = runner.performance_statistics().alerts;
    let kinds: Vec<_> = alerts.iter().map(|alert| alert.kind).collect();
    assert_eq!(kinds, [AlertKind::Degraded, AlertKind::ExecutionTime]);
}

#[tokio::test(start_paused = true)]
async fn a_meter_that_fails_gives_way_to_one_that_knows_all_that_was_counted() {
    gives_way(Part::Usage, whole).await;
    // The limit holds as if nothing had happened.
    let ran = Ran::default();
    for drilled in [false, true] {
        let runner = limited(Runner::builder(whole(&ran)), 45);
        if drilled {
            runner.begin_drill(Part::Usage);
        }
        let done = run(&runner).await;
        assert_eq!(done.status(), "limit_exceeded");
        assert_eq!(done.finish.usage.tokens, 50);
    }
    assert_eq!(ran.times(), 2 * 5);
}

/// The steps of the whole pipeline, each cached, and one asked for twice.
fn cached(ran: &Ran) -> Pipeline {
    let step = || counting("cached", ran).cached(CachePolicy::default());
    Pipeline::from(step()).then(counting("between", ran)).then(step())
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_fails_gives_way_and_each_result_is_made_once() {
    gives_way(Part::Cache, cached).await;
}

/// A clock of the user's that panics when it is read, which the recorder of spans does.
fn broken_clock() -> u64 {
    std::panic::resume_unwind(Box::new("the clock is broken"))
}

#[tokio::test(start_paused = true)]
async fn telemetry_whose_clock_panics_loses_no_span() {
    let spans_of = |queue: &SpanQueue| {
        let mut spans: Vec<_> = queue
            .take(usize::MAX)
            .into_iter()
            .map(|span| format!("{} {:?}", span.name, span.status))
            .collect();
        spans.sort();
        spans
    };
    for optimized in [true, false] {
        let ran = Ran::default();
        let queue = Arc::new(SpanQueue::new(SpanSettings {
            clock: Some(broken_clock),
            ..SpanSettings::default()
        }));
        let runner = limited(
            Runner::builder(whole(&ran))
                .optimizations(optimized)
                .telemetry(Arc::clone(&queue)),
            1_000,
        );
        // One run of sixteen is timed, the first one among them.
        let done = run(&runner).await;
        assert_eq!(done.output(), Some(&Value::from(5)));
        assert_eq!(ran.times(), 6);
        let alerts = degraded(&runner.performance_statistics());
        assert_eq!(alerts.len(), 1, "{alerts:?}");
        assert_eq!(alerts[0].0, Part::Telemetry);
        assert!(alerts[0].1.contains("the clock is broken"), "{}", alerts[0].1);
        let timed = spans_of(&queue);
        let _ = run(&runner).await;
        assert_eq!(timed, spans_of(&queue), "as of a run that isn't timed");
        assert!(timed.len() > 10, "{timed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_drill_of_a_part_that_is_plain_anyway_does_nothing() {
    let ran = Ran::default();
    let runner = limited(Runner::builder(whole(&ran)).optimizations(false), 1_000);
    for part in Part::ALL {
        runner.begin_drill(part);
    }
    assert_eq!(run(&runner).await.output(), Some(&Value::from(5)));
    assert_eq!(degraded(&runner.performance_statistics()), []);
}

#[tokio::test(start_paused = true)]
async fn all_parts_may_fail_at_once() {
    let ran = Ran::default();
    let runner = limited(
        Runner::builder(whole(&ran)).telemetry(SpanQueue::new(SpanSettings::default())),
        1_000,
    );
    for part in Part::ALL {
        runner.begin_drill(part);
    }
    assert_eq!(run(&runner).await.output(), Some(&Value::from(5)));
    assert_eq!(ran.times(), 6);
    let mut parts: Vec<_> = degraded(&runner.performance_statistics())
        .into_iter()
        .map(|(part, _)| part)
        .collect();
    parts.sort();
    let used = [
        Part::Pool,
        Part::Context,
        Part::Analysis,
        Part::Telemetry,
        Part::Usage,
    ];
    assert_eq!(parts, used, "nothing was slow and nothing cached");
}
