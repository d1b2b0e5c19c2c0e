//! What is made of runs that have ended: replays, and statistics.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json as made_of};

use crate::context::{Said, TestContext};
use crate::model_faults::{ANSWER, reply, server};
use crate::runs::{context, json, under_way};

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
fn each_place_in_the_context_that_holds_something_else_is_told() {
    let context = context();
    let pipeline = |[one, two, three]: [&str; 3]| {
        let step = |gives: &str, sink: &str| {
            format!("  - {{name: {gives}, agent: {{type: template, template: {gives}}}, sink_to: {sink}}}\n")
        };
        let steps = step("one", one) + &step("two", two) + &step("three", three);
        format!("name: notes\nsteps:\n{steps}")
    };
    context
        .file("then.yaml", pipeline(["notes.a", "notes.b", "old"]))
        .file("now.yaml", pipeline(["notes.b", "notes.a", "new"]));
    let said = context.run("run then.yaml --store --run-id 7 --input x");
    assert_eq!(said.code, Some(0), "{}", said.whole());
    same(&context, "7", "beginning");

    let said = context.run("runs replay 7 --pipeline now.yaml --json");
    assert_eq!(said.code, Some(1), "{}", said.whole());
    let difference = |path: &str, sides: [Value; 2]| {
        let [recorded, now] = sides;
        made_of!({"path": path, "attempt": 0, "what": "context", "recorded": recorded, "now": now})
    };
    let held = |value: &str| made_of!({"value": value});
    let expected = [
        difference("notes.a", [held("one"), held("two")]),
        difference("notes.b", [held("two"), held("one")]),
        difference("old", [held("three"), Value::Null]),
        difference("new", [Value::Null, held("three")]),
    ];
    assert_eq!(json(&said)["differences"].as_array().unwrap(), &expected);
    let said = context.run("runs replay 7 --pipeline now.yaml");
    let lines = "the run's context.notes.a: was \"one\", is \"two\"
the run's context.notes.b: was \"two\", is \"one\"
the run's context.old: was \"three\", is nothing
the run's context.new: was nothing, is \"three\"
";
    assert_eq!(said.stdout, lines);
}

/// The run is what it was.
fn same(context: &TestContext, run: &str, from: &str) {
    let said = context.run(&format!("runs replay {run} --json"));
    let same = made_of!({"run": run, "from": from, "equal": true, "differences": []});
    assert_eq!(json(&said), same, "{}", said.whole());
}

#[test]
fn what_a_run_used_is_what_it_had_used_however_it_ended() {
    let address = server(|stream| reply(stream, ANSWER));
    let context = context();
    let price = "{prompt_per_million: 100, completion_per_million: 200}";
    let agent = format!("{{type: chat, base_url: 'http://{address}/v1', model: tiny, price: {price}}}");
    let ask = |name: &str| format!("{{name: {name}, agent: {agent}, sink_to: notes.{name}}}");
    let fails = "{name: fails, agent: {type: command, args: [sh, -c, 'exit 1']}, config: {max_retries: 0}}";
    let [left, right, item, turn, one, two] = ["left", "right", "item", "turn", "one", "two"].map(ask);
    let lanes = format!("{{name: lanes, kind: parallel, branches: {{left: {left}, right: {right}}}}}");
    let items = format!("{{name: items, kind: map, map: {{iterable_input: '[1, 2]', body: {item}}}}}");
    let turns =
        format!("{{name: turns, kind: loop, loop: {{body: {turn}, exit_expression: 'iteration == 2'}}}}");
    let person = "{name: person, kind: hitl, message: 'Go on?', sink_to: said}";
    let blueprints = [
        ("completes", vec![&*one, &lanes, &items, &turns], Some(0)),
        ("fails", vec![&*one, fails], Some(1)),
        ("limited", vec![&*one, &two], Some(4)),
        ("asks", vec![&*one, person, &two], Some(3)),
    ];
    for (name, steps, code) in &blueprints {
        let limit = if *name == "limited" {
            "usage_limits: {total_tokens_limit: 100}\n"
        } else {
            ""
        };
        let steps = format!("  - {}\n", steps.join("\n  - "));
        context.file(
            &format!("{name}.yaml"),
            format!("name: {name}\n{limit}steps:\n{steps}"),
        );
        let said = context.run(&format!("run {name}.yaml --store --run-id {name} --input x"));
        assert_eq!(said.code, *code, "{}", said.whole());
    }
    let said = context.run("run asks.yaml --store --durability exit --run-id behind --input x");
    assert_eq!(said.code, Some(3), "{}", said.whole());
    for run in ["asks", "behind"] {
        let said = context.run(&format!("runs answer {run} yes"));
        assert_eq!(said.code, Some(0), "{}", said.whole());
    }
    for (run, tokens) in [
        ("completes", 630),
        ("fails", 90),
        ("limited", 180),
        ("asks", 180),
        ("behind", 180),
    ] {
        let shown = json(&context.run(&format!("runs show {run} --json")));
        assert_eq!(shown["usage"]["tokens"], tokens, "{run}");
        same(
            &context,
            run,
            if run == "behind" { "snapshot" } else { "beginning" },
        );
    }

    // A call costs what it had cost.
    let asks = context.read("asks.yaml");
    context.file(
        "dearer.yaml",
        asks.replace("prompt_per_million: 100", "prompt_per_million: 900"),
    );
    assert_eq!(
        context.run("runs replay asks --pipeline dearer.yaml").code,
        Some(0)
    );
    context.file("shorter.yaml", asks.replace(&format!("  - {two}\n"), ""));
    for run in ["asks", "behind"] {
        let said = context.run(&format!("runs replay {run} --pipeline shorter.yaml"));
        assert_eq!(said.code, Some(1), "{}", said.whole());
        let told = "the run's context.notes.two: was \"blue\", is nothing
the run's usage.cost_usd: was 0.022, is 0.011
the run's usage.tokens: was 180, is 90
the run's usage.requests: was 2, is 1
";
        assert!(said.stdout.ends_with(told), "{}", said.whole());
    }
}

#[test]
fn a_run_whose_content_is_not_kept_is_not_compared() {
    let context = context();
    let kept = "--store --store-content none";
    context.file("go", "");
    assert_eq!(
        context.run(&format!("run steps.yaml {kept} --run-id 8")).code,
        Some(0)
    );
    let said = context.run(&format!("runs replay 8 {kept} --pipeline steps.yaml"));
    assert!(
        said.stdout.is_empty() && said.stderr.contains("its content was not stored"),
        "{}",
        said.whole()
    );
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

#[test]
fn a_run_that_was_interrupted_or_cancelled_is_replayed_also_when_it_went_on() {
    let context = context();
    let (child, _) = under_way(&context, "--run-id 7");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(130), "{}", said.whole());
    same(&context, "7", "beginning");
    context.file("go", "");
    let said = context.run("runs resume 7");
    assert_eq!(said.code, Some(0), "{}", said.whole());
    let log = context.read("log");
    same(&context, "7", "beginning");
    assert_eq!(context.read("log"), log, "no agent was called");

    // Without the step that was under way nobody cancels it there.
    let steps = context.read("steps.yaml");
    let first = steps.lines().find(|line| line.contains("first")).unwrap();
    context.file("shorter.yaml", format!("name: steps\nsteps:\n{first}\n"));
    let said = context.run("runs replay 7 --pipeline shorter.yaml");
    assert_eq!(said.code, Some(1), "{}", said.whole());

    let said = context.run("run asking.yaml --store --run-id asked --input x");
    assert_eq!(said.code, Some(3), "{}", said.whole());
    let said = context.run("runs cancel asked");
    assert!(said.code.is_some_and(|code| code != 2), "{}", said.whole());
    assert_eq!(
        json(&context.run("runs show asked --json"))["status"],
        "cancelled"
    );
    same(&context, "asked", "beginning");
}

#[test]
fn a_run_that_a_limit_stopped_is_replayed_also_when_it_went_on() {
    let address = server(|stream| reply(stream, ANSWER));
    let context = context();
    let agent = format!("{{type: chat, base_url: 'http://{address}/v1', model: tiny}}");
    let steps = ["one", "two", "three"].map(|name| format!("  - {{name: {name}, agent: {agent}}}\n"));
    let limited = |tokens: u32| {
        let steps = steps.concat();
        context.file(
            "limited.yaml",
            format!("name: limited\nusage_limits: {{total_tokens_limit: {tokens}}}\nsteps:\n{steps}"),
        );
    };
    limited(100);
    let said = context.run("run limited.yaml --store --run-id 7 --input x");
    assert_eq!(said.code, Some(4), "{}", said.whole());
    limited(200);
    assert_eq!(context.run("runs resume 7").code, Some(4));
    // The limits are those that it had.
    same(&context, "7", "beginning");
    limited(1000);
    let said = context.run("runs resume 7");
    assert_eq!(said.code, Some(0), "{}", said.whole());
    for tokens in [1000, 100] {
        // Whatever they are now.
        limited(tokens);
        same(&context, "7", "beginning");
    }
}

#[test]
fn what_a_run_found_in_the_cache_it_finds_again() {
    let context = context();
    let agent = "{type: command, args: [sh, -c, 'echo made >> log; printf made']}";
    let turn = format!("{{name: turn, cache: {{scope: []}}, agent: {agent}}}");
    let turns =
        format!("{{name: turns, kind: loop, loop: {{body: {turn}, exit_expression: 'iteration == 4'}}}}");
    context.file("cached.yaml", format!("name: cached\nsteps:\n  - {turns}\n"));
    let said = context.run("run cached.yaml --store --run-id 7 --input x");
    assert_eq!(said.code, Some(0), "{}", said.whole());
    assert_eq!(context.read("log"), "made\nmade\n", "then it was found");
    same(&context, "7", "beginning");
    assert_eq!(context.read("log"), "made\nmade\n", "no agent was called");
}

#[test]
fn a_run_that_was_cancelled_beside_an_open_question_is_replayed() {
    let context = context();
    let slow = "{type: command, args: [sh, -c, 'echo slow >> log; echo $$ > pid; exec sleep 100000']}";
    let lanes = format!(
        "{{name: lanes, kind: parallel, branches: {{left: {{name: left, kind: hitl, message: 'a?'}}, \
         right: {{name: slow, agent: {slow}}}}}}}"
    );
    context.file("steps.yaml", format!("name: steps\nsteps:\n  - {lanes}\n"));
    let (child, _) = under_way(&context, "--run-id 7");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(130), "{}", said.whole());
    same(&context, "7", "beginning");
    assert_eq!(context.read("log"), "slow\n", "no agent was called");
}
