//! Bad input: one clear error that names the place and the cure, an exit code that isn't 0, no trace, nothing written.

use crate::context::{Said, TestContext, assert_said};

fn validate(text: impl AsRef<[u8]>) -> Said {
    TestContext::new().file("bad.yaml", text).run("validate bad.yaml")
}

#[test]
fn wrong_types_are_shown_with_their_lines() {
    assert_said!(validate(
        "steps:
  - name: read
    agent: {type: files, read: {}}
    config: {max_retries: many}
    validators: yes
"
    ));
}

#[test]
fn an_unknown_key_gets_the_nearest_known_one() {
    assert_said!(validate(
        "steps:\n  - name: a\n    agent: {type: template, template: x}\n    fallbck: b\n"
    ));
}

#[test]
fn a_step_without_agent_is_refused() {
    assert_said!(validate("steps:\n  - name: a\n"));
}

#[test]
fn duplicate_names_are_refused() {
    assert_said!(validate(
        "steps:
  - {name: a, agent: {type: template, template: x}}
  - {name: a, agent: {type: template, template: x}}
"
    ));
}

#[test]
fn a_cyclic_fallback_is_refused() {
    assert_said!(validate(
        "steps:
  - {name: a, agent: {type: template, template: x}, fallback: b}
  - {name: b, agent: {type: template, template: x}, fallback: a}
"
    ));
}

#[test]
fn a_missing_file_is_refused() {
    assert_said!(TestContext::new().run("run missing.yaml"));
}

#[test]
fn a_file_that_is_not_utf_8_is_refused() {
    assert_said!(validate(b"steps:\n  - name: \xff\xfe\n"));
}

#[test]
fn a_folder_is_refused() {
    assert_said!(TestContext::new().run("validate ."));
}

#[test]
fn problems_come_as_json_when_asked_for() {
    let context = TestContext::new();
    context.file("bad.yaml", "steps:\n  - nme: a\n");
    assert_said!(context.run("validate bad.yaml --json"));
}

#[test]
fn a_step_that_reads_a_missing_or_binary_file_names_it() {
    let context = TestContext::new();
    context
        .file(
            "read.yaml",
            "steps: [{name: read, agent: {type: files, read: {}}, config: {max_retries: 0}}]",
        )
        .file("binary", b"ab\xff");
    assert_said!(context.run("run read.yaml --input nothing.txt"));
    assert_said!(context.run("run read.yaml --input binary"));
}

#[test]
fn an_output_of_50_mb_is_refused_at_its_bound() {
    let context = TestContext::new();
    context.file(
        "large.yaml",
        "steps: [{name: large, agent: {type: command, args: [head, -c, '50000000', /dev/zero]}, config: {max_retries: 0}}]",
    );
    assert_said!(context.run("run large.yaml --allow command"));
}

#[test]
fn what_is_not_allowed_is_refused_before_anything_runs() {
    let context = TestContext::new();
    context.file(
        "touch.yaml",
        "steps:
  - {name: touch, agent: {type: command, args: [touch, touched]}}
  - {name: write, agent: {type: files, write: {path: written}}}
",
    );
    assert_said!(context.run("run touch.yaml --allow command=git --allow file_write=elsewhere"));
    assert!(!context.path("touched").exists());
}

#[test]
fn inputs_and_fields_that_cannot_be_used_are_refused() {
    let context = TestContext::new();
    context
        .file(
            "a.yaml",
            "steps: [{name: a, agent: {type: template, template: x}}]",
        )
        .file("bad.json", "{\"a\": ");
    assert_said!(context.run("run a.yaml --input bad.json"));
    assert_said!(context.run("run a.yaml --input missing.json"));
    assert_said!(context.run("run a.yaml --set title"));
    assert_said!(context.run("run a.yaml --set title=["));
    assert_said!(context.run("run a.yaml --stats-out no/such/folder/stats.json"));
}

#[test]
fn an_error_shows_its_inside_only_with_debug() {
    let context = TestContext::new();
    context.file(
        "a.yaml",
        "steps: [{name: a, agent: {type: extract, regex: {pattern: z}}}]",
    );
    let plain = context.run("run a.yaml --input b -q");
    assert!(
        plain.has_no_traceback() && !plain.stderr.contains("Failure {"),
        "{}",
        plain.stderr
    );
    let debug = context.run("run a.yaml --input b -q --debug");
    assert!(debug.stderr.contains("Failure {"), "{}", debug.stderr);
}
