//! Cases of `docs/cases.md` about usage and growth, on the tokio host.

#![allow(clippy::expect_used)] // also in what the tests share: a panic is how a test fails

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use flujo_core::config::OptimizationConfig;
use flujo_core::context::Context;
use flujo_core::machine::{Outcome, Stop};
use flujo_core::usage::{Cost, Usage, UsageLimits};
use flujo_core::value::Value;
use flujo_tokio::{Handler, Loop, Parallel, Runner, Step};

/// Counts its calls, which last until they are cancelled.
#[derive(Clone, Default)]
struct Held(Arc<AtomicUsize>);

impl Agent for Held {
    fn run(&self, _: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::pending())
    }
}

fn cents(cents: f64) -> Cost {
    Cost::from_dollars(cents / 100.0).expect("an amount")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p03_of_eight_branches_that_start_together_only_those_that_fit_are_called() {
    for optimized in [true, false] {
        let held = Held::default();
        let mut fan = Parallel::new("fan");
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            let step = Step::agent(name, Arc::new(held.clone())).retries(0);
            fan = fan.branch(name, step.estimate(Usage::new(cents(4.0), 0)));
        }
        let limits = UsageLimits {
            cost: Some(cents(10.0)),
            ..UsageLimits::default()
        };
        let config = OptimizationConfig {
            enable_usage_optimization: optimized,
            ..OptimizationConfig::default()
        };
        let runner = Runner::builder(fan)
            .usage_limits(limits)
            .optimization_config(config);
        let done = runner
            .build()
            .expect("a runner")
            .run(Value::from(0), Context::new())
            .await;
        let Outcome::Stopped(Stop::LimitExceeded(breach)) = &done.finish.outcome else {
            unreachable!("a limit expected: {:?}", done.finish.outcome);
        };
        assert!(breach.refused);
        assert_eq!((breach.used.cost, breach.reserved.cost), (Cost::ZERO, cents(8.0)));
        // Of the two whose reservation fits one may be cancelled before its call.
        assert!(held.0.load(Ordering::SeqCst) <= 2);
        assert_eq!(done.finish.usage, Usage::ZERO);
    }
}

#[tokio::test]
async fn p14_a_large_field_that_nobody_touches_costs_no_work_per_step() {
    let mut counted = Vec::new();
    for bytes in [0, 10_000_000] {
        let append = Handler::inline(|decision| {
            let messages = decision.context.get("messages").and_then(Value::as_list);
            let mut messages = messages.map(<[Value]>::to_vec).unwrap_or_default();
            messages.push(Value::from("m".repeat(1000)));
            let made = i64::try_from(messages.len()).unwrap_or(i64::MAX);
            decision.context.set("messages", Value::from(messages));
            Ok(flujo_core::machine::Answer::Value {
                value: Value::from(made),
                usage: Usage::ZERO,
            })
        });
        let grow = Loop::until("grow", Step::new("append", append), |made, _| {
            Ok(made.as_int() == Some(300))
        })
        .max_loops(300);
        let runner = Runner::builder(grow).build().expect("a runner");
        let mut context = Context::new();
        context.set("untouched", Value::from("x".repeat(bytes)));
        let done = runner.run(Value::from(0), context).await;
        assert!(matches!(&done.finish.outcome, Outcome::Completed(made) if made.as_int() == Some(300)));
        let context = runner.performance_statistics().context_stats;
        counted.push((context.forks, context.fields_cloned, context.bytes_cloned));
    }
    assert_eq!(counted[0], counted[1]);
    assert_eq!((counted[1].1, counted[1].2), (0, 0), "nothing is cloned at all");
}
