//! A step's life: retries, time limits, validators, fallbacks, usage, panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flujo::{
    Agent, AgentError, AgentOutput, AgentRequest, Backoff, BoxError, BoxFuture, Context, Cost, EventKind,
    Flujo, OptimizationConfig, Pricing, RunError, Scope, Status, Usage, UsageLimits, Value, agent_step,
    branch, parallel, step,
};
use tokio::time::{Instant, sleep};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn tokens(tokens: u64) -> Usage {
    Usage::new(Cost::ZERO, tokens)
}

/// Uses some tokens, then succeeds or fails.
struct Model {
    uses: u64,
    fails: bool,
}

impl Agent for Model {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            if self.fails {
                let mut error = AgentError::new(format!("no answer from {}", request.step));
                error.usage = tokens(self.uses);
                return Err(error);
            }
            Ok(AgentOutput {
                value: request.input,
                usage: tokens(self.uses),
                model: None,
                tokens: None,
            })
        })
    }
}

fn model(name: &str, uses: u64, fails: bool) -> flujo::Step<Value, Value> {
    agent_step(name, Model { uses, fails })
}

#[tokio::test]
async fn failed_attempts_and_the_fallback_all_count_and_the_first_error_is_kept() {
    let p = model("primary", 10, true).fallback(model("second", 5, false));
    let done = Flujo::new(p).run(Value::from("x")).await.unwrap();
    assert_eq!(done.usage, tokens(25));
    let primary = done.steps.get("primary").unwrap();
    assert_eq!((primary.attempts(), primary.usage()), (2, tokens(25)));
    assert!(primary.fallback_for().unwrap().contains("no answer from primary"));
}

/// A model whose price nobody has said.
struct Unpriced(Arc<AtomicU32>);

impl Agent for Unpriced {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        let usage = Usage {
            requests: 1,
            unpriced: true,
            ..tokens(5)
        };
        Box::pin(async move {
            Ok(AgentOutput {
                value: request.input,
                usage,
                model: None,
                tokens: None,
            })
        })
    }

    fn pricing(&self) -> Pricing {
        Pricing::Unknown
    }
}

#[tokio::test]
async fn a_model_without_a_price_is_refused_where_cost_is_limited_and_runs_elsewhere() {
    let calls = Arc::new(AtomicU32::new(0));
    let p = || model("free", 3, false) >> agent_step("ask", Unpriced(Arc::clone(&calls))).retries(3);
    let limited = |limits| Flujo::builder(p()).usage_limits(limits).build().unwrap();
    let costs = UsageLimits {
        cost: Some(Cost::from_dollars(1.0).unwrap()),
        ..UsageLimits::default()
    };
    let error = limited(costs).run(Value::from("x")).await.unwrap_err();
    let RunError::PricingNotConfigured { failure, partial } = &error else {
        panic!("{error:?}");
    };
    assert_eq!((&*failure.step, partial.usage), ("ask", tokens(3)));
    assert!(
        error
            .to_string()
            .contains("without a price, but cost is limited to $1"),
        "{error}"
    );
    assert_eq!(calls.load(Ordering::Relaxed), 0);

    let done = limited(UsageLimits {
        tokens: Some(100),
        ..UsageLimits::default()
    });
    let done = done.run(Value::from("x")).await.unwrap();
    assert!(done.usage.unpriced && done.steps.get("ask").unwrap().usage().unpriced);
    assert!(!done.steps.get("free").unwrap().usage().unpriced);
}

/// Fails after it has sent a request.
struct Refused;

impl Agent for Refused {
    fn run(&self, _: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async {
            let mut error = AgentError::new("503");
            error.usage.requests = 1;
            Err(error)
        })
    }
}

#[tokio::test]
async fn requests_of_failed_attempts_count_against_their_limit() {
    let limits = UsageLimits {
        requests: Some(2),
        ..UsageLimits::default()
    };
    let flujo = Flujo::builder(agent_step("ask", Refused).retries(9)).usage_limits(limits);
    let error = flujo.build().unwrap().run(Value::Null).await.unwrap_err();
    assert!(matches!(error, RunError::LimitExceeded { .. }), "{error:?}");
    assert_eq!(error.partial().unwrap().usage.requests, 3);
}

#[tokio::test]
async fn events_of_ends_and_failures_tell_what_was_used_and_how_many_attempts_it_took() {
    let p = model("primary", 10, true).fallback(model("second", 5, false));
    let flujo = Flujo::new(parallel("split", [("a", p)]));
    let mut run = flujo.start(Value::from("x"));
    let mut told = Vec::new();
    while let Some(event) = run.events().next().await {
        let (usage, attempts) = match event.kind {
            EventKind::AttemptFailed { usage, .. } => (usage, event.place.attempt),
            EventKind::StepFinished { usage, attempts } => (usage, attempts),
            EventKind::RunFinished { usage, .. } => (usage, 0),
            _ => continue,
        };
        told.push((event.place.step.to_string(), usage.tokens, attempts));
    }
    let expected = [
        ("primary", 10, 1),
        ("primary", 20, 2),
        ("second", 5, 1),
        ("primary", 25, 2),
        ("split", 25, 0),
        ("pipeline", 25, 0),
    ];
    assert_eq!(
        told,
        expected.map(|(step, used, attempts)| (step.to_owned(), used, attempts))
    );
}

#[tokio::test]
async fn when_the_fallback_fails_too_both_errors_are_told() {
    let p = model("primary", 10, true).fallback(model("second", 5, true).retries(0));
    let error = Flujo::new(p).run(Value::Null).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("from primary") && text.contains("from second"),
        "{text}"
    );
    assert_eq!(error.partial().unwrap().usage, tokens(25));
}

#[tokio::test]
async fn usage_in_branches_is_the_sum_of_their_leaves() {
    let p = || model("primary", 10, true).fallback(model("second", 5, false));
    let p = parallel("split", [("a", p()), ("b", p())]);
    let done = Flujo::new(p).run(Value::Null).await.unwrap();
    assert_eq!(done.usage, tokens(50));
    let split = done.steps.get("split").unwrap();
    assert_eq!(split.usage(), tokens(50));
    assert!(split.lanes().all(|lane| lane.usage() == tokens(25)));
}

#[tokio::test]
async fn exactly_at_the_limit_is_allowed_and_beyond_it_the_run_stops_with_exact_totals() {
    let three = || model("one", 5, false) >> model("two", 5, false) >> model("three", 5, false);
    let run = |limit: u64| async move {
        let limits = UsageLimits {
            tokens: Some(limit),
            ..UsageLimits::default()
        };
        let flujo = Flujo::builder(three()).usage_limits(limits).build().unwrap();
        flujo.run(Value::Null).await
    };
    assert_eq!(run(15).await.unwrap().usage, tokens(15));
    let error = run(9).await.unwrap_err();
    assert!(matches!(&error, RunError::LimitExceeded { breach, .. } if &*breach.step == "two"));
    let partial = error.partial().unwrap();
    assert_eq!(partial.usage, tokens(10));
    assert!(partial.steps.get("three").is_none());
}

#[tokio::test]
async fn a_steps_own_limit_counts_its_attempts_and_stops_the_run() {
    let limits = UsageLimits {
        tokens: Some(15),
        ..UsageLimits::default()
    };
    let p = model("greedy", 10, true).retries(5).usage_limits(limits);
    let error = Flujo::new(p).run(Value::Null).await.unwrap_err();
    assert!(matches!(&error, RunError::LimitExceeded { .. }), "{error}");
    assert_eq!(error.partial().unwrap().usage, tokens(20));
}

#[derive(Debug, Default, Context)]
struct Late {
    x: u32,
}

#[tokio::test(start_paused = true)]
async fn work_that_outlives_its_time_limit_reaches_neither_context_nor_totals() {
    let (finished, attempts) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let work = {
        let (finished, attempts) = (Arc::clone(&finished), Arc::clone(&attempts));
        step("slow", move |(): (), s: Scope<Late>| {
            let finished = Arc::clone(&finished);
            attempts.fetch_add(1, Ordering::SeqCst);
            async move {
                // A task that nobody can stop, as a blocking call is.
                let orphan = tokio::spawn(async move {
                    sleep(ms(2000)).await;
                    s.context().update(|c| c.x = 1);
                    s.add_usage(tokens(99));
                    finished.fetch_add(1, Ordering::SeqCst);
                });
                orphan.await.map_err(BoxError::from)
            }
        })
    };
    let begin = Instant::now();
    let error = Flujo::new(work.timeout(ms(100)).retries(2))
        .run(())
        .await
        .unwrap_err();
    assert_eq!(attempts.load(Ordering::SeqCst), 3);
    assert!(begin.elapsed() < ms(400));
    assert!(error.to_string().contains("time limit of 100ms"), "{error}");
    sleep(ms(3000)).await;
    assert_eq!(finished.load(Ordering::SeqCst), 3);
    let partial = error.partial().unwrap();
    assert_eq!(partial.usage, Usage::ZERO);
    assert_eq!(partial.context.get("x"), Some(&Value::from(0)));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_counts_the_whole_step_with_its_waits() {
    let p = step("broken", |(): ()| async move { Err::<(), BoxError>("no".into()) })
        .retries(100)
        .backoff(Backoff::Fixed(ms(40)))
        .deadline(ms(100));
    let begin = Instant::now();
    let error = Flujo::new(p).run(()).await.unwrap_err();
    assert!(begin.elapsed() <= ms(100));
    assert_eq!(
        error.partial().unwrap().steps.get("broken").unwrap().attempts(),
        3
    );
}

#[tokio::test]
async fn a_rejected_output_is_tried_again_and_told_why() {
    let p = step("draft", |n: u32, s: Scope<()>| async move {
        Ok::<_, BoxError>(n + s.current().attempt)
    })
    .output_processor(|n: u32| async move { Ok::<_, BoxError>(n * 10) })
    .validate(|n: &u32| {
        if *n >= 20 {
            Ok(())
        } else {
            Err(format!("{n} is too small"))
        }
    });
    let done = Flujo::new(p).run(0).await.unwrap();
    assert_eq!(done.output, 20);
    let feedback: Vec<String> = done.steps.get("draft").unwrap().attempt_feedback().collect();
    assert_eq!(feedback, ["Validation failed: 10 is too small (attempt 1)"]);
}

#[tokio::test]
async fn a_permanent_error_is_not_tried_again() {
    let p = step("refused", |(): ()| async move {
        Err::<(), BoxError>(AgentError::permanent("wrong key").into())
    })
    .retries(5);
    let error = Flujo::new(p).run(()).await.unwrap_err();
    assert_eq!(
        error.partial().unwrap().steps.get("refused").unwrap().attempts(),
        1
    );
}

#[tokio::test]
async fn a_panic_in_user_code_is_a_failure_with_its_message() {
    let late = step("late", |(): ()| async move {
        tokio::task::yield_now().await;
        assert_eq!(1, 2, "went wrong");
        Ok::<_, BoxError>(())
    });
    let early = step("early", |(): ()| {
        assert_eq!(1, 2, "went wrong");
        async { Ok::<_, BoxError>(()) }
    });
    let check = step("check", |(): ()| async { Ok::<_, BoxError>(()) }).validate(|()| panic!("went wrong"));
    for p in [late, early, check] {
        let error = Flujo::new(p.retries(0)).run(()).await.unwrap_err();
        assert!(
            error.to_string().contains("the code panicked: ") && error.to_string().contains("went wrong"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_unknown_branch_names_the_key_and_the_known_ones() {
    let keep = || step("keep", |n: u32| async move { Ok::<_, BoxError>(n) });
    let p = branch("by size", |n: &u32| n.to_string())
        .case("1", keep())
        .case("2", keep());
    let done = Flujo::new(p).run(2).await.unwrap();
    assert_eq!(done.steps.get("by size").unwrap().branch(), Some("2"));
    let p = branch("by size", |n: &u32| n.to_string())
        .case("1", keep())
        .case("2", keep());
    let error = Flujo::new(p).run(3).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("'3'") && text.contains("'1', '2'"), "{text}");
}

/// Gives back what it was asked.
struct Mirror;

impl Agent for Mirror {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            let told = [
                ("input", request.input),
                ("context", request.context),
                ("steps", request.steps),
                ("key", Value::from(&*request.idempotency_key)),
            ];
            Ok(Value::map(told).into())
        })
    }
}

#[tokio::test]
async fn an_agent_is_told_the_context_and_the_outputs_of_earlier_steps_also_in_branches() {
    let first = agent_step(
        "first",
        Model {
            uses: 0,
            fails: false,
        },
    );
    let p = first
        >> parallel("split", [("a", agent_step("mirror", Mirror))])
        >> step("take", |v: Vec<(String, Value)>| async move {
            Ok::<_, BoxError>(v[0].1.clone())
        });
    let read = step("set", |v: Value, s: Scope<Value>| async move {
        s.context().set(&Value::map([("topic", Value::from("tea"))]));
        Ok::<_, BoxError>(v)
    });
    let done = Flujo::new(read >> p).run(Value::from("x")).await.unwrap();
    let told = done.output;
    assert_eq!(told.get("steps").unwrap().get("first"), Some(&Value::from("x")));
    assert_eq!(
        told.get("context").unwrap().get("topic"),
        Some(&Value::from("tea"))
    );
    let key = told.get("key").unwrap().as_str().unwrap();
    assert!(
        key.ends_with("/split[a]/split/a/mirror") && key.starts_with(&done.id.to_string()),
        "{key}"
    );
}

#[tokio::test]
async fn statistics_count_runs_and_steps_and_name_the_twins_in_use() {
    let p = step("work", |n: u32| async move {
        if n == 0 {
            Err(BoxError::from("zero"))
        } else {
            Ok(n)
        }
    });
    let flujo = Flujo::builder(p.retries(0))
        .optimization_config(OptimizationConfig::default())
        .build()
        .unwrap();
    flujo.run(1).await.unwrap();
    flujo.run(0).await.unwrap_err();
    let statistics = flujo.performance_statistics().unwrap();
    assert_eq!(statistics.execution_count, 2);
    assert_eq!(statistics.error_stats.count, 1);
    assert_eq!(
        statistics
            .execution_time_stats
            .by_step
            .get("work")
            .map(|times| times.count),
        Some(2)
    );
    let names = |flujo: &Flujo<u32, u32>| format!("{:?}", flujo.performance_statistics().unwrap());
    assert!(names(&flujo).contains("Optimized"));
    flujo.disable_optimizations();
    assert!(!names(&flujo).contains("Optimized"));
}

#[tokio::test]
async fn the_tree_shows_state_attempts_and_lanes() {
    let p = step("one", |n: u32, s: Scope<()>| async move {
        if s.current().attempt == 1 {
            Err(BoxError::from("not yet"))
        } else {
            Ok(n)
        }
    });
    let p = parallel("split", [("a", p)]);
    let done = Flujo::new(p).run(1).await.unwrap();
    let tree = done.steps.to_string();
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].starts_with("✓ split"), "{tree}");
    assert!(lines[1].starts_with("  · a"), "{tree}");
    assert!(
        lines[2].starts_with("    ✓ one") && lines[2].ends_with("2 attempts"),
        "{tree}"
    );
    assert_eq!(done.steps.iter().next().unwrap().status(), Status::Succeeded);
}
