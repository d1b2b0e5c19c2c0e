//! Looking without running: graph, schema, explain, version.

use crate::context::{TestContext, assert_said};

#[test]
fn a_graph_is_data_and_runs_nothing() {
    let context = TestContext::new();
    context.file(
        "touch.yaml",
        "steps:\n  - {name: touch, agent: {type: command, args: [touch, touched]}}\n  - {name: say, agent: {type: template, template: x}}\n",
    );
    assert_said!(context.run("graph touch.yaml"));
    assert_eq!(context.run("validate touch.yaml").code, Some(0));
    assert!(!context.path("touched").exists());
}

#[test]
fn an_error_is_explained() {
    let context = TestContext::new();
    assert!(context.run("explain flu-0205").stdout.starts_with("# FLU-0205: "));
    assert_eq!(context.run("explain FLU-9999").code, Some(2));
}

#[test]
fn schemas_are_printed() {
    let context = TestContext::new();
    for of in ["blueprint", "result", "runs"] {
        let schema: serde_json::Value =
            serde_json::from_str(&context.run(&format!("schema {of}")).stdout).unwrap();
        assert!(jsonschema::validator_for(&schema).is_ok(), "{of}");
    }
}

#[test]
fn the_version_is_data() {
    let said = TestContext::new().run("--version");
    assert_eq!(said.stdout, format!("flujo {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(said.code, Some(0));
}

#[test]
fn arguments_that_are_unknown_end_with_code_2() {
    let said = TestContext::new().run("run a.yaml --inptu x");
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("--input"), "{}", said.stderr);
}
