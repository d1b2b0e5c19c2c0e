//! Which optimisations a run uses: the runner's switch and config, the pipeline's, a step's; the nearest one decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
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
    thrower.1.store(true, Ordering::Relaxed);
    thrower.0.join().unwrap();
    assert_eq!(runner.performance_statistics().execution_count, 1_000);
}

/// A pipeline with a retry, lanes that write the context, and a loop.
fn whole() -> Pipeline {
    let flaky = Step::new(
        "flaky",
        Handler::scoped(|input: Value, scope| async move {
            scope.update(|context| context.set("tried", Value::from(true)));
            if scope.place().attempt == 1 {
                return Err("the first attempt always fails".into());
            }
            Ok(input)
        }),
    );
    let lane = |name: &'static str| {
        Step::new(
            name,
            Handler::scoped(move |input: Value, scope| async move {
                scope.update(|context| context.set(name, Value::list([input.clone()])));
                tokio::task::yield_now().await;
                Ok(Value::from(input.as_int().unwrap_or(0) + 1))
            }),
        )
    };
    let lanes = Parallel::new("lanes")
        .branch("a", lane("a"))
        .branch("b", lane("b"))
        .branch("c", lane("c"))
        .branch("d", lane("d"));
    let sum = Step::new(
        "sum",
        Handler::processor(|outputs, _| {
            let entries = outputs.as_map().map(Vec::as_slice).unwrap_or_default();
            Ok(Value::from(
                entries
                    .iter()
                    .filter_map(|(_, output)| output.as_int())
                    .sum::<i64>(),
            ))
        }),
    );
    Pipeline::from(flaky).then(lanes).then(sum)
}

/// What a run says of itself, but for times and ids.
fn told(done: &flujo_tokio::Done) -> (Option<Value>, Context, Vec<(u32, String)>) {
    let records = done.finish.history.records.iter();
    let records = records.map(|record| {
        (
            record.attempts,
            format!("{:?} {:?}", record.status, record.output),
        )
    });
    (
        done.output().cloned(),
        done.finish.context.clone(),
        records.collect(),
    )
}

fn context() -> Context {
    [(Arc::from("log"), Value::list([Value::from("begun")]))]
        .into_iter()
        .collect()
}

#[tokio::test]
async fn each_part_alone_on_its_plain_twin_gives_the_same_run() {
    let expected = {
        let runner = Runner::builder(whole()).build().unwrap();
        told(&runner.run(Value::from(1), context()).await)
    };
    assert_eq!(expected.0, Some(Value::from(8)));
    for part in Part::ALL {
        let mut config = OptimizationConfig::default();
        config.set_twin(part, Twin::Plain);
        let runner = Runner::builder(whole())
            .optimization_config(config)
            .build()
            .unwrap();
        for _ in 0..3 {
            assert_eq!(
                told(&runner.run(Value::from(1), context()).await),
                expected,
                "{part:?}"
            );
        }
    }
}

#[tokio::test]
async fn the_plain_twins_of_context_and_analysis_copy_and_analyse_for_each_run() {
    let runner = Runner::builder(whole()).build().unwrap();
    for optimized in [true, false] {
        if !optimized {
            runner.disable_optimizations();
        }
        runner.reset_performance_statistics();
        for _ in 0..3 {
            let _ = runner.run(Value::from(1), context()).await;
        }
        let statistics = runner.performance_statistics();
        let (context, analysis) = (statistics.context_stats, statistics.analysis_stats);
        // Two attempts, four lanes and a call in each of them.
        assert_eq!((context.forks, context.merges, context.conflicts), (30, 3, 0));
        if optimized {
            assert_eq!(
                (context.fields_cloned, analysis.analyses, analysis.reuses),
                (0, 0, 3)
            );
        } else {
            assert!(
                context.fields_cloned >= 30 && context.bytes_cloned > 0,
                "{context:?}"
            );
            assert_eq!((analysis.analyses, analysis.reuses), (3, 0));
        }
    }
}

#[tokio::test]
async fn branches_that_disagree_are_counted_as_a_conflict() {
    let write = |value: i64| {
        Step::new(
            "write",
            Handler::scoped(move |input: Value, scope| async move {
                scope.update(|context| context.set("same", Value::from(value)));
                Ok(input)
            }),
        )
    };
    let lanes = Parallel::new("lanes").branch("a", write(1)).branch("b", write(2));
    let runner = Runner::builder(lanes).build().unwrap();
    assert_eq!(runner.run(Value::Null, Context::new()).await.status(), "failed");
    let counts = runner.performance_statistics().context_stats;
    assert_eq!((counts.merges, counts.conflicts), (0, 1));
}

/// How many runs there are, unless the environment asks for another number.
fn runs() -> usize {
    let wanted = std::env::var("FLUJO_SWITCHED_RUNS").ok();
    wanted.and_then(|runs| runs.parse().ok()).unwrap_or(10_000)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_with_the_switch_thrown_at_random_while_they_run_are_all_the_same() {
    let runner = Runner::builder(whole()).build().unwrap();
    let expected = told(&runner.run(Value::from(1), context()).await);
    let stop = Arc::new(AtomicBool::new(false));
    let thrower = std::thread::spawn({
        let (runner, stop) = (runner.clone(), Arc::clone(&stop));
        move || {
            let mut random: u32 = 1;
            let mut thrown = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                // Marsaglia's xorshift.
                random ^= random << 13;
                random ^= random >> 17;
                random ^= random << 5;
                if random & 1 == 0 {
                    runner.disable_optimizations();
                } else {
                    runner.enable_optimizations();
                }
                thrown += 1;
                std::thread::yield_now();
            }
            thrown
        }
    });
    let mut under_way = tokio::task::JoinSet::new();
    for number in 0..runs() {
        if number >= 64 {
            assert_eq!(under_way.join_next().await.unwrap().unwrap(), expected);
        }
        let run = runner.run(Value::from(1), context());
        under_way.spawn(async move { told(&run.await) });
    }
    while let Some(told) = under_way.join_next().await {
        assert_eq!(told.unwrap(), expected);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(thrower.join().unwrap() > 0);
    let statistics = runner.performance_statistics();
    assert_eq!(statistics.execution_count, runs() as u64 + 1);
    assert_eq!(statistics.context_stats.forks, 10 * (runs() as u64 + 1));
}

#[tokio::test]
async fn machines_get_the_buffers_of_those_before_them_and_none_is_in_use_when_all_runs_are_over() {
    let config = OptimizationConfig {
        max_pool_size: 3,
        ..OptimizationConfig::default()
    };
    let runner = Runner::builder(whole())
        .optimization_config(config)
        .build()
        .unwrap();
    for _ in 0..10 {
        let _ = runner.run(Value::from(1), context()).await;
    }
    let pool = runner.performance_statistics().pool_stats;
    // A machine for the run and one for each lane.
    assert_eq!((pool.hits + pool.misses, pool.in_use), (50, 0));
    assert_eq!(pool.retained["machine"], 3);
    assert!(pool.hits >= 3 * 9, "{pool:?}");
    assert_eq!(pool.overflow, 50 - 3 - pool.hits, "{pool:?}");

    let mut dropped = runner.run(Value::from(1), context());
    let _ = dropped.events().next().await;
    let in_use = || runner.performance_statistics().pool_stats.in_use;
    assert!(in_use() > 0);
    drop(dropped);
    while in_use() > 0 {
        tokio::task::yield_now().await; // lanes are tasks, and end when their runtime gets to it
    }

    runner.disable_optimizations();
    runner.reset_performance_statistics();
    let _ = runner.run(Value::from(1), context()).await;
    let pool = runner.performance_statistics().pool_stats;
    assert_eq!((pool.hits, pool.misses, pool.in_use), (0, 5, 0));
}
