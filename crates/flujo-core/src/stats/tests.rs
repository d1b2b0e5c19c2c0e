//! Promises of the statistics: exact counters, percentiles within 1 %, a bounded cost of reading.
#![allow(clippy::cast_precision_loss, clippy::float_cmp)] // figures are compared with what floats can hold

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{
    Alert, AlertKind, Histogram, PartStatistics, PerformanceStatistics, PoolStats, RunFacts, Statistics,
    StepFact, StepSlot,
};
use crate::config::{OptimizationConfig, Part, Twin};
use crate::usage::{Cost, MeterStatistics, Usage};

fn names(count: usize) -> Vec<Arc<str>> {
    (0..count).map(|n| Arc::from(format!("step-{n}"))).collect()
}

fn ok(slot: StepSlot, latency_ns: u64) -> StepFact<'static> {
    StepFact {
        slot,
        latency_ns,
        error: None,
    }
}

fn read(statistics: &Statistics) -> PerformanceStatistics {
    statistics.snapshot(PartStatistics::default())
}

fn histogram_of(values: &[u64]) -> Histogram {
    let mut histogram = Histogram::default();
    for value in values {
        histogram.record(*value);
    }
    histogram
}

fn near(actual: f64, expected: f64, share: f64) -> bool {
    (actual - expected).abs() <= expected.abs() * share + 1e-15
}

/// Durations of every magnitude, from nothing to centuries.
fn durations() -> impl Strategy<Value = Vec<u64>> {
    let any_magnitude = (0_u32..64, any::<u64>()).prop_map(|(shift, value)| value >> shift);
    prop::collection::vec(any_magnitude, 1..400)
}

proptest! {
    #[test]
    fn a_percentile_is_within_one_percent_of_the_one_found_by_sorting(
        mut values in durations(),
        percentage in 0_u64..=100,
    ) {
        let histogram = histogram_of(&values);
        values.sort_unstable();
        let rank = (values.len() as u64 * percentage).div_ceil(100).max(1);
        let exact = values[usize::try_from(rank).unwrap() - 1];
        let [found] = histogram.percentiles([percentage]);
        prop_assert!(u128::from(found.abs_diff(exact)) * 100 <= u128::from(exact), "{found} instead of {exact}");
        prop_assert_eq!(histogram.count(), values.len() as u64);
    }

    #[test]
    fn count_mean_extremes_and_deviation_are_those_of_the_recorded_durations(values in durations()) {
        let values: Vec<u64> = values.into_iter().map(|value| value >> 8).collect(); // up to two years
        let statistics = Statistics::default();
        for latency_ns in &values {
            statistics.record_run(&RunFacts { latency_ns: *latency_ns, ..RunFacts::default() }, []);
        }
        let times = read(&statistics).execution_time_stats.overall;
        let count = values.len() as f64;
        let mean = values.iter().map(|v| *v as f64).sum::<f64>() / count;
        let variance = values.iter().map(|v| (*v as f64 - mean).powi(2)).sum::<f64>() / count;
        prop_assert_eq!(times.count, values.len() as u64);
        prop_assert!(near(times.mean, mean / 1e9, 1e-12));
        prop_assert!(near(times.min, *values.iter().min().unwrap() as f64 / 1e9, 1e-12));
        prop_assert!(near(times.max, *values.iter().max().unwrap() as f64 / 1e9, 1e-12));
        prop_assert!(near(times.std, variance.sqrt() / 1e9, 1e-6), "{} not {}", times.std, variance.sqrt() / 1e9);
        let ascending = [times.min, times.p50, times.p90, times.p95, times.p99, times.max];
        prop_assert!(ascending.is_sorted(), "{ascending:?}");
    }
}

#[test]
fn a_small_deviation_beside_a_large_mean_is_not_lost() {
    let statistics = Statistics::default();
    let day = 86_400_000_000_000;
    for latency_ns in [day - 1, day, day + 1] {
        statistics.record_run(
            &RunFacts {
                latency_ns,
                ..RunFacts::default()
            },
            [],
        );
    }
    let deviation = read(&statistics).execution_time_stats.overall.std * 1e9;
    assert!(near(deviation, (2.0_f64 / 3.0).sqrt(), 1e-9), "{deviation}");
}

#[test]
fn reading_visits_no_more_buckets_after_a_million_values_than_after_thousands() {
    let mut histogram = Histogram::default();
    let spread = |n: u64| (n % 5_000) * 7_919;
    (0..5_000).for_each(|n| histogram.record(spread(n)));
    let after_thousands = histogram.bucket_count();
    (0..1_000_000).for_each(|n| histogram.record(spread(n)));
    assert_eq!(histogram.bucket_count(), after_thousands);
    (0..64).for_each(|shift| (0..4_096).for_each(|n| histogram.record((n << 52) >> shift)));
    assert!(histogram.bucket_count() <= 3_776);
}

#[test]
fn before_the_first_run_everything_reads_as_zero() {
    let read = read(&Statistics::default());
    assert_eq!(read.execution_count, 0);
    assert!(read.average_execution_time == 0.0 && read.cache_hit_rate == 0.0);
    assert_eq!(read.execution_time_stats.overall, super::TimeStats::default());
    assert!(read.execution_time_stats.by_step.is_empty());
    assert_eq!(read.error_stats, super::ErrorStats::default());
}

#[test]
fn each_step_has_its_own_times_in_the_plans_order() {
    let statistics = Statistics::default();
    let slots = statistics.slots(&[Arc::from("write"), Arc::from("read")]);
    for run in 1..=3 {
        let steps = [ok(slots[0], 2_000_000_000), ok(slots[1], run * 1_000_000_000)];
        statistics.record_run(
            &RunFacts {
                latency_ns: 5_000_000_000,
                ..RunFacts::default()
            },
            steps,
        );
    }
    let read = read(&statistics);
    assert!(near(read.total_execution_time, 15.0, 1e-12) && near(read.average_execution_time, 5.0, 1e-12));
    let by_step = read.execution_time_stats.by_step;
    assert_eq!(
        by_step.iter().map(|(name, _)| &**name).collect::<Vec<_>>(),
        ["write", "read"]
    );
    let times = by_step.get("read").unwrap();
    assert_eq!(
        (times.count, times.min, times.max, times.mean),
        (3, 1.0, 3.0, 2.0)
    );
    assert!(near(times.p50, 2.0, 0.01));
    assert_eq!(by_step.get("unknown"), None);
}

#[test]
fn a_name_keeps_its_slot_across_plans() {
    let statistics = Statistics::default();
    let first = statistics.slots(&names(3));
    assert_eq!(statistics.slots(&[Arc::from("step-1")])[0], first[1]);
}

#[test]
fn names_beyond_a_thousand_are_counted_together_as_other() {
    let statistics = Statistics::default();
    let slots = statistics.slots(&names(1_200));
    statistics.record_run(&RunFacts::default(), slots.iter().map(|slot| ok(*slot, 1_000)));
    let by_step = read(&statistics).execution_time_stats.by_step;
    assert_eq!(by_step.len(), 1_001);
    assert_eq!(by_step.get("step-999").unwrap().count, 1);
    assert_eq!(by_step.get("step-1000"), None);
    assert_eq!(by_step.get("other").unwrap().count, 200);
}

#[test]
fn a_step_named_other_is_not_lost() {
    let statistics = Statistics::default();
    let slots = statistics.slots(&[Arc::from("other")]);
    statistics.record_run(&RunFacts::default(), [ok(slots[0], 1_000)]);
    assert_eq!(
        read(&statistics)
            .execution_time_stats
            .by_step
            .get("other")
            .unwrap()
            .count,
        1
    );
}

#[test]
fn failures_are_counted_by_type_and_by_step_with_the_time_of_the_last() {
    let statistics = Statistics::default();
    let slots = statistics.slots(&names(2));
    let failed = |slot, error| StepFact {
        slot,
        latency_ns: 1_000,
        error: Some(error),
    };
    let at = |seconds| RunFacts {
        ended_at: Duration::from_secs(seconds),
        ..RunFacts::default()
    };
    statistics.record_run(
        &at(10),
        [failed(slots[0], "TimeoutError"), failed(slots[1], "ValueError")],
    );
    statistics.record_run(&at(20), [ok(slots[0], 1_000), failed(slots[1], "ValueError")]);
    statistics.record_run(
        &RunFacts {
            error: Some("UsageLimitExceededError"),
            ..at(30)
        },
        [ok(slots[0], 1_000)],
    );
    statistics.record_run(&at(40), [ok(slots[0], 1_000)]);
    let errors = read(&statistics).error_stats;
    let counts = |pairs: &[(&str, u64)]| {
        pairs
            .iter()
            .map(|(k, v)| (Arc::from(*k), *v))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(errors.count, 4);
    let by_type = [
        ("TimeoutError", 1),
        ("UsageLimitExceededError", 1),
        ("ValueError", 2),
    ];
    assert_eq!(errors.by_type, counts(&by_type));
    assert_eq!(errors.by_step, counts(&[("step-0", 1), ("step-1", 2)]));
    assert_eq!(errors.last_error_time, Some(30.0));
}

#[test]
fn error_types_beyond_a_thousand_are_counted_together() {
    let statistics = Statistics::default();
    for n in 0..1_500 {
        statistics.record_run(
            &RunFacts {
                error: Some(&format!("Error{n}")),
                ..RunFacts::default()
            },
            [],
        );
    }
    let errors = read(&statistics).error_stats;
    assert_eq!(errors.by_type.len(), 1_001);
    assert_eq!(errors.by_type["other"], 500);
    assert_eq!(errors.count, 1_500);
}

#[test]
fn what_runs_used_adds_up_exactly() {
    let statistics = Statistics::default();
    let usage = Usage {
        cost: Cost::from_dollars(0.1).unwrap(),
        tokens: 7,
        requests: 1,
        ..Usage::ZERO
    };
    for _ in 0..10 {
        statistics.record_run(
            &RunFacts {
                usage,
                meter: Some(MeterStatistics {
                    reserved: usage,
                    batches: 3,
                    ..MeterStatistics::default()
                }),
                ..RunFacts::default()
            },
            [],
        );
    }
    let read = read(&statistics).usage_stats;
    assert_eq!(
        (
            read.committed.cost_usd,
            read.committed.tokens,
            read.committed.requests
        ),
        (1.0, 70, 10)
    );
    assert_eq!(
        (read.reserved.tokens, read.refunded.tokens, read.batches),
        (70, 0, 30)
    );
}

#[test]
fn a_snapshot_does_not_change_when_more_is_recorded() {
    let statistics = Statistics::default();
    let slots = statistics.slots(&names(1));
    statistics.record_run(&RunFacts::default(), [ok(slots[0], 1_000)]);
    let before = read(&statistics);
    statistics.record_run(&RunFacts::default(), [ok(slots[0], 9_000)]);
    statistics.reset();
    assert_eq!(before.execution_count, 1);
    assert_eq!(
        before.execution_time_stats.by_step.get("step-0").unwrap().max,
        1e-6
    );
}

#[test]
fn after_a_reset_counting_starts_anew_and_slots_stay_valid() {
    let statistics = Statistics::default();
    let slots = statistics.slots(&names(2));
    let usage = Usage::new(Cost::ZERO, 5);
    let run = RunFacts {
        latency_ns: 4_000,
        usage,
        meter: None,
        error: Some("E"),
        ended_at: Duration::from_secs(1),
    };
    statistics.record_run(&run, [ok(slots[0], 1_000), ok(slots[1], 3_000)]);
    statistics.reset();
    let empty = serde_json::to_value(read(&Statistics::default())).unwrap();
    assert_eq!(serde_json::to_value(read(&statistics)).unwrap(), empty);
    statistics.record_run(&RunFacts::default(), [ok(slots[1], 2_000)]);
    let by_step = read(&statistics).execution_time_stats.by_step;
    assert_eq!(by_step.len(), 1);
    assert_eq!(by_step.get("step-1").unwrap().min, 2e-6);
}

#[test]
fn runs_recorded_from_many_threads_are_all_counted() {
    let statistics = Statistics::default();
    let slots = statistics.slots(&names(3));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for n in 0..500 {
                    statistics.record_run(&RunFacts::default(), slots.iter().map(|slot| ok(*slot, n)));
                    drop(read(&statistics));
                }
            });
        }
    });
    let read = read(&statistics);
    assert_eq!(read.execution_count, 4_000);
    assert!(
        read.execution_time_stats
            .by_step
            .iter()
            .all(|(_, times)| times.count == 4_000)
    );
}

#[test]
fn every_documented_key_is_written_and_reads_back() {
    let statistics = Statistics::default();
    let slots = statistics.slots(&names(2));
    statistics.record_run(
        &RunFacts {
            latency_ns: 5_000,
            ..RunFacts::default()
        },
        slots.iter().map(|s| ok(*s, 2_000)),
    );
    let alert = Alert {
        kind: AlertKind::Degraded,
        part: Part::Cache,
        value: None,
        threshold: None,
        step: Some("step-0".into()),
        time: 12.5,
        message: "the cache tier is unreachable".into(),
    };
    let parts = PartStatistics {
        cache_hits: 3,
        cache_misses: 1,
        pool: PoolStats {
            retained: BTreeMap::from([("frame".into(), 4)]),
            ..PoolStats::default()
        },
        alerts: vec![alert],
        optimizations: OptimizationConfig::default().in_use(Twin::Optimized),
        ..PartStatistics::default()
    };
    let written = serde_json::to_value(statistics.snapshot(parts)).unwrap();
    let mut keys: Vec<&str> = written.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable(); // whether the map keeps the order depends on a feature somebody may have asked for
    let documented = [
        "alert_stats",
        "alerts",
        "analysis_stats",
        "average_execution_time",
        "cache_hit_rate",
        "cache_hits",
        "cache_misses",
        "context_stats",
        "error_stats",
        "execution_count",
        "execution_time_stats",
        "memory_stats",
        "optimizations",
        "pool_stats",
        "telemetry_metrics",
        "total_execution_time",
        "usage_stats",
    ];
    assert_eq!(keys, documented);
    assert_eq!(written["cache_hit_rate"], 75.0);
    assert_eq!(written["optimizations"]["pool"]["twin"], "optimized");
    assert_eq!(written["alerts"][0]["kind"], "degraded");
    for key in [
        "count", "mean", "min", "max", "std", "p50", "p90", "p95", "p99", "by_step",
    ] {
        assert!(!written["execution_time_stats"][key].is_null(), "{key}");
    }
    let back: PerformanceStatistics = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(back.execution_time_stats.by_step.get("step-1").unwrap().count, 1);
    assert_eq!(serde_json::to_value(back).unwrap(), written);
}
