//! What is kept of a pipeline.

use flujo_core::pipeline::Pipeline;
use flujo_core::plan::StepNode;

use super::*;

/// As version 1 wrote definitions, before they held plans.
#[derive(Serialize)]
struct Earlier {
    fingerprint: String,
    parts: BTreeMap<String, String>,
}

fn plan(names: &[&str], retries: u32) -> Plan<&'static str> {
    let mut pipeline = Pipeline::new();
    let steps = names.iter().map(|name| {
        let mut step = StepNode::new("agent");
        step.policy.max_retries = retries;
        pipeline.step(*name, step)
    });
    let steps: Vec<_> = steps.collect();
    let root = pipeline.sequence(steps);
    pipeline.compile("test", root).unwrap()
}

#[test]
fn a_plan_is_read_again_without_what_it_calls() {
    let plan = plan(&["a", "b"], 3);
    let written = Definition::of(&plan).from_source("/somewhere/a.yaml").to_bytes();
    let read = Definition::from_bytes(&written).unwrap();
    assert_eq!(read.source(), Some("/somewhere/a.yaml"));
    let again = read.plan().unwrap();
    assert_eq!(again.fingerprint(), plan.fingerprint());
    assert_eq!(again.name(), plan.name());
    assert!(written.len() < 300, "{}", written.len());
}

#[test]
fn differences_are_named_by_their_paths() {
    let before = Definition::of(&plan(&["a", "b"], 1));
    assert!(
        before
            .differences(&Definition::of(&plan(&["a", "b"], 1)))
            .is_empty()
    );
    let differences = before.differences(&Definition::of(&plan(&["a", "c"], 1)));
    assert_eq!(differences, ["`b` (step) is gone", "`c` (step) is new"]);
    let differences = before.differences(&Definition::of(&plan(&["a", "b"], 2)));
    assert_eq!(differences, ["the configuration of its steps differs"]);
}

#[test]
fn a_definition_without_a_plan_is_still_compared_and_says_why_it_has_none() {
    let plan = plan(&["a"], 1);
    let earlier = Earlier {
        fingerprint: plan.fingerprint().to_string(),
        parts: BTreeMap::from([("a".to_owned(), "step".to_owned())]),
    };
    let read = Definition::from_bytes(&rmp_serde::to_vec_named(&earlier).unwrap()).unwrap();
    assert!(read.differences(&Definition::of(&plan)).is_empty());
    assert!(read.plan().unwrap_err().contains("an earlier version"));
    let other = Definition::of(&self::plan(&["b"], 1));
    assert_eq!(read.differences(&other)[0], "`a` (step) is gone");
}
