//! Running: inputs, outputs, the tree, files that are written, exit codes.

use std::io::Write;
use std::process::Stdio;

use crate::context::{Said, TestContext, assert_said};

const SHOW: &str = "steps: [{name: show, agent: {type: template, template: '{{ input }}|{{ context }}'}}]";

#[test]
fn text_data_files_and_standard_input_are_inputs() {
    let context = TestContext::new();
    context
        .file("show.yaml", SHOW)
        .file("in.json", "[1, {\"a\": null}]")
        .file("in.yaml", "a: [x, 2.5]")
        .file("in.txt", "text of a file");
    let shown = |arguments: &str| context.run(&format!("run -q show.yaml {arguments}")).stdout;
    assert_eq!(shown("--input Cargo.toml"), "Cargo.toml|{}\n");
    assert_eq!(shown("--input in.json"), "[1,{\"a\":null}]|{}\n");
    assert_eq!(shown("--input in.yaml"), "{\"a\":[\"x\",2.5]}|{}\n");
    assert_eq!(shown("--input @in.txt"), "text of a file|{}\n");
    assert_eq!(
        shown("--input x --set a=1 --set b.c=[true,null]"),
        "x|{\"a\":1,\"b\":{\"c\":[true,null]}}\n"
    );

    let mut child = context
        .command("run -q show.yaml --input -")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"from a pipe").unwrap();
    assert_eq!(
        Said::from(child.wait_with_output().unwrap()).stdout,
        "from a pipe|{}\n"
    );
}

const REJECTED: &str = "name: drafts
steps:
  - name: each
    kind: map
    map:
      on_item_failure: skip
      max_concurrency: 2
      body: {name: number, agent: {type: extract, regex: {pattern: '^[0-9]+$'}}, config: {max_retries: 0}}
  - name: fan
    kind: parallel
    branches:
      left: {name: a, agent: {type: template, template: '{{ input | join }}'}}
      right: {name: b, agent: {type: template, template: r}}
  - name: draft
    agent: {type: template, template: '{{ input }}'}
    input: \"{{ 'much too long' if attempt == 1 else input.left }}\"
    validators: [{expression: output | length < 6, message: '{{ output | length }} characters, at most 5'}]
    sink_to: report.text
";

#[test]
fn the_tree_shows_lanes_failed_items_and_rejected_attempts() {
    let context = TestContext::new();
    context
        .file("drafts.yaml", REJECTED)
        .file("in.json", "[\"1\", \"x\", \"3\"]");
    let said = context.run("run drafts.yaml --input in.json --progress none");
    assert_eq!(said.stdout, "13\n");
    assert_said!(said);
}

#[test]
fn the_fallback_of_a_construct_is_shown_beside_its_lanes() {
    let example = include_str!("../../../../examples/control_flow/whole_life.yaml");
    let failing = example.replace("output.a != output.b", "output.a == output.b");
    let context = TestContext::new();
    context.file("whole_life.yaml", failing);
    let said = context.run("run whole_life.yaml --input x --json --progress none");
    let result: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let both = &result["steps"][0];
    assert_eq!(both["steps"][0]["name"], "neither", "{}", said.stdout);
    assert_eq!(both["lanes"][1]["name"], "b", "{}", said.stdout);
    assert!(said.stderr.contains("✓ neither"), "{}", said.stderr);
}

#[test]
fn invariants_hide_neither_attempts_nor_lanes() {
    let context = TestContext::new();
    context.file(
        "held.yaml",
        "static_invariants: ['true']
steps:
  - name: again
    agent: {type: template, template: '{{ input.attempt }}'}
    input: {attempt: '{{ attempt }}'}
    validators: [{expression: 'output == \"2\"'}]
  - name: both
    kind: parallel
    branches:
      a: {name: a, agent: {type: template, template: 'a'}}
      b: {name: b, agent: {type: template, template: 'b'}}
    sink_to: both
",
    );
    let said = context.run("run held.yaml --json --progress lines");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let result: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let again = &result["steps"][0];
    assert_eq!(
        (&again["name"], &again["attempts"]),
        (&"again".into(), &2.into()),
        "{}",
        said.stdout
    );
    assert!(
        said.stderr.contains("again: attempt failed (attempt 1)"),
        "{}",
        said.stderr
    );
    let both = &result["steps"][1];
    assert_eq!(both["lanes"][1]["name"], "b", "{}", said.stdout);
    assert_eq!(
        result["steps"][1]["steps"].as_array().map(Vec::len),
        Some(0),
        "{}",
        said.stdout
    );
}

#[test]
fn without_a_terminal_each_event_is_a_line() {
    let context = TestContext::new();
    context.file(
        "two.yaml",
        "steps:
  - {name: a, agent: {type: template, template: x}}
  - {name: b, agent: {type: extract, regex: {pattern: z}}, fallback: {name: c, agent: {type: template, template: y}}}
",
    );
    assert_said!(context.run("run two.yaml"));
}

#[test]
fn a_map_of_a_thousand_items_is_shown_by_counts() {
    let context = TestContext::new();
    let items: Vec<String> = (0..1000)
        .map(|item| format!("\"{}\"", if item % 100 == 7 { "x" } else { "1" }))
        .collect();
    context.file("in.json", format!("[{}]", items.join(","))).file(
        "map.yaml",
        "steps:
  - name: each
    kind: map
    map:
      on_item_failure: skip
      max_concurrency: 16
      body: {name: number, agent: {type: extract, regex: {pattern: '[0-9]'}}, config: {max_retries: 0}}
  - {name: count, agent: {type: template, template: '{{ input | length }}'}}
",
    );
    assert_said!(context.run("run map.yaml --input in.json --progress none"));
}

#[test]
fn the_whole_result_is_json_that_fits_the_published_schema() {
    let context = TestContext::new();
    context
        .file("drafts.yaml", REJECTED)
        .file("in.json", "[\"1\", \"x\", \"3\"]");
    let schema = serde_json::from_str(&context.run("schema result").stdout).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let asks = "steps:
  - name: each
    kind: map
    map: {body: {name: ask, kind: hitl, input_schema: {enum: [1]}}}
";
    context.file("asks.yaml", asks);
    for (arguments, status) in [
        ("drafts.yaml --input in.json", "completed"),
        ("drafts.yaml --input x", "failed"),
        ("asks.yaml --input in.json --answer ask=2", "paused"),
    ] {
        let said = context.run(&format!("run {arguments} --json -q"));
        let result: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&result)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(result["status"], status);
        if status == "paused" {
            assert_eq!(
                result["steps"][0]["lanes"][0]["status"], status,
                "{}",
                said.stdout
            );
            assert!(result["pauses"][0]["rejected"].is_string(), "{}", said.stdout);
        }
    }
}

#[test]
fn context_and_statistics_are_written_as_whole_files() {
    let context = TestContext::new();
    context
        .file("drafts.yaml", REJECTED)
        .file("in.json", "[\"1\", \"3\"]")
        .file("stats.json", "old");
    let said =
        context.run("run drafts.yaml -q --input in.json --context-out context.json --stats-out stats.json");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(said.stderr, "");
    let written: serde_json::Value = serde_json::from_str(&context.read("context.json")).unwrap();
    assert_eq!(written["report"]["text"], "13");
    let stats: serde_json::Value = serde_json::from_str(&context.read("stats.json")).unwrap();
    assert_eq!(stats["execution_count"], 1);
    assert_eq!(stats["execution_time_stats"]["by_step"]["number"]["count"], 2);

    let shown = context.run("stats stats.json");
    assert!(shown.stdout.starts_with("runs 1 "), "{}", shown.stdout);
    assert!(shown.stdout.contains("\nnumber "), "{}", shown.stdout);
    // Whatever the statistics hold is shown, under its own name.
    for (group, counted) in stats.as_object().unwrap() {
        let Some(counted) = counted.as_object() else {
            continue;
        };
        for name in counted.keys().filter(|name| *name != "by_step") {
            assert!(
                shown.stdout.contains(name.as_str()),
                "{group}.{name}: {}",
                shown.stdout
            );
        }
    }
    for (part, in_use) in stats["optimizations"].as_object().unwrap() {
        let (twin, reason) = (
            in_use["twin"].as_str().unwrap(),
            in_use["reason"].as_str().unwrap(),
        );
        assert!(
            shown.stdout.contains(&format!("{part:10} {twin:10} {reason}")),
            "{}",
            shown.stdout
        );
    }
    for name in ["cache_hits 0", "cache_misses 0", "cache_hit_rate 0"] {
        assert!(shown.stdout.contains(name), "{}", shown.stdout);
    }
    assert_eq!(context.run("stats in.json").code, Some(2));
    let names: Vec<_> = std::fs::read_dir(context.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 4, "nothing else is left behind: {names:?}");
}

#[test]
fn a_deadline_ends_the_run() {
    let context = TestContext::new();
    context.file(
        "wait.yaml",
        "steps: [{name: wait, agent: {type: command, args: [sleep, '600']}}]",
    );
    assert_said!(context.run("run wait.yaml --allow command --deadline-s 0.2 --progress none"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let context = TestContext::new();
    let large = "x".repeat(1 << 20);
    context.file("show.yaml", SHOW).file("in.txt", large);
    let mut child = context
        .command("run -q show.yaml --input @in.txt")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
}

#[test]
fn a_result_from_the_cache_is_shown_in_the_tree_and_in_the_json() {
    let context = TestContext::new();
    context.file("in.json", "[1, 1]").file(
        "cached.yaml",
        "steps:
  - name: each
    kind: map
    map:
      iterable_input: input
      body: {name: shout, agent: {type: template, template: '{{ input }}!'}, cache: true}
",
    );
    let arguments = "cached.yaml --input in.json";
    let said = context.run(&format!("run {arguments} --progress none"));
    assert_eq!(
        said.stderr.matches("from the cache").count(),
        1,
        "{}",
        said.stderr
    );
    let said = context.run(&format!("run {arguments} -q --json"));
    let result: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let lanes = result["steps"][0]["lanes"].as_array().unwrap();
    let made = &lanes[0]["steps"][0];
    let found = &lanes[1]["steps"][0];
    assert_eq!(
        (&made["attempts"], &made["saved"]),
        (&1.into(), &serde_json::Value::Null)
    );
    assert_eq!(
        (&found["attempts"], &found["saved"]["tokens"]),
        (&0.into(), &0.into())
    );
}
