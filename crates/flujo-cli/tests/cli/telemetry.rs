//! What a run exports: spans and metrics, where and what is asked for, nothing secret, and never at the run's cost.

use std::net::TcpListener;

use serde_json::Value;

use crate::context::TestContext;

const CANARY: &str = "canary-19c4e";
const FLOW: &str = "name: flow
steps:
  - {name: show, agent: {type: template, template: '{{ input }}'}}
  - name: fan
    kind: parallel
    branches:
      left: {name: a, agent: {type: template, template: l}}
      right: {name: b, agent: {type: template, template: r}}
";

fn spans(context: &TestContext, file: &str) -> Vec<Value> {
    let lines = context.read(file);
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn spans_and_metrics_are_written_to_files_without_inputs_or_outputs() {
    let context = TestContext::new();
    context.file("flow.yaml", FLOW);
    let said = context.run(&format!(
        "run -q flow.yaml --input {CANARY} --set secret={CANARY} --trace-out spans.jsonl --metrics-out flow.prom"
    ));
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let spans = spans(&context, "spans.jsonl");
    let named = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap();
    let run = named("run flow");
    assert_eq!(named("show")["parent_id"], run["span_id"]);
    assert_eq!(named("lane left")["parent_id"], named("fan")["span_id"]);
    assert_eq!(named("a")["parent_id"], named("lane left")["span_id"]);
    assert!(
        spans
            .iter()
            .all(|span| span["trace_id"] == run["trace_id"] && span["status"] == "ok")
    );
    let metrics = context.read("flow.prom");
    assert!(
        metrics.contains("flujo_runs_total{pipeline=\"flow\"} 1\n"),
        "{metrics}"
    );
    for file in ["spans.jsonl", "flow.prom"] {
        assert!(!context.read(file).contains(CANARY), "{file}");
    }
}

#[test]
fn content_is_written_when_it_is_asked_for_and_no_span_of_a_run_that_is_not_sampled() {
    let context = TestContext::new();
    context.file("flow.yaml", FLOW);
    context.run(&format!(
        "run -q flow.yaml --input {CANARY} --trace-out spans.jsonl --capture-content true"
    ));
    assert!(context.read("spans.jsonl").contains(CANARY));
    context.run("run -q flow.yaml --input x --trace-out none.jsonl --trace-sample 0");
    assert_eq!(context.read("none.jsonl"), "");
}

#[test]
fn the_run_is_part_of_the_trace_that_the_environment_names() {
    let context = TestContext::new();
    context.file("flow.yaml", FLOW);
    let mut command = context.command("run -q flow.yaml --input x --trace-out spans.jsonl");
    command.env(
        "TRACEPARENT",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    assert!(command.output().unwrap().status.success());
    let spans = spans(&context, "spans.jsonl");
    assert!(
        spans
            .iter()
            .all(|span| span["trace_id"] == "0af7651916cd43dd8448eb211c80319c")
    );
    let run = spans.iter().find(|span| span["kind"] == "run").unwrap();
    assert_eq!(run["parent_id"], "b7ad6b7169203331");
}

#[test]
fn a_collector_that_is_not_there_costs_a_warning_and_not_the_run() {
    let context = TestContext::new();
    context.file("flow.yaml", FLOW);
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://user:{CANARY}@{closed}");
    let said = context.run(&format!("run -q flow.yaml --input x --otlp {url}"));
    assert_eq!(said.code, Some(0));
    assert!(
        said.stderr.contains("13 of 13 spans were not delivered"),
        "{}",
        said.stderr
    );
    let mut shown = context.command("config show --origin");
    shown.env("FLUJO_OTLP", &url);
    let shown = String::from_utf8(shown.output().unwrap().stdout).unwrap();
    assert!(
        shown.contains(&format!("otlp = \"http://…@{closed}\"")),
        "{shown}"
    );
    assert!(!format!("{}{}{shown}", said.stdout, said.stderr).contains(CANARY));
}

#[test]
fn values_that_cannot_be_used_are_refused_before_the_run() {
    let context = TestContext::new();
    context.file("flow.yaml", FLOW);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    for (option, reason) in [
        (
            format!("--otlp ftp://user:{CANARY}@host"),
            "begins with `http://`",
        ),
        ("--trace-sample 2".to_owned(), "from 0 to 1"),
        ("--metrics-address 9464".to_owned(), "a host and a port"),
        (
            format!("--metrics-address {}", taken.local_addr().unwrap()),
            "no metrics can be served",
        ),
        ("--trace-out nowhere/spans.jsonl".to_owned(), "there is no folder"),
    ] {
        let said = context.run(&format!("run -q flow.yaml --input x {option}"));
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{option}");
        assert!(said.stderr.contains(reason), "{option}: {}", said.stderr);
        assert!(!said.stderr.contains(CANARY), "{}", said.stderr);
    }
}
