//! Every blueprint under `examples/control_flow` does what its first lines say, run by the command itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/control_flow")
}

fn flujo(arguments: &[&str]) -> Output {
    let ran = Command::new(env!("CARGO_BIN_EXE_flujo"))
        .args(arguments)
        .current_dir(examples())
        .env("NO_COLOR", "1")
        .stdin(std::process::Stdio::null())
        .output();
    match ran {
        Ok(output) => output,
        Err(error) => unreachable!("the command can't be run: {error}"),
    }
}

fn run(file: &str, input: &str, more: &[&str]) -> (i32, String, String) {
    let mut arguments = vec!["run", file, "--input", input];
    arguments.extend(more);
    let output = flujo(&arguments);
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[track_caller]
fn prints(file: &str, input: &str, expected: &str) {
    let (code, output, errors) = run(file, input, &[]);
    assert_eq!((code, output.as_str()), (0, expected), "{errors}");
}

#[track_caller]
fn prints_json(file: &str, input: &str, expected: &Value) {
    let (code, output, errors) = run(file, input, &[]);
    let found: Value = serde_json::from_str(&output).unwrap_or_default();
    assert_eq!((code, &found), (0, expected), "{output}\n{errors}");
}

#[test]
fn loops_and_refinements_end_when_their_condition_holds() {
    prints("loop.yaml", "1000", "7");
    prints("refine_until.yaml", "A report", "A report, with one more detail");
    let (code, _, errors) = run("refine_until.yaml", "", &[]);
    assert_eq!(code, 0, "{errors}");
}

#[test]
fn the_default_recipe_solves_until_the_checklist_is_met() {
    prints("default_pipeline.yaml", "tea", "A note about tea.");
    let (_, output, _) = run("default_pipeline.yaml", "tea", &["--json"]);
    let result: Value = serde_json::from_str(&output).unwrap_or_default();
    assert_eq!(result["steps"][1]["iterations"], 2, "{output}");
}

#[test]
fn an_agentic_loop_runs_what_its_planner_asks_for_until_it_has_finished() {
    prints("agentic_loop.yaml", "how many words are these", "5 words");
    let (_, output, _) = run("agentic_loop.yaml", "a b", &["--json"]);
    let result: Value = serde_json::from_str(&output).unwrap_or_default();
    assert_eq!(
        result["context"]["command_log"][0]["execution_result"], "2",
        "{output}"
    );
    assert_eq!(result["steps"][0]["iterations"], 2, "{output}");
}

#[test]
fn the_tree_tells_how_often_a_loop_ran_and_why_it_ended() {
    let (_, output, errors) = run("loop.yaml", "1000", &["--json"]);
    let result: Value = serde_json::from_str(&output).unwrap_or_default();
    assert_eq!(result["steps"][0]["iterations"], 7, "{output}");
    assert_eq!(result["steps"][0]["exit_reason"], "condition");
    assert!(errors.contains("7 × (condition)"), "{errors}");
}

#[test]
fn a_router_runs_what_it_chooses_and_gather_takes_what_it_names() {
    let expected = serde_json::json!({"length": "20 characters", "phone": "no mail address is in it"});
    prints_json("router.yaml", "call me at 555-01999", &expected);
    let expected = serde_json::json!({"words": "2", "title": "Some Text"});
    prints_json("gather.yaml", "some text", &expected);
}

#[test]
fn a_state_machine_goes_back_until_the_review_passes() {
    prints(
        "state_machine.yaml",
        "first words",
        "first words and more and more and more",
    );
}

#[test]
fn a_failure_route_takes_over_and_an_invariant_stops_the_run() {
    prints(
        "failure_route.yaml",
        "no list",
        "result: step parse gave up on 'no list'",
    );
    prints("failure_route.yaml", "[12]", "result: [12]");
    let (code, _, errors) = run("invariants.yaml", "5", &[]);
    assert_eq!(code, 1, "{errors}");
    assert!(
        errors.contains("square_again") && errors.contains("(output | int) < 100"),
        "{errors}"
    );
    prints("invariants.yaml", "3", "81");
}

#[test]
fn imports_constructs_and_branches_do_what_they_say() {
    prints("import.yaml", "a b c", "3 words");
    prints("conditional.yaml", "what time is it?", "a question");
    prints("whole_life.yaml", "x", "xa and xb");
    prints_json("map.yaml", "1 2 x 4", &serde_json::json!(["2", "4", "8"]));
    prints_json("parallel.yaml", "nothing", &serde_json::json!(["o"]));
}

#[test]
fn a_question_is_answered_on_the_command_line_or_the_run_ends_as_paused() {
    let (code, output, errors) = run("approval.yaml", "delete 3 files", &["--answer", "approve='yes'"]);
    assert_eq!((code, output.as_str()), (0, "done"), "{errors}");
    let (code, output, errors) = run("approval.yaml", "delete 3 files", &["--json"]);
    let result: Value = serde_json::from_str(&output).unwrap_or_default();
    assert_eq!(code, 3, "{errors}");
    assert_eq!(result["status"], "paused");
    assert_eq!(
        result["pauses"][0]["message"],
        "Really delete 3 files? (yes or no)"
    );
    assert_eq!(
        result["pauses"][0]["input_schema"]["enum"],
        serde_json::json!(["yes", "no"])
    );
    assert_eq!(result["pauses"][0]["rejected"], Value::Null, "{output}");
    let perhaps = ["--json", "--answer", "approve=perhaps"];
    let (code, output, errors) = run("approval.yaml", "delete 3 files", &perhaps);
    assert_eq!(code, 3, "{errors}");
    let reason = "the answer doesn't fit the schema at ``: rule `/enum`";
    assert!(
        errors.contains("FLU-0604") && errors.contains(&format!("(yes or no); not taken: {reason}")),
        "{errors}"
    );
    let result: Value = serde_json::from_str(&output).unwrap_or_default();
    assert_eq!(result["pauses"][0]["rejected"], reason, "{output}");
}

#[test]
fn every_example_is_valid_can_be_drawn_and_has_a_test() {
    let tests = include_str!("control_flow.rs");
    let entries = std::fs::read_dir(examples()).map(|entries| {
        entries
            .filter_map(Result::ok)
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect::<Vec<_>>()
    });
    for file in entries.unwrap_or_default() {
        if Path::new(&file)
            .extension()
            .is_none_or(|extension| extension != "yaml")
        {
            continue;
        }
        let checked = flujo(&["validate", &file]);
        assert!(
            checked.status.success(),
            "{file}: {}",
            String::from_utf8_lossy(&checked.stderr)
        );
        let drawn = flujo(&["graph", &file]);
        assert!(drawn.stdout.starts_with(b"flowchart TD"), "{file}");
        assert!(
            tests.contains(&format!("\"{file}\"")) || file == "part.yaml",
            "{file} has no test"
        );
    }
}
