//! What a run may use when it goes on in another process, and that it stays stopped there.

use rustix::process::{Signal, kill_process};

use crate::context::TestContext;
use crate::model_faults::{ANSWER, reply, server};
use crate::runs::{json, under_way, until};

/// Two questions to a model of 90 tokens each, and a step between them that waits for a day unless there is a file `go`.
fn context() -> TestContext {
    let address = server(|stream| reply(stream, ANSWER));
    let ask = |name: &str| {
        format!("  - {{name: {name}, agent: {{type: chat, base_url: 'http://{address}/v1', model: tiny}}}}\n")
    };
    let wait = "[ -e go ] && exit; echo $$ > pid; exec sleep 100000";
    let wait = format!("  - {{name: slow, agent: {{type: command, args: [sh, -c, '{wait}']}}}}\n");
    let context = TestContext::new();
    context.file("flujo.toml", "[allow]\ncommand = true\n").file(
        "steps.yaml",
        format!("steps:\n{}{wait}{}", ask("first"), ask("last")),
    );
    context
}

/// Begins a run that is killed between its questions.
fn killed(context: &TestContext, arguments: &str) {
    let (mut child, step) = under_way(context, &format!("--input why {arguments}"));
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = kill_process(step, Signal::KILL);
    context.file("go", "");
}

#[test]
fn a_run_that_began_without_a_limit_goes_on_within_one() {
    let context = context();
    killed(&context, "--run-id 7");
    let said = context.run("runs resume 7 --max-tokens 100 --progress none");
    assert_eq!(said.code, Some(4), "{}", said.whole());
    assert!(said.stderr.contains("tokens"), "{}", said.stderr);
    // What it has used already counts.
    let said = context.run("runs resume 7 --max-tokens 100 -q");
    assert_eq!(said.code, Some(2), "{}", said.whole());
    let said = context.run("runs resume 7 --max-tokens 1000 -q");
    assert_eq!(said.code, Some(0), "{}", said.whole());
    let said = context.run("runs replay 7");
    assert_eq!(said.code, Some(0), "{}", said.whole());
}

#[test]
fn the_limits_that_a_run_was_given_are_its_own_until_it_is_given_others() {
    for again in ["runs resume 7", "run steps.yaml --input why --store --run-id 7"] {
        let context = context();
        killed(&context, "--run-id 7 --max-tokens 100");
        let said = context.run(&format!("{again} --progress none"));
        assert_eq!(said.code, Some(4), "{again}: {}", said.whole());

        let context = self::context();
        killed(&context, "--run-id 7 --max-tokens 100");
        let said = context.run(&format!("{again} --max-tokens 1000 -q"));
        assert_eq!(said.code, Some(0), "{again}: {}", said.whole());
    }
}

#[test]
fn the_blueprint_s_own_limits_are_those_of_now() {
    let context = context();
    killed(&context, "--run-id 7");
    let steps = context.read("steps.yaml");
    context.file(
        "steps.yaml",
        format!("usage_limits: {{total_tokens_limit: 100}}\n{steps}"),
    );
    assert_eq!(context.run("runs resume 7 -q").code, Some(4));
    context.file(
        "steps.yaml",
        format!("usage_limits: {{total_tokens_limit: 1000}}\n{steps}"),
    );
    let said = context.run("runs resume 7 -q");
    assert_eq!(said.code, Some(0), "{}", said.whole());
}

#[test]
fn a_run_that_is_cancelled_while_it_is_resumed_is_not_gone_on_with() {
    let context = context();
    let (mut child, step) = under_way(&context, "--input why --run-id 7");
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = kill_process(step, Signal::KILL);
    std::fs::remove_file(context.path("pid")).unwrap();
    let resumed = context.command("runs resume 7 -q").spawn().unwrap();
    let written = || context.path("pid").exists().then_some(());
    until(written);
    let said = context.run("runs cancel 7");
    assert_eq!(said.code, Some(0), "{}", said.whole());
    let resumed = resumed.wait_with_output().unwrap();
    assert!(!resumed.status.success());
    let shown = json(&context.run("runs show 7 --json"));
    assert_eq!(shown["status"], "cancelled", "{shown}");
}
