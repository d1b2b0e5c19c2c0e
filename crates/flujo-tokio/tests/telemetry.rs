//! Spans of runs on tokio: right parents across tasks and threads, ended whatever becomes of the run, the same of both
//! twins.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture, TokenCounts};
use flujo_core::cache::CachePolicy;
use flujo_core::config::OptimizationConfig;
use flujo_core::context::Context;
use flujo_core::telemetry::{
    Attribute, SampleRate, Span, SpanContext, SpanId, SpanKind, SpanQueue, SpanSettings, SpanStatus,
};
use flujo_core::usage::{Cost, Usage};
use flujo_core::value::Value;
use flujo_tokio::{Done, EventKind, Handler, Human, Loop, MapOver, Parallel, Pipeline, Runner, Step};
use futures_core::Stream;

const TWINS: [bool; 2] = [true, false];

/// A runner whose spans go into the queue.
fn runner(pipeline: impl Into<Pipeline>, optimized: bool) -> (Runner, Arc<SpanQueue>) {
    let queue = Arc::new(SpanQueue::new(SpanSettings::default()));
    let builder = Runner::builder(pipeline).telemetry(Arc::clone(&queue));
    let config = OptimizationConfig {
        enable_telemetry_optimization: optimized,
        ..OptimizationConfig::default()
    };
    let runner = builder
        .optimization_config(config)
        .build()
        .expect("the pipeline can run");
    (runner, queue)
}

async fn run(runner: &Runner, input: impl Into<Value>) -> Done {
    runner.run(input.into(), Context::new()).await
}

/// `name<parent<…<root`, one for each span.
fn ways(spans: &[Span]) -> Vec<String> {
    let by_id: HashMap<SpanId, &Span> = spans.iter().map(|span| (span.context.span, span)).collect();
    let way = |span: &Span| {
        let mut names = vec![span.name.clone()];
        let mut parent = span.parent;
        while let Some(found) = parent.and_then(|parent| by_id.get(&parent)) {
            names.push(found.name.clone());
            parent = found.parent;
        }
        names.join("<")
    };
    let mut ways: Vec<_> = spans.iter().map(way).collect();
    ways.sort();
    ways
}

/// Every span's id once, one trace, one root, all parents there.
fn assert_one_tree(spans: &[Span]) {
    let ids: HashSet<_> = spans.iter().map(|span| span.context.span).collect();
    assert_eq!(ids.len(), spans.len());
    assert!(
        spans
            .iter()
            .all(|span| span.context.trace == spans[0].context.trace)
    );
    let orphans = spans
        .iter()
        .filter(|span| !span.parent.is_some_and(|parent| ids.contains(&parent)));
    let orphans: Vec<_> = orphans.map(|span| span.kind).collect();
    assert_eq!(orphans, [SpanKind::Run]);
    assert!(spans.iter().all(|span| span.started <= span.ended));
}

type Seen = Arc<Mutex<Vec<(String, SpanContext)>>>;

/// A step that lets other tasks go first and tells which span it found itself in.
fn traced(name: &'static str, seen: &Seen) -> Step {
    let seen = Arc::clone(seen);
    Step::new(
        name,
        Handler::scoped(move |input, scope| {
            let seen = Arc::clone(&seen);
            async move {
                tokio::task::yield_now().await;
                let place = scope.place();
                let context = place.traceparent().expect("there is a trace").parse()?;
                seen.lock()
                    .expect("nobody panicked")
                    .push((place.step.to_string(), context));
                Ok(input)
            }
        }),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nested_branches_in_a_loop_are_one_tree_and_what_is_current_is_the_attempt() {
    for optimized in TWINS {
        let seen: Seen = Arc::default();
        let inner = Parallel::new("inner")
            .branch("a", traced("one", &seen))
            .branch("b", traced("two", &seen));
        let outer = Parallel::new("outer")
            .branch("left", Pipeline::from(inner).then(traced("after", &seen)))
            .branch("right", traced("three", &seen));
        let turns = Mutex::new(0);
        let pipeline = Loop::until("again", outer, move |_, _| {
            let mut turns = turns.lock().expect("nobody panicked");
            *turns += 1;
            Ok(*turns == 2)
        });
        let (runner, queue) = runner(pipeline, optimized);
        assert_eq!(run(&runner, 1).await.status(), "completed");
        let spans = queue.take(usize::MAX);
        assert_one_tree(&spans);
        let root = "again<run pipeline";
        let left = format!("lane left<outer<{root}");
        let right = format!("lane right<outer<{root}");
        let mut once = vec![
            format!("outer<{root}"),
            left.clone(),
            right.clone(),
            format!("inner<{left}"),
            format!("lane a<inner<{left}"),
            format!("lane b<inner<{left}"),
        ];
        for step in [
            format!("one<lane a<inner<{left}"),
            format!("two<lane b<inner<{left}"),
            format!("after<{left}"),
            format!("three<{right}"),
        ] {
            once.push(format!("attempt 1<{step}"));
            once.push(step);
        }
        let mut expected = [once.clone(), once].concat();
        expected.extend([root.to_owned(), "run pipeline".to_owned()]);
        expected.sort();
        assert_eq!(ways(&spans), expected);
        let seen = seen.lock().expect("nobody panicked");
        assert_eq!(seen.len(), 8);
        for (step, context) in seen.iter() {
            let attempt = spans
                .iter()
                .find(|span| span.context == *context)
                .expect("it was recorded");
            assert_eq!(attempt.kind, SpanKind::Attempt);
            assert_eq!(
                attempt.attribute("flujo.step"),
                Some(&Attribute::Text(step.as_str().into()))
            );
        }
    }
}

#[tokio::test]
async fn a_stream_that_is_left_half_way_ends_all_spans_and_none_is_an_error() {
    for optimized in TWINS {
        let endless = || {
            let wait = Handler::function(|_| std::future::pending());
            Parallel::new("split").branch("a", Step::new("slow", wait))
        };
        let (runner, queue) = runner(Pipeline::from(endless()), optimized);
        let mut stream = runner.run(Value::Null, Context::new()).into_events();
        while let Some(event) = poll_fn(|poller| Pin::new(&mut stream).poll_next(poller)).await {
            if matches!(event.kind, EventKind::AttemptStarted) {
                break;
            }
        }
        drop(stream);
        // The lane's task ends with the drop of its future, which the runtime does in its own time.
        let mut spans = queue.take(usize::MAX);
        while spans.len() < 5 {
            tokio::task::yield_now().await;
            spans.extend(queue.take(usize::MAX));
        }
        assert_one_tree(&spans);
        assert_eq!(
            ways(&spans),
            [
                "attempt 1<slow<lane a<split<run pipeline",
                "lane a<split<run pipeline",
                "run pipeline",
                "slow<lane a<split<run pipeline",
                "split<run pipeline",
            ]
        );
        assert!(spans.iter().all(|span| span.status == SpanStatus::Cancelled));
        let counted = runner.performance_statistics().telemetry_metrics;
        assert_eq!(
            (counted.spans_started, counted.spans_ended, counted.spans_dropped),
            (5, 5, 0)
        );
    }
}

#[tokio::test]
async fn a_pause_and_a_cancellation_say_what_they_are_and_are_no_errors() {
    for optimized in TWINS {
        let ask = || {
            Parallel::new("split")
                .branch("a", Human::new("ask"))
                .branch("b", Human::new("too"))
        };
        let (runner, queue) = runner(Pipeline::from(ask()), optimized);
        let done = run(&runner, 1).await;
        let paused = done.paused.as_ref().expect("it is paused");
        let before = queue.take(usize::MAX);
        assert_one_tree(&before);
        assert_eq!(before.len(), 6);
        assert!(before.iter().all(|span| span.status == SpanStatus::Paused));

        // One answer: the run pauses again for the other.
        let answers = [(paused.pauses()[0].id.clone(), Value::from(1))];
        let again = runner.resume_with(paused, answers).expect("it goes on").await;
        let between = queue.take(usize::MAX);
        assert_one_tree(&between);
        assert_eq!(between[0].context.trace, before[0].context.trace);
        let status = |spans: &[Span], name: &str| {
            spans
                .iter()
                .find(|span| span.name == name)
                .map(|span| span.status)
        };
        assert_eq!(status(&between, "ask"), Some(SpanStatus::Ok));
        assert_eq!(status(&between, "too"), None, "it stood still all the time");
        assert_eq!(status(&between, "run pipeline"), Some(SpanStatus::Paused));

        let paused = again.paused.as_ref().expect("it is paused again");
        runner.cancel(paused).expect("it can be cancelled").await;
        let after = queue.take(usize::MAX);
        assert_one_tree(&after);
        assert_eq!(status(&after, "too"), Some(SpanStatus::Cancelled));
        assert!(after.iter().all(|span| !span.status.is_error()));
    }
}

/// A model with a price.
struct Model;

impl Agent for Model {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            let text = request.input.as_str().unwrap_or_default();
            let usage = Usage::new(Cost::from_dollars(0.01).expect("a price"), 50);
            match text {
                "fail" => Err(AgentError {
                    usage,
                    ..AgentError::permanent("a secret reason")
                }),
                "panic" => panic!("a secret panic"),
                "wait" => std::future::pending().await,
                _ => Ok(AgentOutput {
                    value: request
                        .span
                        .map_or(Value::Null, |span| Value::from(span.to_string())),
                    usage,
                    model: Some(Arc::from("model-x")),
                    tokens: Some(TokenCounts {
                        input: 40,
                        output: 10,
                    }),
                }),
            }
        })
    }
}

fn model() -> Step {
    Step::agent("ask", Arc::new(Model))
        .retries(0)
        .timeout(Duration::from_secs(5))
}

#[tokio::test(start_paused = true)]
async fn an_agent_s_call_is_told_with_model_tokens_and_cost_or_with_its_error_s_type() {
    for optimized in TWINS {
        let (runner, queue) = runner(model(), optimized);
        let done = run(&runner, "hello").await;
        let spans = queue.take(usize::MAX);
        assert_one_tree(&spans);
        let call = spans
            .iter()
            .find(|span| span.kind == SpanKind::Call)
            .expect("a call");
        assert_eq!(
            done.output().and_then(Value::as_str),
            Some(call.context.to_string().as_str())
        );
        assert_eq!(call.name, "chat model-x");
        assert_eq!(
            call.attribute("gen_ai.usage.input_tokens"),
            Some(&Attribute::Count(40))
        );
        assert_eq!(
            call.attribute("gen_ai.usage.output_tokens"),
            Some(&Attribute::Count(10))
        );
        assert_eq!(
            call.attribute("flujo.usage.cost_usd"),
            Some(&Attribute::Number(0.01))
        );
        for (input, error) in [
            ("fail", "AgentError"),
            ("panic", "Panic"),
            ("wait", "TimeoutError"),
        ] {
            assert_eq!(run(&runner, input).await.status(), "failed");
            let spans = queue.take(usize::MAX);
            assert_one_tree(&spans);
            assert_eq!(spans.len(), 4);
            for span in &spans {
                assert_eq!(span.status, SpanStatus::Error, "{input} {span:?}");
                let told = span.error_type.as_deref().expect("its type is told");
                assert!(told.ends_with(error), "{told}");
            }
            assert!(!format!("{spans:?}").contains("secret"));
        }
    }
}

#[tokio::test]
async fn the_run_is_part_of_its_caller_s_trace_also_when_nothing_is_recorded() {
    let caller: SpanContext = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        .parse()
        .expect("a traceparent");
    let seen: Seen = Arc::default();
    let (runner, queue) = runner(traced("only", &seen), true);
    let mut with_parent = runner.run(Value::Null, Context::new());
    with_parent.set_parent(caller);
    with_parent.await;
    let spans = queue.take(usize::MAX);
    let root = spans
        .iter()
        .find(|span| span.kind == SpanKind::Run)
        .expect("a run");
    assert_eq!(
        (root.context.trace, root.parent),
        (caller.trace, Some(caller.span))
    );

    let silent = Runner::builder(traced("only", &seen))
        .build()
        .expect("the pipeline can run");
    let mut with_parent = silent.run(Value::Null, Context::new());
    with_parent.set_parent(caller);
    with_parent.await;
    let seen = seen.lock().expect("nobody panicked");
    assert_eq!(seen.last().map(|(_, context)| *context), Some(caller));
}

#[tokio::test]
async fn content_is_recorded_only_when_asked_for() {
    for capture_content in [false, true] {
        let queue = Arc::new(SpanQueue::new(SpanSettings {
            capture_content,
            ..SpanSettings::default()
        }));
        let shout = Step::new(
            "shout",
            Handler::function(|input: Value| async move {
                Ok(Value::from(input.as_str().unwrap_or_default().to_uppercase()))
            }),
        );
        let runner = Runner::builder(Pipeline::from(shout).then(model()))
            .telemetry(Arc::clone(&queue))
            .build()
            .expect("the pipeline can run");
        run(&runner, "canary").await;
        let told = format!("{:?}", queue.take(usize::MAX));
        assert_eq!(told.contains("canary"), capture_content, "{told}");
        assert_eq!(told.contains("CANARY"), capture_content, "{told}");
    }
}

#[tokio::test]
async fn sampling_records_whole_runs_or_nothing_of_them() {
    let queue = Arc::new(SpanQueue::new(SpanSettings {
        rate: SampleRate::new(0.5).expect("a share"),
        ..SpanSettings::default()
    }));
    let step = Step::new("one", Handler::function(|input: Value| async move { Ok(input) }));
    let runner = Runner::builder(MapOver::new("each", step).max_concurrency(4))
        .telemetry(Arc::clone(&queue))
        .build()
        .expect("the pipeline can run");
    for _ in 0..200 {
        run(&runner, Value::list((0..3).map(Value::from))).await;
    }
    let spans = queue.take(usize::MAX);
    let mut by_trace: HashMap<_, u32> = HashMap::new();
    for span in &spans {
        *by_trace.entry(span.context.trace).or_default() += 1;
    }
    assert!((60..140).contains(&by_trace.len()), "{}", by_trace.len());
    assert!(by_trace.values().all(|spans| *spans == 1 + 1 + 3 * 3));
}

#[tokio::test]
async fn a_step_says_whether_its_result_was_found_in_the_cache() {
    for optimized in TWINS {
        let (runner, queue) = runner(model().cached(CachePolicy::default()), optimized);
        let mut found = Vec::new();
        for _ in 0..2 {
            run(&runner, "hello").await;
            let spans = queue.take(usize::MAX);
            assert_one_tree(&spans);
            let step = spans.iter().find(|span| span.name == "ask").expect("the step");
            found.push((step.attribute("flujo.cache.hit").cloned(), spans.len()));
        }
        let flag = |hit| Some(Attribute::Flag(hit));
        assert_eq!(found, [(flag(false), 4), (flag(true), 2)]);
    }
}
