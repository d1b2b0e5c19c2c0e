//! Runs that are kept go on: over restarts, kills, interrupts and questions.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::context::{Said, TestContext};

/// Each step leaves its name in `log`; `slow` waits for a day unless there is a file `go`, and leaves its process id.
const STEPS: &str = "name: steps
steps:
  - {name: first, agent: {type: command, args: [sh, -c, 'echo first >> log; printf 1']}}
  - {name: slow, agent: {type: command, args: [sh, -c, 'echo slow >> log; [ -e go ] && exit; echo $$ > pid; exec sleep 100000']}}
  - {name: last, agent: {type: command, args: [sh, -c, 'echo last >> log; printf done']}}
";

const ASKING: &str = "name: asking
steps:
  - {name: first, agent: {type: command, args: [sh, -c, 'echo first >> log; printf tea']}}
  - {name: approve, kind: hitl, message: 'Really {{ previous_step }}?'}
  - {name: say, agent: {type: template, template: 'the answer is {{ input }}'}}
";

const BOTH: &str = "name: both
steps:
  - name: both
    kind: parallel
    branches:
      left: {name: left, kind: hitl, message: 'a?', timeout_s: 3600, default: 'no'}
      right: {name: right, kind: hitl, message: 'b?'}
";

pub(crate) fn context() -> TestContext {
    let context = TestContext::new();
    context
        .file("flujo.toml", "[allow]\ncommand = true\n")
        .file("steps.yaml", STEPS)
        .file("asking.yaml", ASKING)
        .file("both.yaml", BOTH);
    context
}

pub(crate) fn json(said: &Said) -> Value {
    serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {}", said.whole()))
}

/// Waits until something is there, which a process under way brings about.
pub(crate) fn until<T>(mut there: impl FnMut() -> Option<T>) -> T {
    loop {
        match there() {
            Some(it) => return it,
            None => std::thread::yield_now(),
        }
    }
}

/// Begins a run of `steps.yaml` and gives it once its second step is under way, with the process of that step.
pub(crate) fn under_way(context: &TestContext, arguments: &str) -> (Child, Pid) {
    let child = context
        .command(&format!("run steps.yaml --store {arguments}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let written = || std::fs::read_to_string(context.path("pid")).ok();
    let pid = until(|| {
        written()?
            .strip_suffix('\n')?
            .parse()
            .ok()
            .and_then(Pid::from_raw)
    });
    (child, pid)
}

/// Begins a run that is killed in its second step.
pub(crate) fn killed(context: &TestContext, id: &str) {
    let (mut child, step) = under_way(context, &format!("--run-id {id}"));
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = kill_process(step, Signal::KILL);
}

#[test]
fn a_run_waits_for_an_answer_over_a_restart_and_no_step_runs_again() {
    let context = context();
    let said = context.run("run asking.yaml --store --run-id one");
    assert_eq!(said.code, Some(3), "{}", said.whole());
    assert!(
        said.stderr.contains("`flujo runs answer one VALUE`"),
        "{}",
        said.stderr
    );

    let said = context.run("runs show one");
    assert!(said.stdout.contains("Really tea?"), "{}", said.whole());
    let said = context.run("runs answer one yes");
    assert_eq!(
        (said.code, &*said.stdout),
        (Some(0), "the answer is yes\n"),
        "{}",
        said.stderr
    );
    assert_eq!(context.read("log"), "first\n");

    let said = context.run("runs answer one yes");
    assert_eq!(said.code, Some(2), "{}", said.whole());
    assert!(
        said.stderr.contains("FLU-0706") && said.stderr.contains("completed"),
        "{}",
        said.stderr
    );
}

#[test]
fn d20_running_a_completed_id_prints_its_stored_result() {
    let context = context();
    context.file("go", "");
    let first = context.run("run steps.yaml --store --run-id 7 --json");
    let again = context.run("run steps.yaml --store --run-id 7 --json");
    assert_eq!((first.code, again.code), (Some(0), Some(0)), "{}", again.stderr);
    assert_eq!(first.stdout, again.stdout);
    assert_eq!(context.read("log"), "first\nslow\nlast\n");

    context.file("fails.yaml", "steps: [{name: a, agent: {type: command, args: [sh, -c, 'echo a >> tried; exit 1']}, config: {max_retries: 0}}]");
    for _ in 0..2 {
        let said = context.run("run fails.yaml --store --run-id 8");
        assert_eq!(said.code, Some(1), "{}", said.whole());
        assert!(said.stderr.contains("step `a` failed"), "{}", said.stderr);
    }
    assert_eq!(context.read("tried"), "a\n");
}

#[test]
fn d21_nothing_is_stored_unless_a_store_is_asked_for() {
    let context = context();
    context.file("go", "");
    assert_eq!(context.run("run steps.yaml").code, Some(0));
    assert!(!context.path(".flujo").exists());
    let said = context.run("run steps.yaml --run-id 7");
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("add `--store`"), "{}", said.stderr);
    let said = context.run("runs list");
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("FLU-0701"), "{}", said.stderr);
    assert!(!context.path(".flujo").exists());
}

#[test]
fn after_a_kill_a_run_goes_on_and_what_had_ended_does_not_run_again() {
    let context = context();
    killed(&context, "7");
    let said = context.run("runs show 7 --json");
    let shown = json(&said);
    assert_eq!(shown["status"], "running");
    assert_eq!(shown["tree"][0]["status"], "succeeded", "{shown:#}");
    assert_eq!(shown["tree"][1]["status"], "running", "{shown:#}");

    context.file("go", "");
    let said = context.run("runs resume 7");
    assert_eq!((said.code, &*said.stdout), (Some(0), "done\n"), "{}", said.stderr);
    assert_eq!(context.read("log"), "first\nslow\nslow\nlast\n");
}

#[test]
fn a_run_that_was_interrupted_goes_on() {
    let context = context();
    let (child, _) = under_way(&context, "--run-id 7");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(130), "{}", said.whole());
    assert!(
        said.stderr.contains("slow: step started"),
        "its events are told from the first: {}",
        said.stderr
    );
    assert!(
        said.stderr.contains("`flujo runs resume 7` goes on"),
        "{}",
        said.stderr
    );
    let said = context.run("run steps.yaml --store --run-id 7");
    assert_eq!(
        said.code,
        Some(1),
        "how it stands is its result: {}",
        said.whole()
    );

    context.file("go", "");
    let said = context.run("runs resume 7");
    assert_eq!((said.code, &*said.stdout), (Some(0), "done\n"), "{}", said.stderr);
    assert_eq!(context.read("log"), "first\nslow\nslow\nlast\n");
}

#[test]
fn of_two_processes_that_want_one_run_one_is_refused_and_told_who_has_it() {
    let context = context();
    let (mut child, step) = under_way(&context, "--run-id 7");
    for command in ["runs resume 7", "run steps.yaml --store --run-id 7"] {
        let said = context.run(command);
        assert_eq!(said.code, Some(1), "{}", said.whole());
        let owner = format!("process {}", child.id());
        assert!(
            said.stderr.contains("FLU-0703") && said.stderr.contains(&owner),
            "{}",
            said.stderr
        );
    }
    let said = context.run("runs purge 7 --yes");
    assert_eq!(said.stdout, "0 runs deleted\n", "{}", said.whole());
    child.kill().unwrap();
    child.wait().unwrap();
    let _ = kill_process(step, Signal::KILL);
    assert_eq!(context.read("log"), "first\nslow\n");
}

#[test]
fn a_run_that_is_under_way_is_watched_to_its_end() {
    let context = context();
    context.run("run asking.yaml --store --run-id one");
    let mut watching = context
        .command("runs watch one")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let seen: Vec<String> = lines
        .by_ref()
        .take_while(|line| !line.starts_with("paused"))
        .collect();
    assert!(seen[0].starts_with("first: succeeded after"), "{seen:?}");
    assert!(
        seen.iter().any(|line| line.contains("asks: Really tea?")),
        "{seen:?}"
    );
    assert_eq!(context.run("runs answer one no").code, Some(0));
    let rest: Vec<String> = lines.collect();
    assert!(
        rest.iter().any(|line| line.starts_with("say: succeeded")),
        "{rest:?}"
    );
    assert_eq!(rest.last().map(String::as_str), Some("completed"));
    assert!(watching.wait().unwrap().success());
    let said = context.run("runs watch one --json");
    let last: Value = serde_json::from_str(said.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        (&last["event"], &last["run"]["status"]),
        (&"status".into(), &"completed".into())
    );
}

#[test]
fn who_watches_is_told_of_steps_in_the_order_in_which_they_end() {
    let context = context();
    let nested = "name: nested
steps:
  - {name: first, agent: {type: template, template: a}}
  - name: split
    kind: parallel
    branches:
      left: {name: l, agent: {type: template, template: b}}
      right: {name: r, agent: {type: template, template: c}}
  - {name: last, agent: {type: template, template: d}}
";
    let context = context.file("nested.yaml", nested);
    context.run("run nested.yaml --store --run-id one");
    let said = context.run("runs watch one");
    let ended: Vec<&str> = said
        .stdout
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(ended[0], "first", "{}", said.whole());
    assert!(
        ended[1..3].contains(&"split[left]/l") && ended[1..3].contains(&"split[right]/r"),
        "{ended:?}"
    );
    assert_eq!(ended[3..], ["split", "last"]);
    assert!(said.stdout.ends_with("\ncompleted\n"), "{}", said.whole());
}

#[test]
fn who_watches_is_told_of_each_question_also_where_a_run_stands_still_for_one_after_the_other() {
    let context = context();
    let two = "name: two
steps:
  - {name: one, kind: hitl, message: 'first?'}
  - {name: other, kind: hitl, message: 'then?'}
";
    let context = context.file("two.yaml", two);
    context.run("run two.yaml --store --run-id one");
    let mut watching = context
        .command("runs watch one")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    for (asked, answer) in [("one asks: first?", "a"), ("other asks: then?", "b")] {
        assert!(lines.any(|line| line.contains(asked)), "{asked}");
        context.run(&format!("runs answer one {answer}"));
    }
    assert_eq!(lines.last().as_deref(), Some("completed"));
    assert!(watching.wait().unwrap().success());
}

#[test]
fn of_several_questions_the_one_that_is_named_is_answered() {
    let context = context();
    let said = context.run("run both.yaml --store --run-id b");
    assert!(said.stderr.contains("--pause PAUSE"), "{}", said.stderr);
    let said = context.run("runs answer b x");
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("asks 2 questions"), "{}", said.stderr);
    let said = context.run("runs answer b x --pause middle");
    assert!(
        said.stderr.contains("asks no question `middle`"),
        "{}",
        said.stderr
    );

    let shown = json(&context.run("runs show b --json"));
    let pauses = shown["pauses"].as_array().unwrap();
    let ids: Vec<_> = pauses.iter().map(|pause| pause["id"].as_str().unwrap()).collect();
    assert_eq!(
        (pauses.len(), pauses[0]["lane"].as_str()),
        (2, Some("both[left]"))
    );
    assert!(
        pauses[0]["expires"].is_string() && pauses[1]["expires"].is_null(),
        "{shown:#}"
    );
    // What the host itself says, and the other way round.
    let told = json(&context.run("run both.yaml --store --run-id b --json"));
    let told: Vec<_> = told["pauses"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pause| &pause["id"])
        .collect();
    assert_eq!(told, ids);

    assert_eq!(context.run("runs answer b 5 --pause left").code, Some(3));
    let mut answer = context.command("runs answer b --text 5 --json --pause");
    let said = Said::from(answer.arg(ids[1]).output().unwrap());
    assert_eq!(
        json(&said)["output"],
        serde_json::json!({"left": 5, "right": "5"}),
        "{}",
        said.stderr
    );
}

#[test]
fn an_answer_without_a_blueprint_at_hand_is_left_for_whoever_has_it() {
    let context = context();
    context.run("run asking.yaml --store --run-id one");
    let blueprint = context.read("asking.yaml");
    std::fs::rename(context.path("asking.yaml"), context.path("moved.yaml")).unwrap();
    let said = context.run("runs answer one yes");
    assert_eq!(said.code, Some(0), "{}", said.whole());
    assert!(said.stderr.contains("left in the store"), "{}", said.stderr);
    let said = context.run("runs resume one");
    assert!(said.stderr.contains("--pipeline FILE"), "{}", said.stderr);
    context.file("asking.yaml", blueprint.replace("approve", "agree"));
    let said = context.run("runs resume one");
    assert_eq!(said.code, Some(1), "{}", said.whole());
    assert!(
        said.stderr.contains("FLU-0704") && said.stderr.contains("`approve` (question) is gone"),
        "{}",
        said.stderr
    );
    let said = context.run("runs answer one yes --pipeline moved.yaml");
    assert_eq!(
        (said.code, &*said.stdout),
        (Some(0), "the answer is yes\n"),
        "{}",
        said.stderr
    );
}

#[test]
fn a_run_that_waits_is_ended() {
    let context = context();
    context.run("run asking.yaml --store --run-id one");
    let said = context.run("runs cancel one");
    assert_eq!(said.code, Some(0), "{}", said.whole());
    assert_eq!(json(&context.run("runs show one --json"))["status"], "cancelled");
    let said = context.run("runs cancel one");
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("it has ended"), "{}", said.stderr);
}

#[test]
fn the_example_waits_for_a_human_over_a_restart() {
    let context = TestContext::new();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/approval/demo.sh");
    let done = std::process::Command::new(demo)
        .current_dir(context.path(""))
        .env_remove("FLUJO_STATE_URI")
        .env("FLUJO", env!("CARGO_BIN_EXE_flujo"))
        .output()
        .unwrap();
    let said = Said::from(done);
    assert_eq!(said.code, Some(0), "{}", said.whole());
    let placed = "ordered tea, 12 pieces, approved by Ada";
    assert_eq!(said.stdout.matches(placed).count(), 2, "{}", said.whole());
    assert!(said.stdout.ends_with("drafted tea\nplaced\n"), "{}", said.whole());
    assert_eq!(context.read("order.log"), "drafted tea\nplaced\n");
}

#[test]
fn a_process_that_has_a_run_ends_it_when_it_is_asked_to() {
    let context = context();
    let (child, _) = under_way(&context, "--run-id 7");
    let asked = context.run("runs cancel 7");
    assert_eq!(asked.code, Some(0), "{}", asked.whole());
    let said = Said::from(child.wait_with_output().unwrap());
    assert_eq!(said.code, Some(1), "{}", said.whole());
    assert!(said.stderr.contains("the run was cancelled"), "{}", said.stderr);
    assert_eq!(json(&context.run("runs show 7 --json"))["status"], "cancelled");
}

#[test]
fn another_run_begins_where_a_step_of_one_began() {
    let context = context();
    context.file("go", "");
    assert_eq!(context.run("run steps.yaml --store --run-id 7").code, Some(0));
    let said = context.run("runs fork 7 --from last --run-id 8");
    assert_eq!((said.code, &*said.stdout), (Some(0), "done\n"), "{}", said.stderr);
    assert_eq!(context.read("log"), "first\nslow\nlast\nlast\n");
    assert_eq!(json(&context.run("runs show 8 --json"))["forked_from"], "7");
    let said = context.run("runs fork 7 --from nowhere --run-id 9");
    assert_eq!(said.code, Some(1), "{}", said.whole());
    assert!(said.stderr.contains("no step `nowhere`"), "{}", said.stderr);
}
