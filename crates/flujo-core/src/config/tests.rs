//! Fields, defaults, what is refused, and which twins come of a config.

use std::time::Duration;

use super::{Drills, OptimizationConfig, Part, RunTwins, Twin, Twins};

#[test]
fn by_default_every_part_is_optimized_and_the_values_are_the_documented_ones() {
    let config = OptimizationConfig::default();
    assert!(Part::ALL.iter().all(|part| config.twin(*part) == Twin::Optimized));
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!(json["execution_time_threshold"], 1.0);
    assert_eq!(json["memory_usage_threshold"], 100.0);
    assert_eq!(json["cache_hit_rate_threshold"], 0.8);
    assert_eq!(json["max_pool_size"], 100);
    assert_eq!(json["cache_max_size"], 1024);
    assert_eq!(json["cache_ttl_seconds"], 3600.0);
}

#[test]
fn the_table_of_fields_names_every_field_that_is_written() {
    let json = serde_json::to_value(OptimizationConfig::default()).unwrap();
    let mut written: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    let mut named: Vec<_> = OptimizationConfig::FIELDS.iter().map(|(name, _)| *name).collect();
    written.sort_unstable();
    named.sort_unstable();
    assert_eq!(written, named);
    assert!(Part::ALL.iter().all(|part| named.contains(&part.switch())));
}

#[test]
fn one_part_can_be_switched_without_touching_the_others() {
    for part in Part::ALL {
        let mut config = OptimizationConfig::default();
        config.set_twin(part, Twin::Plain);
        let plain: Vec<_> = Part::ALL
            .into_iter()
            .filter(|p| config.twin(*p) == Twin::Plain)
            .collect();
        assert_eq!(plain, [part]);
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json[part.switch()], false);
    }
}

#[test]
fn a_bad_value_is_refused_with_field_value_and_what_is_allowed() {
    let base = OptimizationConfig::default;
    let cases = [
        (
            OptimizationConfig {
                execution_time_threshold: -1.0,
                ..base()
            },
            "execution_time_threshold",
            "-1",
        ),
        (
            OptimizationConfig {
                memory_usage_threshold: f64::NAN,
                ..base()
            },
            "memory_usage_threshold",
            "NaN",
        ),
        (
            OptimizationConfig {
                cache_hit_rate_threshold: 1.5,
                ..base()
            },
            "cache_hit_rate_threshold",
            "1.5",
        ),
        (
            OptimizationConfig {
                cache_ttl_seconds: Some(f64::INFINITY),
                ..base()
            },
            "cache_ttl_seconds",
            "inf",
        ),
    ];
    for (config, field, value) in cases {
        let error = config.validate().unwrap_err();
        assert_eq!((error.field, error.value.as_str()), (field, value));
        assert!(error.to_string().contains(error.allowed), "{error}");
    }
}

#[test]
fn reading_validates_and_refuses_unknown_names() {
    let read = serde_json::from_str::<OptimizationConfig>;
    assert_eq!(read("{}").unwrap(), OptimizationConfig::default());
    assert!(
        !read(r#"{"enable_step_analysis": false}"#)
            .unwrap()
            .enable_step_analysis
    );
    for (text, part_of_error) in [
        (
            r#"{"cache_hit_rate_threshold": 2}"#,
            "cache_hit_rate_threshold must be a number from 0 to 1",
        ),
        (r#"{"max_pool_size": -1}"#, "-1"),
        (r#"{"pool_size": 1}"#, "pool_size"),
    ] {
        let error = read(text).unwrap_err().to_string();
        assert!(error.contains(part_of_error), "{error}");
    }
}

#[test]
fn what_is_written_reads_back_equal() {
    let mut config = OptimizationConfig::plain();
    config.cache_ttl_seconds = None;
    config.execution_time_threshold = 0.1;
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<OptimizationConfig>(&text).unwrap(), config);
}

#[test]
fn a_lifetime_of_zero_or_none_never_expires() {
    let with = |cache_ttl_seconds| {
        OptimizationConfig {
            cache_ttl_seconds,
            ..Default::default()
        }
        .cache_ttl()
    };
    assert_eq!(with(None), None);
    assert_eq!(with(Some(0.0)), None);
    assert_eq!(with(Some(0.5)), Some(Duration::from_millis(500)));
    assert_eq!(with(Some(f64::MAX)), Some(Duration::MAX));
}

#[test]
fn the_runners_switch_overrules_the_config() {
    let mut config = OptimizationConfig::default();
    config.set_twin(Part::Cache, Twin::Plain);
    let on = config.in_use(Twin::Optimized);
    assert_eq!(on[&Part::Cache].reason, "enable_cache_optimization is off");
    assert_eq!(on[&Part::Pool].twin, Twin::Optimized);
    let off = config.in_use(Twin::Plain);
    assert!(
        off.values()
            .all(|used| used.twin == Twin::Plain && used.reason.contains("disabled"))
    );
}

#[test]
fn a_run_uses_what_the_config_says_while_the_switch_is_on_and_plain_parts_while_it_is_off() {
    for part in Part::ALL {
        let mut config = OptimizationConfig::default();
        config.set_twin(part, Twin::Plain);
        let twins = Twins::decide(Twin::Optimized, &config);
        let plain: Vec<_> = Part::ALL
            .into_iter()
            .filter(|p| !twins.is_optimized(*p))
            .collect();
        assert_eq!(plain, [part]);
        assert_eq!(Twins::decide(Twin::Plain, &config), Twins::PLAIN);
        assert_eq!(twins.with(part, Twin::Optimized), Twins::OPTIMIZED);
    }
    let all = Twins::decide(Twin::Optimized, &OptimizationConfig::default());
    assert_eq!(all, Twins::OPTIMIZED);
    assert_eq!(
        Twins::decide(Twin::Optimized, &OptimizationConfig::plain()).of(Part::Usage),
        Twin::Plain
    );
}

#[test]
fn the_nearest_config_decides_unless_the_runner_is_switched_off() {
    let plain = OptimizationConfig::plain();
    let optimized = OptimizationConfig::default();
    assert!(!Twins::OPTIMIZED.within(Some(&plain)).is_optimized(Part::Context));
    assert_eq!(Twins::OPTIMIZED.within(None), Twins::OPTIMIZED);
    let outer = Twins::decide(Twin::Optimized, &plain);
    assert_eq!(outer.within(Some(&optimized)), Twins::OPTIMIZED);
    assert_eq!(Twins::PLAIN.within(Some(&optimized)), Twins::PLAIN);
}

#[test]
fn a_part_that_fails_is_plain_for_the_rest_of_its_run_whatever_a_step_asks_for() {
    let optimized = OptimizationConfig::default();
    let run = RunTwins::new(Twins::OPTIMIZED);
    let (mut did, mut told) = (Vec::new(), Vec::new());
    for nearest in [None, Some(&optimized), None] {
        let done = run.contain(
            Part::Monitor,
            nearest,
            |twins| {
                did.push(twins.of(Part::Monitor));
                assert_eq!(
                    twins.of(Part::Monitor),
                    Twin::Plain,
                    "the optimized one has a defect"
                );
                did.len()
            },
            |reason| told.push(reason.to_owned()),
        );
        assert_eq!(done, did.len());
    }
    assert_eq!(did, [Twin::Optimized, Twin::Plain, Twin::Plain, Twin::Plain]);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("has a defect"), "{told:?}");
    assert!(run.now().gave_way(Part::Monitor) && !run.now().gave_way(Part::Cache));
    assert_eq!(run.now().within(Some(&optimized)).of(Part::Monitor), Twin::Plain);
}

#[test]
fn a_drill_is_for_the_optimized_twin_of_its_part_in_runs_that_start_after_it() {
    let (drills, optimized) = (Drills::default(), OptimizationConfig::default());
    let before = RunTwins::new(drills.of(Twins::OPTIMIZED));
    drills.begin(Part::Usage);
    let meanwhile = RunTwins::new(drills.of(Twins::OPTIMIZED));
    let plain = RunTwins::new(drills.of(Twins::PLAIN));
    drills.end(Part::Usage);
    let after = RunTwins::new(drills.of(Twins::OPTIMIZED));
    let failed = |run: &RunTwins, part| {
        let mut failed = false;
        run.contain(part, Some(&optimized), |_| (), |_| failed = true);
        failed
    };
    assert!(failed(&meanwhile, Part::Usage) && !failed(&meanwhile, Part::Pool));
    assert!(
        [&before, &plain, &after]
            .iter()
            .all(|run| !failed(run, Part::Usage))
    );
}
