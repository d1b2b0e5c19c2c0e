//! Alerts: a step that takes too long, memory that grows, a part that gives way; who is told, and how often.

use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use flujo_core::config::{OptimizationConfig, Part, Twin};
use flujo_core::context::Context;
use flujo_core::stats::{Alert, AlertKind};
use flujo_core::value::Value;
use flujo_tokio::{EventKind, Handler, Loop, Pipeline, Runner, RunnerBuilder, Step};

/// A step that takes as many milliseconds of virtual time as its input says, and passes it on.
fn sleeper(name: &str) -> Step {
    Step::new(
        name,
        Handler::function(|input| async move {
            let time = u64::try_from(input.as_int().unwrap_or(0)).unwrap_or(0);
            tokio::time::sleep(Duration::from_millis(time)).await;
            Ok(input)
        }),
    )
}

fn threshold(milliseconds: f64) -> OptimizationConfig {
    OptimizationConfig {
        execution_time_threshold: milliseconds / 1e3,
        memory_usage_threshold: 1e9, // another test of this process lets memory grow
        ..OptimizationConfig::default()
    }
}

fn runner(pipeline: impl Into<Pipeline>) -> RunnerBuilder {
    Runner::builder(pipeline).optimization_config(threshold(100.0))
}

async fn run(runner: &Runner, milliseconds: i64) {
    let done = runner.run(Value::from(milliseconds), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::from(milliseconds)));
}

fn steps_of(alerts: &[Alert]) -> Vec<&str> {
    alerts
        .iter()
        .map(|alert| alert.step.as_deref().unwrap_or(""))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_slow_step_is_told_of_once_per_crossing_by_both_twins() {
    for optimized in [true, false] {
        let runner = runner(sleeper("work")).optimizations(optimized).build().unwrap();
        for milliseconds in [50, 150, 150, 151, 20, 100, 101] {
            run(&runner, milliseconds).await;
        }
        let statistics = runner.performance_statistics();
        let values: Vec<_> = statistics.alerts.iter().map(|alert| alert.value).collect();
        assert_eq!(values, [Some(0.15), Some(0.101)], "optimized: {optimized}");
        assert_eq!(statistics.alert_stats.raised, 2);
        assert_eq!(statistics.alerts[0].kind, AlertKind::ExecutionTime);
        runner.reset_performance_statistics();
        run(&runner, 200).await;
        assert_eq!(runner.performance_statistics().alerts.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn each_step_is_watched_by_the_nearest_threshold() {
    let pipeline = Pipeline::from(sleeper("usual"))
        .then(sleeper("patient").optimization(threshold(1_000.0)))
        .then(sleeper("strict").optimization(threshold(10.0)));
    let runner = runner(pipeline).build().unwrap();
    run(&runner, 50).await;
    assert_eq!(steps_of(&runner.performance_statistics().alerts), ["strict"]);
    run(&runner, 150).await;
    assert_eq!(
        steps_of(&runner.performance_statistics().alerts),
        ["strict", "usual"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_events_of_a_run_tell_of_its_alerts_where_they_come_up_also_when_little_is_read() {
    for optimized in [true, false] {
        let pipeline = Pipeline::from(sleeper("one")).then(sleeper("two"));
        let runner = runner(pipeline)
            .optimizations(optimized)
            .event_buffer(1)
            .build()
            .unwrap();
        let mut run = runner.run(Value::from(150), Context::new());
        let mut events = run.events();
        let mut told = Vec::new();
        while let Some(event) = events.next().await {
            if let EventKind::Alert(alert) = &event.kind {
                assert_eq!(alert.step.as_deref(), Some(&*event.place.step));
                assert!(event.to_string().contains("more than the 0.1 s"), "{event}");
            }
            if !matches!(event.kind, EventKind::AttemptStarted) {
                told.push(format!("{} {}", event.place.step, event.kind.name()));
            }
        }
        let expected = [
            "pipeline run_started",
            "one step_started",
            "one step_finished",
            "one alert",
            "two step_started",
            "two step_finished",
            "two alert",
            "pipeline run_finished",
        ];
        // On the short way one step ends and the next begins before anybody is told of either.
        assert_eq!(told, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_loop_that_is_slow_then_fast_then_slow_again_is_told_of_twice_within_its_run() {
    let turn = Handler::function(|input| async move {
        let turn = input.as_int().unwrap_or(0);
        let time = if turn == 1 { 20 } else { 150 };
        tokio::time::sleep(Duration::from_millis(time)).await;
        Ok(Value::from(turn + 1))
    });
    let turn = Step::new("turn", turn).optimization(threshold(100.0));
    let repeat = Loop::until("loop", turn, |turns, _| Ok(turns.as_int() == Some(3)));
    // The loop as a whole may take longer than one of its turns.
    let repeat = Pipeline::from(repeat).optimization(threshold(10_000.0));
    for optimized in [true, false] {
        let runner = Runner::builder(repeat.clone())
            .optimizations(optimized)
            .build()
            .unwrap();
        let done = runner.run(Value::from(0), Context::new()).await;
        assert_eq!(done.output(), Some(&Value::from(3)));
        assert_eq!(
            steps_of(&runner.performance_statistics().alerts),
            ["turn", "turn"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_callback_is_told_in_its_own_thread_and_one_that_panics_is_counted_and_told_of_the_next() {
    let (sender, told) = channel();
    let sender = Mutex::new(sender);
    let runner = runner(sleeper("work"))
        .on_alert(move |alert| {
            let thread = std::thread::current().name().map(str::to_owned);
            sender.lock().unwrap().send((alert.clone(), thread)).unwrap();
            if alert.value == Some(0.15) {
                // The lock above is free by now, so that only this alert is lost.
                std::panic::resume_unwind(Box::new("a callback's own mistake"));
            }
        })
        .build()
        .unwrap();
    for milliseconds in [150, 10, 160] {
        run(&runner, milliseconds).await;
    }
    let told: Vec<_> = (0..2).map(|_| told.recv().unwrap()).collect();
    assert_eq!(told[0].0.value, Some(0.15));
    assert_eq!(told[1].0.value, Some(0.16));
    assert!(
        told.iter()
            .all(|(_, thread)| thread.as_deref() == Some("flujo-alerts"))
    );
    let statistics = runner.performance_statistics();
    assert_eq!(statistics.alert_stats.callbacks_failed, 1);
    assert_eq!(statistics.alert_stats.callbacks_skipped, 0);
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_hangs_holds_up_no_run_and_what_it_misses_is_counted() {
    let release = Arc::new(Barrier::new(2));
    let held = Arc::clone(&release);
    let first = std::sync::Once::new();
    let runner = runner(sleeper("work"))
        .on_alert(move |_| {
            first.call_once(|| {
                held.wait();
                held.wait();
            });
        })
        .build()
        .unwrap();
    run(&runner, 150).await;
    run(&runner, 10).await;
    release.wait(); // it hangs now, and nothing waits in front of it
    for _ in 0..70 {
        run(&runner, 150).await;
        run(&runner, 10).await;
    }
    let statistics = runner.performance_statistics();
    assert_eq!(statistics.alert_stats.raised, 71);
    assert_eq!(statistics.alert_stats.callbacks_skipped, 6);
    release.wait();
}

#[tokio::test]
async fn growth_of_memory_beyond_the_threshold_is_told_of_once() {
    let hold = Arc::new(Mutex::new(Vec::new()));
    let held = Arc::clone(&hold);
    let grow = Step::new(
        "grow",
        Handler::processor(move |input, _| {
            held.lock().unwrap().push(vec![1_u8; 64 << 20]);
            Ok(input.clone())
        }),
    );
    let (sender, told) = channel();
    let sender = Mutex::new(sender);
    let runner = Runner::builder(grow)
        .optimization_config(OptimizationConfig {
            memory_usage_threshold: 32.0,
            ..OptimizationConfig::default()
        })
        .on_alert(move |alert| sender.lock().unwrap().send(alert.clone()).unwrap())
        .build()
        .unwrap();
    run(&runner, 0).await;
    run(&runner, 0).await;
    let alert = told.recv().unwrap();
    assert_eq!(alert.kind, AlertKind::MemoryUsage);
    assert!(
        alert.value > Some(32.0) && alert.threshold == Some(32.0),
        "{alert:?}"
    );
    let statistics = runner.performance_statistics();
    assert_eq!(statistics.alerts.len(), 1, "once per crossing");
    assert!(statistics.memory_stats.growth_bytes > 64 << 20);
    assert!(statistics.memory_stats.peak_rss_bytes >= statistics.memory_stats.current_rss_bytes);
    assert_eq!(hold.lock().unwrap().len(), 2);
}

#[test]
fn a_part_that_gave_way_is_named_with_its_reason_until_it_has_recovered() {
    let runner = Runner::builder(sleeper("work")).build().unwrap();
    runner.report_degraded(Part::Cache, "redis://localhost doesn't answer");
    runner.report_degraded(Part::Cache, "redis://localhost doesn't answer");
    let statistics = runner.performance_statistics();
    assert_eq!(statistics.alerts.len(), 1);
    assert_eq!(
        (statistics.alerts[0].kind, statistics.alerts[0].part),
        (AlertKind::Degraded, Part::Cache)
    );
    assert!(statistics.alerts[0].message.contains("redis://localhost"));
    let cache = &statistics.optimizations[&Part::Cache];
    assert_eq!(cache.twin, Twin::Plain);
    assert!(cache.reason.contains("redis://localhost"), "{}", cache.reason);
    runner.report_recovered(Part::Cache);
    let cache = &runner.performance_statistics().optimizations[&Part::Cache];
    assert_eq!(cache.twin, Twin::Optimized);
}
