//! OTLP against a collector that decodes what arrives, and against some that don't answer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // also in what the tests share

use std::collections::HashMap;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture, TokenCounts};
use flujo_core::context::Context;
use flujo_core::usage::{Cost, Usage};
use flujo_core::value::Value;
use flujo_observe::{ConsoleTree, ExportError, Exporter, JsonLines, Metrics, Observer, Otlp, Protocol};
use flujo_tokio::{Handler, MapOver, Parallel, Pipeline, Runner, Step};
use hyper::StatusCode;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as Code;

use crate::collector::{Collector, attribute};

const SOON: Duration = Duration::from_secs(20);
const CANARY: &str = "canary-7f3a9";

struct Model;

impl Agent for Model {
    fn run(&self, _: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async {
            Ok(AgentOutput {
                value: Value::from(format!("an answer with {CANARY}")),
                usage: Usage::new(Cost::from_dollars(0.002).unwrap(), 42),
                model: Some(Arc::from("model-x")),
                tokens: Some(TokenCounts {
                    input: 30,
                    output: 12,
                }),
            })
        })
    }
}

/// A pipeline with a model, branches, and a step that fails with a secret in its error.
fn pipeline() -> Pipeline {
    let same = || Handler::function(|input: Value| async move { Ok(input) });
    let broken = Handler::function(|_| async {
        let error: Box<dyn std::error::Error + Send + Sync> = format!("it broke over {CANARY}").into();
        Err(error.into())
    });
    let split = Parallel::new("split")
        .branch("left", Step::new("one", same()))
        .branch("right", Step::new("two", same()));
    Pipeline::from(Step::agent("ask", Arc::new(Model)))
        .then(split)
        .then(Step::new("broken", broken).retries(1))
}

fn run(observer: &Observer, pipeline: impl Into<Pipeline>, runs: usize) -> Runner {
    let runner = Runner::builder(pipeline)
        .name("review")
        .telemetry(observer)
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        for _ in 0..runs {
            let mut context = Context::new();
            context.set("secret", Value::from(CANARY));
            runner.run(Value::from(CANARY), context).await;
        }
    });
    runner
}

fn otlp(url: String) -> flujo_observe::OtlpBuilder {
    Otlp::builder()
        .endpoint(url)
        .protocol(Protocol::Http)
        .timeout(Duration::from_secs(10))
}

fn assert_arrived(collector: &Collector) {
    let arrived = collector.arrived();
    let spans = arrived.spans();
    assert_eq!(arrived.service(), "flujo");
    let by_id: HashMap<_, _> = spans.iter().map(|span| (span.span_id.clone(), span)).collect();
    assert_eq!(by_id.len(), spans.len());
    assert!(spans.iter().all(|span| span.trace_id == spans[0].trace_id));
    let named = |name: &str| {
        spans
            .iter()
            .find(|span| span.name == name)
            .unwrap_or_else(|| panic!("no {name}"))
    };
    let parent = |name: &str| {
        by_id
            .get(&named(name).parent_span_id)
            .map(|span| span.name.as_str())
    };
    assert_eq!(parent("run review"), None);
    assert_eq!(parent("ask"), Some("run review"));
    assert_eq!(parent("chat model-x"), Some("attempt 1"));
    assert_eq!(parent("lane left"), Some("split"));
    assert_eq!(parent("one"), Some("lane left"));
    let chat = named("chat model-x");
    assert_eq!(chat.kind, SpanKind::Client as i32);
    for (name, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.request.model", "model-x"),
        ("gen_ai.usage.input_tokens", "30"),
        ("gen_ai.usage.output_tokens", "12"),
        ("flujo.usage.cost_usd", "0.002"),
    ] {
        assert_eq!(attribute(chat, name).as_deref(), Some(value), "{name}");
    }
    let broken = named("broken");
    assert_eq!(broken.status.as_ref().unwrap().code, Code::Error as i32);
    assert_eq!(attribute(broken, "flujo.attempts").as_deref(), Some("2"));
    assert_eq!(attribute(broken, "error.type").as_deref(), Some("Error"));
    assert_eq!(
        named("ask").status.as_ref().map_or(0, |status| status.code),
        Code::Unset as i32
    );
    assert!(
        spans
            .iter()
            .all(|span| span.end_time_unix_nano >= span.start_time_unix_nano)
    );
    assert!(!contains(&arrived.bytes, CANARY));
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn a_collector_is_sent_the_whole_tree_over_http_and_nothing_secret() {
    let collector = Collector::http(StatusCode::OK);
    let url = format!("http://user:p%40ss@{}", collector.address);
    let exporter = otlp(url).header("x-key", "the-key").build().unwrap();
    let observer = Observer::builder().exporter(exporter).build().unwrap();
    run(&observer, pipeline(), 1);
    observer.flush(SOON).unwrap();
    assert_arrived(&collector);
    let arrived = collector.arrived();
    assert_eq!(arrived.paths[0], "/v1/traces");
    assert!(arrived.headers[0].contains(&"x-key: the-key".to_owned()));
    assert!(arrived.headers[0].contains(&"authorization: Basic dXNlcjpwQHNz".to_owned()));
    let counted = observer.statistics();
    assert_eq!(
        (counted.spans_dropped, counted.spans_ended),
        (0, arrived.spans().len() as u64)
    );
    assert!(counted.flushes >= 1 && counted.queue_high_water > 0);
}

#[test]
fn a_collector_is_sent_the_same_over_grpc() {
    let collector = Collector::grpc();
    let builder = Otlp::builder()
        .endpoint(format!("http://{}", collector.address))
        .protocol(Protocol::Grpc);
    let exporter = builder.header("x-key", "the-key").timeout(SOON).build().unwrap();
    let observer = Observer::builder().exporter(exporter).build().unwrap();
    run(&observer, pipeline(), 1);
    observer.flush(SOON).unwrap();
    assert_arrived(&collector);
    assert!(collector.arrived().headers[0].contains(&"x-key: the-key".to_owned()));
}

#[test]
fn every_byte_of_every_export_is_free_of_secrets_until_content_is_captured() {
    for capture in [false, true] {
        let collector = Collector::http(StatusCode::OK);
        let folder = tempfile::tempdir().unwrap();
        let (lines, tree) = (folder.path().join("spans.jsonl"), folder.path().join("tree.txt"));
        let observer = Observer::builder()
            .exporter(JsonLines::create(&lines).unwrap())
            .exporter(ConsoleTree::new(std::fs::File::create(&tree).unwrap()))
            .exporter(
                otlp(format!("http://{}", collector.address))
                    .header("x-key", "header-canary")
                    .build()
                    .unwrap(),
            )
            .capture_content(capture)
            .build()
            .unwrap();
        let runner = run(&observer, pipeline(), 3);
        observer.flush(SOON).unwrap();
        let metrics = Metrics::default();
        metrics.add("review", move || runner.performance_statistics());
        let lines = std::fs::read(&lines).unwrap();
        let tree = std::fs::read_to_string(&tree).unwrap();
        assert_eq!(contains(&collector.arrived().bytes, CANARY), capture);
        assert_eq!(contains(&lines, CANARY), capture);
        for bytes in [tree.as_bytes(), metrics.text().as_bytes()] {
            assert!(!contains(bytes, CANARY));
        }
        for bytes in [lines.as_slice(), tree.as_bytes(), metrics.text().as_bytes()] {
            assert!(!contains(bytes, "header-canary"));
        }
        assert_eq!(tree.matches("run review").count(), 3, "{tree}");
        assert!(tree.contains("    chat model-x"), "{tree}");
        let lines: Vec<serde_json::Value> = lines
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(lines.len(), collector.arrived().spans().len());
        let chat = lines.iter().find(|line| line["name"] == "chat model-x").unwrap();
        assert_eq!(chat["attributes"]["gen_ai.usage.input_tokens"], 30);
        assert_eq!(chat["kind"], "call");
    }
}

/// Runs many runs against a collector that can't take spans; gives the observer.
fn against(url: String, timeout: Duration) -> Observer {
    let exporter = otlp(url).timeout(timeout).build().unwrap();
    let observer = Observer::builder()
        .exporter(exporter)
        .capacity(2_000)
        .build()
        .unwrap();
    let runner = run(
        &observer,
        Step::new("only", Handler::function(|input: Value| async move { Ok(input) })),
        2_000,
    );
    assert_eq!(runner.performance_statistics().execution_count, 2_000);
    observer
}

#[test]
fn a_collector_that_is_gone_or_hangs_or_refuses_costs_spans_and_no_run() {
    let gone = {
        let closed = Collector::http(StatusCode::OK);
        format!("http://{}", closed.address)
    };
    let refusing = Collector::http(StatusCode::BAD_REQUEST);
    let hanging = Collector::hanging();
    for url in [
        gone,
        format!("http://{}", refusing.address),
        format!("http://{}", hanging.address),
    ] {
        let observer = against(url, Duration::from_millis(200));
        observer.shutdown(SOON).unwrap();
        let counted = observer.statistics();
        assert_eq!(counted.spans_ended, 3 * 2_000);
        assert_eq!(counted.spans_dropped, counted.spans_ended);
        assert!(counted.queue_high_water <= 2_000);
    }
}

#[test]
fn the_end_of_a_process_waits_a_bounded_time_for_a_collector_that_hangs() {
    let hanging = Collector::hanging();
    let observer = against(format!("http://{}", hanging.address), Duration::from_hours(1));
    let error = observer.shutdown(Duration::from_millis(100)).unwrap_err();
    assert!(error.left > 0);
    assert!(error.to_string().contains("100ms"), "{error}");
    let counted = observer.statistics();
    assert_eq!(counted.spans_dropped, counted.spans_ended);
    observer.shutdown(Duration::ZERO).unwrap(); // nothing more is to be done
}

/// An exporter that panics at first.
struct Shaky(Arc<AtomicUsize>);

impl Exporter for Shaky {
    fn name(&self) -> &'static str {
        "shaky"
    }

    fn export(&mut self, spans: &[flujo_core::telemetry::Span]) -> Result<(), ExportError> {
        assert!(
            self.0.fetch_add(spans.len(), Ordering::Relaxed) > 0,
            "the first time it panics"
        );
        Ok(())
    }
}

#[test]
fn an_exporter_that_panics_is_left_alone_for_a_while_and_then_tried_again() {
    let seen = Arc::new(AtomicUsize::new(0));
    let observer = Observer::builder()
        .exporter(Shaky(Arc::clone(&seen)))
        .build()
        .unwrap();
    let step = || Step::new("only", Handler::function(|input: Value| async move { Ok(input) }));
    run(&observer, step(), 1);
    observer.flush(SOON).unwrap();
    assert_eq!(observer.statistics().spans_dropped, 3);
    let began = Instant::now();
    while seen.load(Ordering::Relaxed) == 3 {
        assert!(began.elapsed() < SOON, "it is never tried again");
        run(&observer, step(), 1);
        observer.flush(SOON).unwrap();
    }
    assert!(observer.statistics().spans_ended > observer.statistics().spans_dropped);
}

#[test]
fn a_large_fan_out_arrives_whole() {
    let collector = Collector::http(StatusCode::OK);
    let exporter = otlp(format!("http://{}", collector.address)).build().unwrap();
    let observer = Observer::builder().exporter(exporter).build().unwrap();
    let runner = Runner::builder(
        MapOver::new(
            "each",
            Step::new("one", Handler::function(|input: Value| async move { Ok(input) })),
        )
        .max_concurrency(50),
    )
    .telemetry(&observer)
    .build()
    .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(runner.run(Value::list((0..1_000).map(Value::from)), Context::new()));
    observer.flush(SOON).unwrap();
    let spans = collector.arrived().spans();
    assert_eq!(spans.len(), 2 + 3 * 1_000);
    let ids: std::collections::HashSet<_> = spans.iter().map(|span| &span.span_id).collect();
    assert_eq!(ids.len(), spans.len());
    let orphans = spans
        .iter()
        .filter(|span| !ids.contains(&span.parent_span_id))
        .count();
    assert_eq!(orphans, 1);
}

/// What a child process of the test below does.
const CHILD: &str = "FLUJO_OBSERVE_CHILD";

#[test]
fn what_is_not_said_is_taken_from_the_environment_and_what_is_said_wins() {
    if let Ok(endpoint) = std::env::var(CHILD) {
        let mut builder = Otlp::builder();
        if !endpoint.is_empty() {
            builder = builder
                .endpoint(endpoint)
                .header("x-key", "said")
                .service_name("said");
        }
        let observer = Observer::builder()
            .exporter(builder.build().unwrap())
            .build()
            .unwrap();
        run(&observer, pipeline(), 1);
        observer.shutdown(SOON).unwrap();
        return;
    }
    let child = |said: &str, environment: &[(&str, String)]| {
        let name = "otlp::what_is_not_said_is_taken_from_the_environment_and_what_is_said_wins";
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([name, "--exact", "--nocapture"]).env(CHILD, said);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let output = command.output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for bytes in [&output.stdout, &output.stderr] {
            assert!(!contains(bytes, CANARY), "{}", String::from_utf8_lossy(bytes));
        }
    };
    for grpc in [false, true] {
        let (named, other) = if grpc {
            (Collector::grpc(), Collector::grpc())
        } else {
            (Collector::http(StatusCode::OK), Collector::http(StatusCode::OK))
        };
        let protocol = if grpc { "grpc" } else { "http/protobuf" };
        let environment = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", named.address)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol.to_owned()),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                format!("x-key=from%20outside,x-secret={CANARY}"),
            ),
            ("OTEL_SERVICE_NAME", "from-outside".to_owned()),
            ("SOME_SECRET", CANARY.to_owned()),
        ];
        child("", &environment);
        {
            let arrived = named.arrived();
            assert_eq!(arrived.service(), "from-outside");
            assert!(
                arrived.headers[0].contains(&"x-key: from outside".to_owned()),
                "{:?}",
                arrived.headers
            );
            let spans: Vec<u8> = arrived
                .requests
                .iter()
                .flat_map(prost::Message::encode_to_vec)
                .collect();
            assert!(!contains(&spans, CANARY));
        }
        child(&format!("http://{}", other.address), &environment);
        let arrived = other.arrived();
        assert_eq!(arrived.service(), "said");
        assert!(
            arrived.headers[0].contains(&"x-key: said".to_owned()),
            "{:?}",
            arrived.headers
        );
        assert!(arrived.headers[0].contains(&format!("x-secret: {CANARY}")));
    }
}

#[test]
fn what_cannot_be_used_is_refused_without_showing_credentials() {
    let refused = |builder: flujo_observe::OtlpBuilder| builder.build().err().unwrap().to_string();
    for (url, what) in [
        ("no address", "http://localhost:4318"),
        ("ftp://user:hunter2@host", "neither"),
    ] {
        let message = refused(otlp(url.to_owned()));
        assert!(
            message.contains(what) && !message.contains("hunter2"),
            "{message}"
        );
    }
    let message = refused(otlp("http://localhost".to_owned()).header("x-key", "hunter2\nx"));
    assert!(
        message.contains("x-key") && !message.contains("hunter2"),
        "{message}"
    );
}
