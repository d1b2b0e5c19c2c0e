//! What both twins must do, and that they agree on any sequence of readings.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::{Alerts, Change, LOOKUPS, Monitor, Watch};
use crate::config::{OptimizationConfig, Part, Twin, Twins};
use crate::pipeline::Pipeline;
use crate::plan::{NodeId, StepNode};
use crate::stats::{Alert, AlertKind, Statistics, StepSlot};

fn both(check: impl Fn(&dyn Monitor)) {
    let watch = Watch::default();
    check(watch.of(Twin::Plain));
    check(watch.of(Twin::Optimized));
}

fn slots(count: usize) -> Box<[StepSlot]> {
    let names: Vec<Arc<str>> = (0..count).map(|step| Arc::from(step.to_string())).collect();
    Statistics::default().slots(&names)
}

#[test]
fn a_crossing_is_told_once_and_again_after_the_step_was_fast_enough() {
    let steps = slots(2);
    both(|monitor| {
        let took = |step: usize, latency| monitor.took(steps[step], latency, 10);
        assert_eq!(took(0, 10), Change::Stays);
        assert_eq!(took(0, 11), Change::Crossed);
        assert!(monitor.is_alarmed());
        assert_eq!(took(0, 500), Change::Stays);
        assert_eq!(took(1, 11), Change::Crossed);
        assert_eq!(took(0, 10), Change::Recovered);
        assert_eq!(took(0, 3), Change::Stays);
        assert_eq!(took(0, 12), Change::Crossed);
        assert_eq!(monitor.statistics().crossings, 3);
        assert_eq!(monitor.statistics().alarmed, 2);
        monitor.reset();
        assert!(!monitor.is_alarmed());
        assert_eq!(took(0, 12), Change::Crossed);
    });
}

#[test]
fn each_hundred_look_ups_of_a_step_is_judged_for_itself() {
    let steps = slots(2);
    both(|monitor| {
        let mut judged = Vec::new();
        for lookup in 0..3 * LOOKUPS {
            // All of the first hundred are found, none of the second, half of the third.
            let hit = lookup < LOOKUPS || (lookup >= 2 * LOOKUPS && lookup % 2 == 0);
            let told = monitor.looked_up(steps[0], hit, 0.5);
            assert_eq!(monitor.looked_up(steps[1], true, 0.5).0, Change::Stays);
            if told.0 != Change::Stays {
                judged.push(told);
            }
        }
        assert_eq!(judged, [(Change::Crossed, 0.0), (Change::Recovered, 0.5)]);
        assert!(!monitor.is_alarmed(), "only slow steps are worth watching each");
    });
}

#[test]
fn growth_of_memory_is_told_once_per_crossing() {
    both(|monitor| {
        let changes = [5, 11, 12, 9, 10, 11].map(|bytes| monitor.grew(bytes, 10));
        let expected = [
            Change::Stays,
            Change::Crossed,
            Change::Stays,
            Change::Recovered,
            Change::Stays,
            Change::Crossed,
        ];
        assert_eq!(changes, expected);
    });
}

#[test]
fn steps_beyond_those_that_are_kept_apart_share_one_threshold() {
    both(|monitor| {
        assert_eq!(monitor.took(StepSlot::OTHER, 2, 1), Change::Crossed);
        assert_eq!(monitor.took(StepSlot::OTHER, 2, 1), Change::Stays);
        assert_eq!(monitor.took(slots(1)[0], 2, 1), Change::Crossed);
    });
}

#[test]
fn a_crossing_seen_by_several_threads_at_once_is_told_once() {
    let steps = slots(1);
    both(|monitor| {
        for _ in 0..200 {
            monitor.reset();
            let crossed: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4)
                    .map(|_| scope.spawn(|| monitor.took(steps[0], 2, 1) == Change::Crossed))
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| usize::from(thread.join().unwrap()))
                    .sum()
            });
            assert_eq!(crossed, 1);
        }
    });
}

proptest! {
    #[test]
    fn the_twins_agree(readings in proptest::collection::vec((0..4_usize, 0..20_u64, any::<bool>(), 0..3), 0..600)) {
        let steps = slots(4);
        let watch = Watch::default();
        for (step, value, hit, what) in readings {
            let [plain, optimized] = [Twin::Plain, Twin::Optimized].map(|twin| {
                let monitor = watch.of(twin);
                match what {
                    0 => (monitor.took(steps[step], value, 10), 0.0),
                    1 => monitor.looked_up(steps[step], hit, 0.5),
                    _ => (monitor.grew(value, 10), 0.0),
                }
            });
            prop_assert_eq!(plain, optimized);
        }
        let [plain, optimized] = [Twin::Plain, Twin::Optimized].map(|twin| watch.of(twin).statistics());
        prop_assert_eq!(plain, optimized);
    }
}

#[test]
fn the_plain_monitor_hears_of_each_step_and_the_optimized_one_of_those_that_matter() {
    let watch = Watch::default();
    let limited = OptimizationConfig {
        execution_time_threshold: 0.25,
        ..OptimizationConfig::default()
    };
    let mut pipeline = Pipeline::<()>::new();
    let steps = ["usual", "fast"].map(|name| pipeline.step(name, StepNode::new(())));
    pipeline.set_optimization(steps[1], &Arc::new(limited));
    let root = pipeline.sequence(steps.to_vec());
    let plan = pipeline.compile("watched", root).unwrap();
    let runner = OptimizationConfig::default();
    let slots = Statistics::default().slots(plan.nodes().map(|(_, node)| &node.name));
    let took = |node: NodeId, latency| {
        let step = (plan.node(node), slots[node.0 as usize]);
        watch.took(step, latency, Twins::OPTIMIZED, &runner, Duration::ZERO)
    };

    assert_eq!(watch.tell_from(&plan, Twins::PLAIN, &runner), 0);
    assert_eq!(watch.tell_from(&plan, Twins::OPTIMIZED, &runner), 250_000_000);
    assert_eq!(took(steps[0], 300_000_000), None);
    let alert = took(steps[1], 300_000_000).unwrap();
    assert_eq!((alert.value, alert.threshold), (Some(0.3), Some(0.25)));
    assert_eq!(alert.step.as_deref(), Some("fast"));
    assert_eq!(
        watch.tell_from(&plan, Twins::OPTIMIZED, &runner),
        0,
        "its recovery is worth hearing of"
    );
    assert_eq!(took(steps[1], 100_000_000), None);
    assert_eq!(watch.tell_from(&plan, Twins::OPTIMIZED, &runner), 250_000_000);
    assert_eq!(watch.alerts().kept(), [alert]);
}

#[test]
fn the_last_alerts_are_kept_and_all_are_counted() {
    let alerts = Alerts::default();
    let step = Arc::from("slow");
    for seconds in 0..250 {
        alerts.raise(Alert::slow(
            &step,
            2_000_000_000,
            1_000_000_000,
            Duration::from_secs(seconds),
        ));
    }
    let kept = alerts.kept();
    assert_eq!((kept.len(), kept[0].time, kept[99].time), (100, 150.0, 249.0));
    assert_eq!(alerts.statistics().raised, 250);
    assert_eq!((kept[0].value, kept[0].threshold), (Some(2.0), Some(1.0)));
    assert_eq!(kept[0].kind, AlertKind::ExecutionTime);
    alerts.reset();
    assert_eq!((alerts.kept().len(), alerts.statistics().raised), (0, 0));
}

#[test]
fn a_part_that_failed_in_a_run_has_recovered_when_another_run_that_used_it_has_ended() {
    let watch = Watch::default();
    let now = Duration::from_secs(1);
    assert!(watch.gave_way(Part::Cache, "a defect", now).is_some());
    assert!(
        watch.gave_way(Part::Cache, "a defect", now).is_none(),
        "told once"
    );
    assert!(watch.degraded(Part::Pool, "reported from outside", now).is_some());
    let plain = |part| {
        let mut in_use = OptimizationConfig::default().in_use(Twin::Optimized);
        watch.alerts().correct(&mut in_use);
        in_use[&part].twin == Twin::Plain
    };
    watch.ended(Twins::OPTIMIZED.with(Part::Cache, Twin::Plain));
    assert!(
        watch.has_failed(Part::Cache) && plain(Part::Cache),
        "the run didn't use it"
    );
    watch.ended(Twins::OPTIMIZED);
    assert!(!watch.has_failed(Part::Cache) && !plain(Part::Cache));
    assert!(plain(Part::Pool), "whoever reported it says when it works again");
    assert!(
        watch.gave_way(Part::Cache, "a defect", now).is_some(),
        "news again"
    );
}

#[test]
fn what_has_given_way_is_said_with_its_reason_until_it_works_again() {
    let alerts = Alerts::default();
    let now = Duration::from_secs(1);
    assert!(alerts.degraded(Part::Pool, "a lock is poisoned", now).is_some());
    assert!(alerts.degraded(Part::Pool, "a lock is poisoned", now).is_none());
    assert!(
        alerts.degraded(Part::Pool, "something else", now).is_some(),
        "another reason is news"
    );
    let in_use = |alerts: &Alerts| {
        let mut in_use = OptimizationConfig::default().in_use(Twin::Optimized);
        alerts.correct(&mut in_use);
        in_use[&Part::Pool].clone()
    };
    assert_eq!(in_use(&alerts).twin, Twin::Plain);
    assert!(in_use(&alerts).reason.contains("something else"));
    alerts.recovered(Part::Pool);
    assert_eq!(in_use(&alerts).twin, Twin::Optimized);
    let told = alerts.kept();
    assert!(told[0].message.contains("pool") && told[0].message.contains("a lock is poisoned"));
}
