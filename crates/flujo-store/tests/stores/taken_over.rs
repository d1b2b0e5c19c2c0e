//! A worker that is killed in the middle of its runs, and the worker of another process that ends them.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use flujo::store::Sqlite;
use flujo::{BoxError, Flujo, Pipeline, RunStatus, Scope, step};

/// Where a child finds its folder, and whether it stands still in the middle.
const FOLDER: &str = "FLUJO_TAKEN_OVER_FOLDER";
const STANDS_STILL: &str = "FLUJO_TAKEN_OVER_STANDS_STILL";

const RUNS: [&str; 4] = ["a", "b", "c", "d"];

/// What an agent with twelve tool calls does: each once, however often it begins anew.
fn pipeline(folder: &Path) -> Pipeline<u32, u32> {
    let (first, agent) = (folder.to_owned(), folder.to_owned());
    let stands_still = env::var_os(STANDS_STILL).is_some();
    let first = step("first", move |n: u32, scope: Scope| {
        let folder = first.clone();
        async move {
            tell(&folder, &format!("{} first", scope.current().run))?;
            Ok::<_, BoxError>(n)
        }
    });
    let agent = step("agent", move |n: u32, scope: Scope| {
        let folder = agent.clone();
        async move {
            let mut sum = n;
            for call in 1..=12 {
                if stands_still && call == 4 {
                    std::io::stdout().write_all(b"standing still\n")?;
                    std::future::pending::<()>().await;
                }
                let told = format!("{} {call}", scope.current().run);
                sum += scope
                    .once(format!("tool call {call}"), || async {
                        tell(&folder, &told)?;
                        Ok::<u32, BoxError>(call)
                    })
                    .await?;
            }
            Ok::<_, BoxError>(sum)
        }
    });
    first.durable() >> agent.durable()
}

fn tell(folder: &Path, what: &str) -> Result<(), BoxError> {
    let mut effects = OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join("effects"))?;
    // One write each: runs write at the same time.
    effects.write_all(format!("{what}\n").as_bytes())?;
    Ok(())
}

async fn child(folder: &Path) -> Result<(), BoxError> {
    let flujo = Flujo::builder(pipeline(folder))
        .store(Sqlite::open(folder.join("runs.db"))?)
        .build()?;
    for run in RUNS {
        flujo.enqueue(run, 1).await?;
    }
    let worker = flujo.worker(RUNS.len())?;
    for run in RUNS {
        let done = flujo.get(run)?.result().await?;
        std::io::stdout().write_all(format!("result {run} {}\n", done.output).as_bytes())?;
        assert_eq!(flujo.get(run)?.status().await?, RunStatus::Completed);
    }
    worker.drain(Duration::from_secs(10)).await?;
    Ok(())
}

/// The process that works; nothing unless it is one.
#[test]
fn child_process() {
    let Ok(folder) = env::var(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime
        .expect("a runtime")
        .block_on(child(&PathBuf::from(folder)))
        .expect("the runs end");
}

fn begin(folder: &Path, stands_still: bool) -> (Child, impl Iterator<Item = String>) {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command
        .args([
            "--exact",
            "taken_over::child_process",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    if stands_still {
        command.env(STANDS_STILL, "yes");
    }
    let mut child = command.spawn().expect("a child");
    let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    (child, lines.map_while(Result::ok))
}

#[test]
fn a_killed_worker_s_runs_are_ended_by_the_worker_of_another_process_and_no_tool_call_is_made_twice() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut killed, lines) = begin(folder.path(), true);
    let standing = lines.filter(|line| line.ends_with("standing still"));
    assert_eq!(standing.take(RUNS.len()).count(), RUNS.len());
    killed.kill().expect("it is killed");
    killed.wait().expect("it ended");

    let (mut other, lines) = begin(folder.path(), false);
    let results: Vec<_> = lines
        .filter_map(|line| Some(line.split_once("result ")?.1.to_owned()))
        .collect();
    assert!(other.wait().expect("it ended").success());
    assert_eq!(results, RUNS.map(|run| format!("{run} 79")));

    let mut effects = BTreeMap::new();
    for line in fs::read_to_string(folder.path().join("effects"))
        .expect("effects")
        .lines()
    {
        *effects.entry(line.to_owned()).or_insert(0) += 1;
    }
    let parts = (1..=12).map(|call| call.to_string());
    let parts: Vec<_> = parts.chain(["first".to_owned()]).collect();
    let expected = RUNS
        .iter()
        .flat_map(|run| parts.iter().map(move |part| (format!("{run} {part}"), 1)));
    assert_eq!(effects, expected.collect());
}
