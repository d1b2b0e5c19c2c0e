//! Which optimisations a run uses: the runner's switch and config, the pipeline's, a step's; the nearest one decides.

use std::sync::Arc;

use flujo_core::config::{OptimizationConfig, Part, Twin};
use flujo_core::context::Context;
use flujo_core::value::Value;
use flujo_tokio::{BuildError, Handler, Parallel, Pipeline, Runner, Step};

fn step(name: &str) -> Step {
    Step::new(name, Handler::processor(|input, _| Ok(input.clone())))
}

/// A config that is told apart by its threshold.
fn config(execution_time_threshold: f64) -> OptimizationConfig {
    OptimizationConfig {
        execution_time_threshold,
        ..OptimizationConfig::default()
    }
}

fn thresholds(runner: &Runner) -> Vec<(String, Option<f64>)> {
    let named = runner.plan().nodes().filter(|(_, node)| !node.name.is_empty());
    named
        .map(|(_, node)| {
            let config = node.optimization.as_ref();
            (
                node.path.to_string(),
                config.map(|config| config.execution_time_threshold),
            )
        })
        .collect()
}

#[test]
fn the_nearest_config_decides_for_a_step() {
    let inner = Pipeline::from(step("read"))
        .then(step("count").optimization(config(1.0)))
        .optimization(config(2.0));
    let lanes = Parallel::new("lanes")
        .branch("a", step("one"))
        .branch("b", step("two").optimization(config(3.0)));
    let outer = inner
        .then(Pipeline::from(lanes).optimization(config(4.0)))
        .then(step("last"));
    let runner = Runner::builder(outer).build().unwrap();
    let mut found = thresholds(&runner);
    found.sort_by(|one, two| one.0.cmp(&two.0));
    let expected = [
        ("count", Some(1.0)),
        ("lanes", Some(4.0)),
        ("lanes/a/one", Some(4.0)),
        ("lanes/b/two", Some(3.0)),
        ("last", None),
        ("read", Some(2.0)),
    ];
    assert_eq!(found, expected.map(|(path, limit)| (path.to_owned(), limit)));
}

#[test]
fn the_config_of_a_pipeline_wins_over_the_one_of_its_runner() {
    let plain = |part| {
        let mut config = OptimizationConfig::default();
        config.set_twin(part, Twin::Plain);
        config
    };
    let pipeline = Pipeline::from(step("only")).optimization(plain(Part::Cache));
    let runner = Runner::builder(pipeline)
        .optimization_config(plain(Part::Usage))
        .build()
        .unwrap();
    let in_use = |part| runner.performance_statistics().optimizations[&part].twin;
    assert_eq!(
        (in_use(Part::Cache), in_use(Part::Usage)),
        (Twin::Plain, Twin::Optimized)
    );
    runner.disable_optimizations();
    assert_eq!(
        (in_use(Part::Cache), in_use(Part::Usage)),
        (Twin::Plain, Twin::Plain)
    );
    runner.enable_optimizations();
    assert_eq!(
        (in_use(Part::Cache), in_use(Part::Usage)),
        (Twin::Plain, Twin::Optimized)
    );
}

#[test]
fn a_wrong_config_of_a_step_is_refused_with_the_step_the_field_and_what_is_allowed() {
    let pipeline = Pipeline::from(step("read")).then(step("count").optimization(config(f64::NAN)));
    let error = Runner::builder(pipeline).build().err().unwrap();
    assert!(matches!(error, BuildError::Pipeline(_)), "{error:?}");
    let text = error.to_string();
    for part in ["`count`", "execution_time_threshold", "NaN", "seconds"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_switch_is_thrown_from_any_thread_while_runs_are_under_way() {
    let runner = Runner::builder(Pipeline::from(step("a")).then(step("b")))
        .build()
        .unwrap();
    let thrower = {
        let runner = runner.clone();
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                runner.disable_optimizations();
                runner.enable_optimizations();
            }
        });
        (thread, stop)
    };
    for number in 0..1_000 {
        let done = runner.run(Value::from(number), Context::new()).await;
        assert_eq!(done.output(), Some(&Value::from(number)));
    }
    thrower.1.store(true, std::sync::atomic::Ordering::Relaxed);
    thrower.0.join().unwrap();
    assert_eq!(runner.performance_statistics().execution_count, 1_000);
}
