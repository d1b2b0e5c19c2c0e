//! Cases of `docs/cases.md` on the tokio host, named after their clauses.

#![allow(clippy::expect_used)] // also in what the tests share: a panic is how a test fails

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use flujo_core::config::OptimizationConfig;
use flujo_core::context::Context;
use flujo_core::machine::{Details, ExitReason, Record, Status};
use flujo_core::value::Value;
use flujo_tokio::{Conditional, Done, Handler, Human, Loop, Parallel, Pipeline, Runner, Step, Tokio};

fn runner(pipeline: impl Into<Pipeline>) -> Runner {
    Runner::builder(pipeline).build().expect("the pipeline can run")
}

async fn answer(runner: &Runner, done: &Done, answer: &str) -> Done {
    let paused = done.paused.as_ref().expect("it is paused");
    runner.resume(paused, answer.into()).expect("it goes on").await
}

fn record<'a>(done: &'a Done, name: &str) -> Vec<&'a Record<Tokio>> {
    let records = done.finish.history.records.iter();
    records
        .filter(|record| &*done.plan.node(record.node).name == name)
        .collect()
}

/// A step that counts its calls and passes its input on.
fn counted(name: &'static str) -> (Step, Arc<AtomicU32>) {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let step = Handler::processor(move |input, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(input.clone())
    });
    (Step::new(name, step).retries(0), calls)
}

fn appends(name: &'static str, field: &'static str, value: &'static str) -> Step {
    let append = Handler::inline(move |decision| {
        let mut list = decision
            .context
            .get(field)
            .and_then(Value::as_list)
            .map(<[Value]>::to_vec)
            .unwrap_or_default();
        list.push(Value::from(value));
        decision.context.set(field, Value::from(list));
        Ok(flujo_core::machine::Answer::Value {
            value: decision.value().clone(),
            usage: flujo_core::usage::Usage::ZERO,
        })
    });
    Step::new(name, append).retries(0)
}

#[tokio::test]
async fn p01_a_question_at_any_place_of_a_loops_body_runs_no_step_again() {
    for place in ["first", "between", "last", "conditional", "twice"] {
        let (a, first) = counted("a");
        let (b, last) = counted("b");
        let b = b.sink_to("slot");
        let ask = || Human::new("ask");
        let body = match place {
            "first" => Pipeline::from(ask()).then(a).then(b),
            "last" => Pipeline::from(a).then(b).then(ask()),
            "conditional" => Pipeline::from(a)
                .then(Conditional::new("choose", |_, _| Ok("it".to_owned())).branch("it", ask()))
                .then(b),
            "twice" => Pipeline::from(a).then(ask()).then(Human::new("again")).then(b),
            _ => Pipeline::from(a).then(ask()).then(b),
        };
        let seen = Arc::new(AtomicU32::new(0));
        let exits = Arc::clone(&seen);
        let turns = Loop::until("turns", body, move |output, _| {
            exits.fetch_add(1, Ordering::Relaxed);
            Ok(output.as_str() == Some("y"))
        });
        let runner = runner(turns);
        let mut done = runner.run("go".into(), Context::new()).await;
        let answers: &[&str] = if place == "twice" {
            &["w", "x", "w", "y"]
        } else {
            &["x", "y"]
        };
        for given in answers {
            assert_eq!(done.status(), "paused", "{place}");
            done = answer(&runner, &done, given).await;
        }
        assert_eq!(
            done.output(),
            Some(&Value::from("y")),
            "{place}: {:?}",
            done.finish.outcome
        );
        let calls = (first.load(Ordering::Relaxed), last.load(Ordering::Relaxed));
        assert_eq!(calls, (2, 2), "{place}");
        assert_eq!(
            seen.load(Ordering::Relaxed),
            2,
            "{place}: the exit condition is asked once an iteration"
        );
        let turns = record(&done, "turns");
        assert_eq!((turns.len(), turns[0].attempts), (1, 2), "{place}");
        let fields: Vec<_> = done.finish.context.iter().map(|(name, _)| &**name).collect();
        assert_eq!(
            fields,
            ["slot"],
            "{place}: nothing of the pauses is left in the context"
        );
    }
}

#[tokio::test]
async fn p02_a_pause_is_neither_retried_nor_handed_to_a_fallback_nor_to_a_failure_route() {
    let (inner, calls) = counted("inner");
    let (fallback, fallbacks) = counted("fallback");
    let (handler, handled) = counted("handler");
    let body = Pipeline::from(inner).then(Human::new("ask"));
    let step = Step::body("whole", body).retries(3).fallback(fallback);
    let runner = runner(step.on_failure(handler));
    let done = runner.run("go".into(), Context::new()).await;
    assert_eq!(done.status(), "paused");
    assert_eq!(
        done.paused.as_ref().expect("it is paused").pauses()[0].message,
        "go"
    );
    let done = answer(&runner, &done, "yes").await;
    assert_eq!(done.output(), Some(&Value::from("yes")));
    let whole = record(&done, "whole");
    assert_eq!((whole[0].attempts, whole[0].status), (1, Status::Succeeded));
    let counts = [calls, fallbacks, handled].map(|calls| calls.load(Ordering::Relaxed));
    assert_eq!(counts, [1, 0, 0]);
}

#[tokio::test]
async fn p02_a_limit_passes_every_construct_and_is_not_handled() {
    use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
    use flujo_core::usage::{Usage, UsageLimits};

    struct Costly;
    impl Agent for Costly {
        fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
            let usage = Usage {
                tokens: 10,
                ..Usage::ZERO
            };
            let mut output = AgentOutput::from(request.input);
            output.usage = usage;
            Box::pin(async move { Ok(output) })
        }
    }
    let (fallback, fallbacks) = counted("fallback");
    let (handler, handled) = counted("handler");
    let call = Step::agent("call", Arc::new(Costly));
    let turns = Loop::until("turns", call, |_, _| Ok(false)).max_loops(9);
    let step = Step::body("whole", turns).retries(3).fallback(fallback);
    let limits = UsageLimits {
        tokens: Some(25),
        ..UsageLimits::default()
    };
    let runner = Runner::builder(step.on_failure(handler))
        .usage_limits(limits)
        .build();
    let done = runner
        .expect("the pipeline can run")
        .run("go".into(), Context::new())
        .await;
    assert_eq!(done.status(), "limit_exceeded");
    assert_eq!(
        done.finish.usage.tokens, 30,
        "the call that passed the limit counts"
    );
    let counts = [fallbacks, handled].map(|calls| calls.load(Ordering::Relaxed));
    assert_eq!(counts, [0, 0]);
}

#[tokio::test]
async fn p29_what_was_there_before_is_not_doubled_however_deep_branches_nest() {
    let branch = |name: &'static str, value| appends(name, "history", value);
    let mut nested = Pipeline::from(
        Parallel::new("innermost")
            .branch("a", branch("a", "a"))
            .branch("b", branch("b", "b")),
    );
    for _ in 0..10 {
        nested = Parallel::new("level").branch("only", nested).into();
    }
    let mut context = Context::new();
    context.set("history", Value::list([Value::from("q")]));
    let done = runner(nested).run(Value::Null, context).await;
    let history = done.finish.context.get("history");
    assert_eq!(
        history,
        Some(&Value::list(["q", "a", "b"].map(Value::from))),
        "{:?}",
        done.finish.outcome
    );
}

fn plus_one(name: &'static str) -> Step {
    let add = Handler::processor(|number, _| Ok(Value::from(number.as_int().unwrap_or_default() + 1)));
    Step::new(name, add).retries(0)
}

#[tokio::test]
async fn p34_each_iteration_sees_the_output_of_the_one_before() {
    let turns = Loop::until("turns", plus_one("add"), |number, _| {
        Ok(number.as_int() == Some(5))
    });
    let done = runner(turns).run(Value::from(0), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::from(5)));
    assert_eq!(record(&done, "add").len(), 5);
}

#[tokio::test]
async fn p34_the_step_after_three_branches_is_given_all_three_by_name() {
    let fan = Parallel::new("fan")
        .branch("x", plus_one("x"))
        .branch("y", Pipeline::from(plus_one("y")).then(plus_one("y2")))
        .branch("z", plus_one("z"));
    let sum = Handler::processor(|outputs, _| {
        let of = |name: &str| outputs.get(name).and_then(Value::as_int).unwrap_or_default();
        Ok(Value::from(of("x") * 100 + of("y") * 10 + of("z")))
    });
    let pipeline = Pipeline::from(fan).then(Step::new("sum", sum));
    let done = runner(pipeline).run(Value::from(1), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::from(232)));
}

#[tokio::test]
async fn p34_a_router_in_a_loop_that_chooses_one_branch_four_times_runs_it_four_times() {
    let (branch, calls) = counted("branch");
    let (other, others) = counted("other");
    let choose = Step::new("choose", Handler::processor(|_, _| Ok(Value::from("it"))));
    let route = Parallel::new("route")
        .router(choose)
        .branch("it", branch)
        .branch("other", other);
    let turns = AtomicU32::new(0);
    let turns = Loop::until("turns", route, move |_, _| {
        Ok(turns.fetch_add(1, Ordering::Relaxed) == 3)
    });
    let done = runner(turns).run("go".into(), Context::new()).await;
    assert_eq!(done.status(), "completed", "{:?}", done.finish.outcome);
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    assert_eq!(others.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn p34_a_loop_that_never_has_done_keeps_its_last_output_and_context_and_says_why() {
    let body = Pipeline::from(plus_one("add")).then(appends("note", "log", "turn"));
    let turns = Loop::until("turns", body, |_, _| Ok(false)).max_loops(3);
    let done = runner(turns).run(Value::from(0), Context::new()).await;
    assert_eq!(done.status(), "failed");
    let turns = record(&done, "turns")[0];
    assert_eq!(turns.output, Some(Value::from(3)));
    let end = turns
        .details
        .as_deref()
        .and_then(|details: &Details<Tokio>| details.loop_end);
    assert_eq!(end.map(|end| end.reason), Some(ExitReason::MaxLoops));
    let log = done.finish.context.get("log").and_then(Value::as_list);
    assert_eq!(log.map(<[Value]>::len), Some(3));
}

/// A pipeline that carries a secret through its context, its output and its feedback, and fails where it is told to.
fn secret_keeper() -> Pipeline {
    let keep = Step::new(
        "keep",
        Handler::scoped(|secret: Value, scope| async move {
            scope.update(|context| context.set("secret", secret.clone()));
            tokio::task::yield_now().await;
            if secret.as_str().is_some_and(|secret| secret.ends_with('7')) {
                return Err(format!("broke over {secret:?}").into());
            }
            Ok(secret)
        }),
    )
    .retries(1);
    let lane = |name: &'static str| {
        Step::new(
            name,
            Handler::scoped(|secret: Value, scope| async move {
                let known = scope.context().get("secret").cloned();
                tokio::task::yield_now().await;
                assert_eq!(known.as_ref(), Some(&secret));
                Ok(secret)
            }),
        )
    };
    Pipeline::from(keep).then(
        Parallel::new("lanes")
            .branch("a", lane("a"))
            .branch("b", lane("b")),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p16_with_a_pool_of_two_no_run_shows_anything_of_another() {
    for optimized in [true, false] {
        let config = OptimizationConfig {
            max_pool_size: 2,
            ..OptimizationConfig::default()
        };
        let runner = Runner::builder(secret_keeper())
            .optimization_config(config)
            .optimizations(optimized)
            .build()
            .unwrap();
        let mut held = Vec::new();
        for round in 0..4 {
            let mut runs = tokio::task::JoinSet::new();
            for number in 0..50 {
                let secret = format!("secret-{round}-{number}-{}", number % 10);
                let run = runner.run(Value::from(secret.as_str()), Context::new());
                runs.spawn(async move { (secret, run.await) });
            }
            while let Some(done) = runs.join_next().await {
                held.push(done.unwrap());
            }
        }
        // Looked at when all runs are over and what was pooled has been used again and again.
        for (secret, done) in &held {
            let shown = format!("{:?}", done.finish);
            let found: std::collections::BTreeSet<&str> = shown
                .split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-'))
                .filter(|word| word.starts_with("secret-"))
                .collect();
            assert_eq!(found.into_iter().collect::<Vec<_>>(), [secret.as_str()]);
            assert_eq!(done.output().is_some(), !secret.ends_with('7'));
        }
        let pool = runner.performance_statistics().pool_stats;
        assert_eq!(pool.in_use, 0);
        assert!(pool.retained["machine"] <= 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p15_twenty_thousand_runs_some_failing_some_cancelled_leave_nothing_behind() {
    let runner = Runner::builder(secret_keeper()).build().unwrap();
    let alive = Arc::new(());
    let round = |from: u32| {
        let (runner, alive) = (runner.clone(), Arc::clone(&alive));
        async move {
            let mut runs = tokio::task::JoinSet::new();
            for number in from..from + 500 {
                let mut context = Context::new();
                context.set("held", Value::opaque(Arc::clone(&alive)));
                context.set("text", Value::from("x".repeat(10_000)));
                let run = runner.run(Value::from(format!("{number}")), context);
                if number % 10 == 3 {
                    run.cancel();
                }
                runs.spawn(run);
            }
            while let Some(done) = runs.join_next().await {
                done.unwrap();
            }
        }
    };
    for number in 0..10 {
        round(number * 500).await;
    }
    let before = runner.performance_statistics().memory_stats.current_rss_bytes;
    for number in 10..50 {
        round(number * 500).await;
    }
    let statistics = runner.performance_statistics();
    let grown = statistics.memory_stats.current_rss_bytes.saturating_sub(before);
    assert!(grown < 20_000_000, "resident memory has grown by {grown} bytes");
    assert_eq!(Arc::strong_count(&alive), 1, "every context is gone");
    assert_eq!(statistics.execution_count, 25_000);
    assert_eq!(statistics.pool_stats.in_use, 0);
    assert!(statistics.pool_stats.retained["machine"] <= 100);
}

#[tokio::test]
async fn p15_a_run_of_twenty_thousand_iterations_keeps_nothing_of_those_that_are_over() {
    let alive = Arc::new(());
    let turn = {
        let alive = Arc::clone(&alive);
        Step::new(
            "turn",
            Handler::scoped(move |input: Value, scope| {
                let alive = Arc::clone(&alive);
                async move {
                    let count = input.as_int().unwrap_or(0) + 1;
                    scope.update(|context| {
                        context.set("held", Value::opaque(alive));
                        context.set("text", Value::from("x".repeat(10_000)));
                    });
                    Ok(Value::from(count))
                }
            }),
        )
    };
    let repeat = Loop::until("loop", turn, |count, _| Ok(count.as_int() == Some(20_000))).max_loops(20_000);
    let runner = Runner::builder(repeat).build().unwrap();
    let before = runner.performance_statistics().memory_stats.current_rss_bytes;
    let done = runner.run(Value::from(0), Context::new()).await;
    assert_eq!(done.output(), Some(&Value::from(20_000)));
    // The step that makes it, and the context as it is at the end.
    assert_eq!(Arc::strong_count(&alive), 3);
    let statistics = runner.performance_statistics();
    let grown = statistics.memory_stats.current_rss_bytes.saturating_sub(before);
    // Each iteration leaves two records; their contexts together would be 200 MB.
    assert!(grown < 40_000_000, "resident memory has grown by {grown} bytes");
}
