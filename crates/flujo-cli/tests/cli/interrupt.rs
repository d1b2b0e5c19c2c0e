//! A terminal and its Ctrl-C: the tree is redrawn, the run is cancelled, nothing is half written.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use crate::context::TestContext;

/// Leaves its process id in a file, then works for a day; would write a report afterwards.
const LONG: &str = "name: long
steps:
  - {name: first, agent: {type: template, template: 'done'}}
  - name: each
    kind: map
    map:
      iterable_input: '[1, 2, 3]'
      max_concurrency: 3
      body: {name: wait, agent: {type: command, args: [sh, -c, 'echo $$ > pid-{{ input }}; exec sleep 100000']}}
  - {name: report, agent: {type: files, write: {path: report.md, content: 'all'}}}
";

const ARGUMENTS: &str = "run long.yaml --allow command --allow file_write=. --context-out context.json";

/// Reads until all three commands have left their ids, which they do after their step has been announced.
fn process_ids(context: &TestContext) -> Vec<Pid> {
    (1..=3)
        .map(|item| {
            loop {
                let written =
                    std::fs::read_to_string(context.path(&format!("pid-{item}"))).unwrap_or_default();
                if let Some(pid) = written
                    .strip_suffix('\n')
                    .and_then(|line| line.parse().ok())
                    .and_then(Pid::from_raw)
                {
                    return pid;
                }
                std::thread::yield_now();
            }
        })
        .collect()
}

/// Whether a process is there and isn't only waiting for its parent to ask how it ended.
fn runs(process: Pid) -> bool {
    match std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_pid())) {
        Ok(facts) => !facts
            .rsplit_once(')')
            .is_some_and(|(_, facts)| facts.trim_start().starts_with('Z')),
        Err(_) => !cfg!(target_os = "linux") && test_kill_process(process).is_ok(),
    }
}

#[test]
fn an_interrupt_ends_the_commands_says_what_was_done_and_leaves_nothing_half_written() {
    let context = TestContext::new();
    context.file("long.yaml", LONG);
    let mut child = context
        .command(ARGUMENTS)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = String::new();
    for line in lines.by_ref() {
        let line = line.unwrap();
        said = said + &line + "\n";
        if line.ends_with("each: step started") {
            break;
        }
    }
    let commands = process_ids(&context);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    for line in lines {
        said = said + &line.unwrap() + "\n";
    }
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(ended.stdout.is_empty());
    assert!(
        said.contains("interrupted: cancelling") && said.contains("✓ first") && said.contains("■ each"),
        "{said}"
    );
    assert!(
        said.contains("the run was cancelled; 1 step had finished"),
        "{said}"
    );
    for command in commands {
        // It has been killed by now, but may not have been taken off the processor yet.
        while runs(command) {
            std::thread::yield_now();
        }
    }
    assert!(!context.path("report.md").exists());
    let left: Vec<_> = std::fs::read_dir(context.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".flujo-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Runs a command on a terminal of 80 × 12; gives its exit code and everything that was shown. `watch` is told what was
/// shown so far and may type.
fn on_a_terminal(
    context: &TestContext,
    arguments: &str,
    no_color: bool,
    mut watch: impl FnMut(&str, &mut dyn Write),
) -> (u32, String) {
    let size = PtySize {
        rows: 12,
        cols: 80,
        pixel_width: 0,
        pixel_height: 0,
    };
    let pty = native_pty_system().openpty(size).unwrap();
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_flujo"));
    command.args(arguments.split_whitespace());
    command.cwd(context.path(""));
    command.env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("TERM", "xterm");
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let mut child = pty.slave.spawn_command(command).unwrap();
    drop(pty.slave);
    let mut reader = pty.master.try_clone_reader().unwrap();
    let mut keyboard = pty.master.take_writer().unwrap();
    let mut shown = Vec::new();
    let mut block = [0; 4096];
    // A terminal whose programs have ended answers with an error instead of an end.
    while let Ok(count @ 1..) = reader.read(&mut block) {
        shown.extend_from_slice(&block[..count]);
        watch(&String::from_utf8_lossy(&shown), &mut keyboard);
    }
    (
        child.wait().unwrap().exit_code(),
        String::from_utf8_lossy(&shown).into_owned(),
    )
}

#[test]
fn on_a_terminal_the_tree_is_redrawn_within_its_rows_and_ctrl_c_cancels() {
    let context = TestContext::new();
    context.file("long.yaml", LONG);
    let mut typed = false;
    let (code, shown) = on_a_terminal(&context, ARGUMENTS, false, |so_far, keyboard| {
        if !typed && so_far.contains("3 running") {
            process_ids(&context);
            keyboard.write_all(b"\x03").unwrap();
            typed = true;
        }
    });
    assert_eq!(code, 130, "{shown}");
    assert!(shown.contains("each[0] wait"), "{shown}");
    assert!(shown.contains("\u{1b}[0J"), "the tree is redrawn in place");
    assert!(shown.contains("\u{1b}[32m"), "colour is used");
    assert!(shown.contains("interrupted: cancelling"), "{shown}");
    assert!(!context.path("report.md").exists());
    let most = shown
        .split("\u{1b}[0J")
        .map(|drawn| drawn.matches('\n').count())
        .take(3)
        .max();
    assert!(most <= Some(11), "{most:?} rows on a terminal of 12");
}

/// Asks after a first step, and says what came of it.
fn asking(settings: &str) -> String {
    format!(
        "steps:
  - {{name: first, agent: {{type: template, template: 'done'}}}}
  - {{name: approve, kind: hitl, message: 'Really?', {settings}}}
  - {{name: say, agent: {{type: template, template: 'the answer is {{{{ input }}}}'}}}}
"
    )
}

#[test]
fn ctrl_c_at_a_question_cancels_the_run() {
    let context = TestContext::new();
    context.file("ask.yaml", asking(""));
    let mut typed = false;
    let (code, shown) = on_a_terminal(
        &context,
        "run ask.yaml --context-out c.json",
        true,
        |so_far, keyboard| {
            if !typed && so_far.contains("\n> ") {
                keyboard.write_all(b"\x03").unwrap();
                typed = true;
            }
        },
    );
    assert_eq!(code, 130, "{shown}");
    assert!(
        shown.contains("✓ first") && shown.contains("the run was cancelled; 1 step had finished"),
        "{shown}"
    );
    assert_eq!(context.read("c.json").trim(), "{}");
}

#[test]
fn an_answer_at_the_terminal_is_taken_and_one_that_comes_too_late_is_not() {
    let context = TestContext::new();
    context.file("ask.yaml", asking("timeout_s: 2, default: 'no'"));
    for (late, answer) in [(false, "yes"), (true, "no")] {
        let mut typed = false;
        let (code, shown) = on_a_terminal(&context, "run ask.yaml", true, |so_far, keyboard| {
            if !typed && so_far.contains("\n> ") {
                let asked = Instant::now();
                while late && asked.elapsed() < Duration::from_secs(2) {
                    std::thread::yield_now();
                }
                keyboard.write_all(b"yes\n").unwrap();
                typed = true;
            }
        });
        assert_eq!(code, 0, "{shown}");
        assert!(shown.contains(&format!("the answer is {answer}")), "{shown}");
        assert_eq!(
            shown.contains("the answer to step `approve` came too late"),
            late,
            "{shown}"
        );
    }
}

#[test]
fn where_nobody_can_be_asked_a_question_waits_for_its_time_limit_if_each_has_one() {
    let context = TestContext::new();
    context.file("default.yaml", asking("timeout_s: 0.05, default: 'no'"));
    let said = context.run("run default.yaml");
    assert_eq!(
        (said.code, &*said.stdout),
        (Some(0), "the answer is no\n"),
        "{}",
        said.stderr
    );
    let said = context.run("run default.yaml --answer approve=5");
    assert_eq!(
        (said.code, &*said.stdout),
        (Some(0), "the answer is 5\n"),
        "{}",
        said.stderr
    );

    context.file("fails.yaml", asking("timeout_s: 0.05"));
    let said = context.run("run fails.yaml --json");
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    assert!(said.stdout.contains("\"status\": \"failed\""), "{}", said.stdout);

    let both = "steps:
  - name: both
    kind: parallel
    branches:
      limited: {name: limited, kind: hitl, message: 'a?', timeout_s: 0.05, default: 'no'}
      endless: {name: endless, kind: hitl, message: 'b?'}
";
    context.file("both.yaml", both);
    let said = context.run("run both.yaml");
    assert_eq!(said.code, Some(3), "{}", said.stderr);
    let said = context.run("run both.yaml --answer endless=b --answer limited=a");
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let said = context.run("run both.yaml --answer endless=b --json");
    let result: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    let expected = serde_json::json!({"limited": "no", "endless": "b"});
    assert_eq!(result["output"], expected, "{}", said.stderr);
}

#[test]
fn no_color_leaves_the_tree_and_takes_the_colour() {
    let context = TestContext::new();
    context.file(
        "a.yaml",
        "steps: [{name: a, agent: {type: command, args: [sleep, '0.3']}}]",
    );
    let (code, shown) = on_a_terminal(&context, "run a.yaml --allow command", true, |_, _| {});
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("\u{1b}[0J") && shown.contains("✓ a"), "{shown}");
    assert!(
        !shown.contains("\u{1b}[3") && !shown.contains("\u{1b}[1m"),
        "{shown}"
    );
}
