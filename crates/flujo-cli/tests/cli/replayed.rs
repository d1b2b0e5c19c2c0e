//! What is made of runs that have ended: replays, and statistics.

use serde_json::Value;

use crate::runs::{context, json};

#[test]
fn a_run_is_replayed_without_its_agents_and_what_differs_is_told() {
    let context = context();
    let [first, second] = [("first", "tea"), ("second", "made")].map(|(name, gives)| {
        let agent = format!("{{type: command, args: [sh, -c, 'echo {name} >> log; printf {gives}']}}");
        format!("  - {{name: {name}, input: '{{{{ input }}}}', agent: {agent}}}\n")
    });
    let third = "  - {name: third, agent: {type: template, template: 'new'}}\n";
    context.file("made.yaml", format!("name: made\nsteps:\n{first}{second}"));
    assert_eq!(
        context.run("run made.yaml --store --run-id 7 --input x").code,
        Some(0)
    );
    let said = context.run("runs replay 7 --json");
    assert_eq!(said.code, Some(0), "{}", said.whole());
    let same = serde_json::json!({"run": "7", "from": "beginning", "equal": true, "differences": []});
    assert_eq!(json(&said), same);

    context.file(
        "changed.yaml",
        format!("name: made\nsteps:\n{second}{first}{third}"),
    );
    let said = context.run("runs replay 7 --pipeline changed.yaml --json");
    assert_eq!(said.code, Some(1), "{}", said.whole());
    let difference = |path: &str, attempt: u32, what: &str, recorded: Value, now: Value| serde_json::json!({"path": path, "attempt": attempt, "what": what, "recorded": recorded, "now": now});
    let expected = [
        difference("second", 1, "input", "tea".into(), "x".into()),
        difference("first", 1, "input", "x".into(), "made".into()),
        difference(
            "third",
            1,
            "call",
            Value::Null,
            serde_json::json!({"input": "tea"}),
        ),
        difference("", 0, "status", "completed".into(), "failed".into()),
        difference("", 0, "output", "made".into(), Value::Null),
    ];
    assert_eq!(json(&said)["differences"].as_array().unwrap(), &expected);
    let said = context.run("runs replay 7 --pipeline changed.yaml");
    assert!(
        said.stdout
            .contains("second, attempt 1: input: was \"tea\", is \"x\""),
        "{}",
        said.stdout
    );
    assert_eq!(context.read("log"), "first\nsecond\n", "no agent was called");
}

#[test]
fn a_run_is_replayed_through_what_people_answered() {
    let context = context();
    let agent =
        |name: &str| format!("{{type: command, args: [sh, -c, 'echo {name} >> log; printf {name}']}}");
    let (first, last) = (agent("first"), agent("last"));
    let ask = "  - {name: ask, kind: hitl, message: 'Go on?'}\n";
    let steps = format!("  - {{name: first, agent: {first}}}\n{ask}  - {{name: last, agent: {last}}}\n");
    context.file("asks.yaml", format!("name: asks\nsteps:\n{steps}"));
    let said = context.run("run asks.yaml --store --run-id 7 --input x");
    assert_eq!(said.code, Some(3), "{}", said.whole());
    let said = context.run("runs answer 7 yes");
    assert_eq!(said.code, Some(0), "{}", said.whole());

    let said = context.run("runs replay 7 --json");
    let same = serde_json::json!({"run": "7", "from": "beginning", "equal": true, "differences": []});
    assert_eq!(json(&said), same, "{}", said.whole());
    assert_eq!(context.read("log"), "first\nlast\n", "no agent was called");
}

#[test]
fn a_run_whose_log_begins_behind_a_snapshot_is_replayed_from_there() {
    let context = context();
    assert_eq!(
        context
            .run("run asking.yaml --store --durability exit --run-id 7 --input x")
            .code,
        Some(3)
    );
    assert_eq!(context.run("runs answer 7 yes").code, Some(0));
    let said = context.run("runs replay 7 --json");
    assert_eq!(said.code, Some(0), "{}", said.whole());
    let same = serde_json::json!({"run": "7", "from": "snapshot", "equal": true, "differences": []});
    assert_eq!(json(&said), same);
    assert_eq!(context.read("log"), "first\n", "no agent was called");

    let changed = context
        .read("asking.yaml")
        .replace("kind: hitl,", "kind: hitl, timeout_s: 90000,");
    context.file("later.yaml", changed);
    let said = context.run("runs replay 7 --pipeline later.yaml");
    assert!(
        said.stdout.contains("the same from its snapshot on"),
        "{}",
        said.whole()
    );
}

#[test]
fn a_replay_waits_for_no_backoff() {
    let context = context();
    let flaky = "  - name: flaky
    agent: {type: command, args: [sh, -c, 'echo flaky >> log; [ -e again ] || { touch again; exit 1; }; printf done']}
    config: {max_retries: 1, backoff: BACKOFF}
";
    let blueprint = |backoff: &str| format!("name: flaky\nsteps:\n{}", flaky.replace("BACKOFF", backoff));
    context
        .file("flaky.yaml", blueprint("{kind: none}"))
        .file("later.yaml", blueprint("{kind: fixed, initial_s: 200000}"));
    assert_eq!(
        context.run("run flaky.yaml --store --run-id 7 --input x").code,
        Some(0)
    );
    let said = context.run("runs replay 7 --pipeline later.yaml --json");
    assert_eq!(json(&said)["equal"], true, "{}", said.whole());
    assert_eq!(context.read("log"), "flaky\nflaky\n", "no agent was called");
}

#[test]
fn statistics_are_made_of_the_runs_in_a_store() {
    let context = context();
    for run in ["1", "2"] {
        let said = context.run(&format!("run asking.yaml --store --run-id {run} --input x"));
        assert_eq!(said.code, Some(3), "{}", said.whole());
    }
    assert_eq!(context.run("runs answer 1 yes").code, Some(0));
    let said = context.run("stats --store --json");
    assert_eq!(said.code, Some(0), "{}", said.whole());
    let statistics = json(&said);
    assert_eq!(statistics["execution_count"], 1, "one has ended");
    assert_eq!(statistics["execution_time_stats"]["by_step"]["say"]["count"], 1);
    let said = context.run("stats --store --pipeline asking");
    assert!(
        said.stdout.starts_with("runs 1 ") && said.stdout.contains("approve"),
        "{}",
        said.whole()
    );
    let said = context.run("stats --store --pipeline another");
    assert!(said.stdout.starts_with("runs 0 "), "{}", said.whole());
    let said = context.run("stats some.json --store");
    assert_eq!(said.code, Some(2), "{}", said.whole());
}
