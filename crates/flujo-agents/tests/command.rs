//! What the command agent promises, with real processes.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking, also in what several tests share
#![cfg(unix)]

use std::io::Read;

use flujo_agents::command::{CommandConfig, Stdin};
use flujo_agents::http::Format;
use flujo_core::agent::{Agent, AgentError, AgentRequest, Retry};
use flujo_core::value::Value;

async fn run(config: CommandConfig, input: impl Into<Value>) -> Result<Value, AgentError> {
    let request = AgentRequest {
        input: input.into(),
        ..AgentRequest::default()
    };
    config
        .build()
        .unwrap()
        .run(request)
        .await
        .map(|output| output.value)
}

fn shell(script: &str) -> CommandConfig {
    CommandConfig::new(["sh", "-c", script])
}

#[tokio::test]
async fn an_argument_stays_one_argument_whatever_it_renders_to() {
    let evil = "a b; echo $HOME `id` 'x' \"y\" *";
    let output = run(CommandConfig::new(["printf", "[%s]", "{{ input }}", "-"]), evil)
        .await
        .unwrap();
    assert_eq!(output, Value::from(format!("[{evil}][-]")));
}

#[tokio::test]
async fn the_input_goes_to_standard_input_when_asked_for_and_nothing_else_does() {
    let cat = CommandConfig::new(["cat"]);
    assert_eq!(run(cat.clone(), "unseen").await.unwrap(), Value::from(""));
    let fed = CommandConfig {
        stdin: Stdin::Input,
        output: Format::Json,
        ..cat
    };
    let value = Value::map([("a", Value::Int(1))]);
    assert_eq!(run(fed, value.clone()).await.unwrap(), value);
}

#[tokio::test]
async fn a_large_input_and_a_program_that_does_not_read_it_are_no_deadlock_and_no_error() {
    let large = "x".repeat(1 << 20);
    let through = CommandConfig {
        stdin: Stdin::Input,
        ..CommandConfig::new(["cat"])
    };
    assert_eq!(
        run(through, large.as_str()).await.unwrap(),
        Value::from(large.as_str())
    );
    let deaf = CommandConfig {
        stdin: Stdin::Input,
        ..shell("echo done")
    };
    assert_eq!(run(deaf, large.as_str()).await.unwrap(), Value::from("done\n"));
}

#[tokio::test]
async fn only_the_stated_variables_are_passed_on() {
    let names = r"env | sed 's/=.*//' | grep -vE '^(PWD|OLDPWD|SHLVL|_)$' | sort";
    let mut config = shell(names);
    config.env.insert("GREETING".into(), "{{ input }}".into());
    let output = run(config.clone(), "hi").await.unwrap();
    let seen: Vec<&str> = output.as_str().unwrap().lines().collect();
    assert!(seen.contains(&"GREETING") && seen.contains(&"PATH"), "{seen:?}");
    assert!(!seen.iter().any(|name| name.starts_with("CARGO")), "{seen:?}");
    config.inherit_env.push("CARGO_MANIFEST_DIR".into());
    assert!(
        run(config, "hi")
            .await
            .unwrap()
            .as_str()
            .unwrap()
            .contains("CARGO_MANIFEST_DIR")
    );
}

#[tokio::test]
async fn a_failing_program_is_an_error_with_its_code_and_the_end_of_its_error_output() {
    let script =
        "i=0; while [ $i -lt 5000 ]; do echo line $i >&2; i=$((i+1)); done; echo the reason >&2; exit 3";
    let error = run(shell(script), ()).await.unwrap_err();
    assert!(
        error.message.contains("exit code 3") && error.message.ends_with("the reason"),
        "{error}"
    );
    assert!(error.message.len() < 1500, "{}", error.message.len());
    assert_eq!(error.retry, Retry::Allowed);
    let error = run(shell("kill -9 $$"), ()).await.unwrap_err();
    assert!(error.message.contains("signal 9"), "{error}");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_named_and_not_tried_again() {
    let error = run(CommandConfig::new(["flujo-no-such-program"]), ())
        .await
        .unwrap_err();
    assert!(
        error.message.contains("`flujo-no-such-program` can't be started"),
        "{error}"
    );
    assert_eq!(error.retry, Retry::Never);
    let nowhere = CommandConfig {
        cwd: Some("/no/such/folder".into()),
        ..shell("true")
    };
    let error = run(nowhere, ()).await.unwrap_err();
    assert!(
        error.message.contains("`/no/such/folder`, which isn't a folder"),
        "{error}"
    );
}

#[tokio::test]
async fn output_beyond_the_bound_ends_the_program() {
    let config = CommandConfig {
        max_output_bytes: 1000,
        ..CommandConfig::new(["yes"])
    };
    let error = run(config, ()).await.unwrap_err();
    assert!(
        error.message.contains("more than 1000 bytes") && error.message.contains("max_output_bytes"),
        "{error}"
    );
    let exact = CommandConfig {
        max_output_bytes: 4,
        ..shell("printf 1234")
    };
    assert_eq!(run(exact, ()).await.unwrap(), Value::from("1234"));
}

#[tokio::test]
async fn output_that_is_not_text_is_an_error_unless_bytes_are_asked_for() {
    let config = shell(r"printf '\377'");
    let error = run(config.clone(), ()).await.unwrap_err();
    assert!(
        error.message.contains("isn't UTF-8 text") && error.message.contains("`bytes`"),
        "{error}"
    );
    let bytes = CommandConfig {
        output: Format::Bytes,
        ..config
    };
    assert_eq!(run(bytes, ()).await.unwrap(), Value::Bytes([0xff].into()));
}

#[tokio::test(start_paused = true)]
async fn a_program_that_does_not_end_is_killed_at_the_time_limit() {
    let config = CommandConfig {
        timeout_s: 5.0,
        ..CommandConfig::new(["sleep", "1000"])
    };
    let error = run(config, ()).await.unwrap_err();
    assert!(
        error.message.contains("within 5 s") && error.message.contains("timeout_s"),
        "{error}"
    );
}

/// Starts a program whose grandchild holds a pipe open; gives the pipe once the grandchild is up.
async fn with_grandchild(
    folder: &tempfile::TempDir,
) -> (tokio::task::JoinHandle<Result<Value, AgentError>>, std::fs::File) {
    let pipe = folder.path().join("pipe");
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap()
            .success()
    );
    let mut config = shell(r#"(echo up; sleep 1000; true) > "$PIPE" & wait"#);
    config.env.insert("PIPE".into(), pipe.to_str().unwrap().into());
    let call = tokio::spawn(run(config, ()));
    let opened = tokio::task::spawn_blocking(move || {
        let mut reader = std::fs::File::open(pipe).unwrap();
        reader.read_exact(&mut [0; 3]).unwrap();
        reader
    });
    (call, opened.await.unwrap())
}

#[tokio::test]
async fn dropping_the_call_kills_the_program_and_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let (call, mut pipe) = with_grandchild(&folder).await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // The pipe ends when the last process that writes to it has ended.
    let read = tokio::task::spawn_blocking(move || pipe.read_to_end(&mut Vec::new()).unwrap());
    assert_eq!(read.await.unwrap(), 0);
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let refused = |config: CommandConfig| config.build().unwrap_err().to_string();
    assert!(refused(CommandConfig::new::<&str>([])).contains("`args`: is empty"));
    assert!(refused(CommandConfig::new(["{{ input }}"])).contains("`args[0]`"));
    assert!(refused(CommandConfig::new(["echo", "{{ oops"])).contains("`args[1]`"));
    assert!(
        refused(CommandConfig {
            timeout_s: 0.0,
            ..shell("true")
        })
        .contains("`timeout_s`")
    );
    assert!(
        refused(CommandConfig {
            inherit_env: vec!["A=B".into()],
            ..shell("true")
        })
        .contains("`inherit_env`")
    );
}
