//! A process that is killed in the middle of a run, and another one that goes on with it from the file. `FLUJO_KILLS` says
//! how often; 20 times without it.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

use std::collections::{BTreeSet, HashMap};
use std::env;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flujo::store::Sqlite;
use flujo::{
    BoxError, CachePolicy, Context, Flujo, Pipeline, RunError, Scope, branch, human, parallel, step,
};

/// Where a child finds its folder.
const FOLDER: &str = "FLUJO_KILLED_FOLDER";

#[derive(Default, Context)]
struct Log {
    seen: Vec<String>,
}

/// Tells the world that a step has begun, in a way that outlives the process.
fn tell(folder: &Path, scope: &Scope<Log>) -> Result<(), BoxError> {
    let place = scope.current();
    let mut effects = OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join("effects"))?;
    // One write each: lanes write at the same time, and the process may die at any moment.
    effects.write_all(format!("{} {}\n", place.idempotency_key(), place.attempt).as_bytes())?;
    std::io::stdout().write_all(b"begun\n")?;
    Ok(())
}

type Work = flujo::Step<u32, u32, Log>;

/// A step that adds one, having failed so often.
fn work(folder: &Path, name: &'static str, fails: u32) -> Work {
    let folder = folder.to_owned();
    step(name, move |n: u32, scope: Scope<Log>| {
        let folder = folder.clone();
        async move {
            tell(&folder, &scope)?;
            tokio::task::yield_now().await;
            if scope.current().attempt <= fails {
                return Err(BoxError::from(format!("{name} fails")));
            }
            scope.context().update(|log| log.seen.push(format!("{name} {n}")));
            Ok(n + 1)
        }
    })
    .retries(fails)
    .durable()
}

fn pipeline(folder: &Path) -> Pipeline<u32, u32, Log> {
    let turns = work(folder, "turn", 0)
        .loop_until("turns", |n: &u32, _: &Log| *n >= 6)
        .max_loops(9);
    let halves = parallel(
        "halves",
        [
            ("left", work(folder, "left", 1)),
            ("right", work(folder, "right", 0)),
        ],
    );
    let list = step("list", |halves: Vec<(String, u32)>| async move {
        Ok::<_, BoxError>(
            halves
                .into_iter()
                .map(|(_, n)| n)
                .chain([1, 2])
                .collect::<Vec<u32>>(),
        )
    })
    .durable();
    let each = work(folder, "item", 0).map_over(2).named("each");
    let sum = step("sum", |items: Vec<u32>| async move {
        Ok::<_, BoxError>(items.iter().sum::<u32>())
    })
    .durable();
    let kept = work(folder, "kept", 0).cached(CachePolicy::default());
    let routed = branch(
        "route",
        |n: &u32| if n.is_multiple_of(2) { "even" } else { "odd" },
    )
    .case("even", work(folder, "even", 2))
    .case("odd", work(folder, "odd", 2));
    let ask = human("approve", |n: &u32| format!("{n}?")).answered_by::<u32>();
    work(folder, "first", 1)
        >> turns
        >> halves
        >> list
        >> each
        >> sum
        >> kept
        >> routed
        >> ask
        >> work(folder, "last", 0)
}

async fn child(folder: &Path) -> Result<(), BoxError> {
    let flujo = Flujo::builder(pipeline(folder))
        .store(Sqlite::open(folder.join("runs.db"))?)
        .build()?;
    let mut ended = flujo.start_named("the run", 0).await;
    if let Err(RunError::Paused { paused, .. }) = &ended {
        ended = flujo.resume(paused, 10).await;
    }
    let done = ended?;
    let steps: Vec<_> = done
        .steps
        .iter()
        .map(|step| (step.name().to_owned(), step.attempts()))
        .collect();
    fs::write(
        folder.join("result"),
        format!(
            "{} {:?} {:?} {steps:?}",
            done.output, done.context.seen, done.usage
        ),
    )?;
    Ok(())
}

/// The process that is killed; nothing unless it is one.
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
        .expect("the run ends");
}

/// Runs a child, and kills it so long after it has begun so many steps. Whether it had ended before.
fn run(folder: &Path, kill: Option<(usize, Duration)>) -> bool {
    let program = env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args([
            "--exact",
            "killed::child_process",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("a child");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    if let Some((begun, later)) = kill {
        let told = lines
            .by_ref()
            .map_while(Result::ok)
            .filter(|line| line.ends_with("begun"));
        if told.take(begun).count() == begun {
            let from = Instant::now();
            while from.elapsed() < later {
                std::hint::spin_loop();
            }
            child.kill().expect("it is killed");
        }
    }
    lines.for_each(drop);
    child.wait().expect("it ended").success()
}

fn effects(folder: &Path) -> HashMap<String, usize> {
    let mut effects = HashMap::new();
    for line in fs::read_to_string(folder.join("effects"))
        .unwrap_or_default()
        .lines()
    {
        *effects.entry(line.to_owned()).or_default() += 1;
    }
    effects
}

#[test]
fn a_process_killed_at_any_moment_leaves_a_run_that_another_one_ends_as_if_nothing_had_been() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(run(folder.path(), None));
    let whole = fs::read_to_string(folder.path().join("result")).expect("a result");
    let unbroken = effects(folder.path());
    let begun: usize = unbroken.values().sum();
    let kills: usize = env::var("FLUJO_KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(20);
    let (mut killed, mut twice) = (0, 0);
    for kill in 0..kills {
        let folder = tempfile::tempdir().expect("a folder");
        let chance = RandomState::new().hash_one(kill);
        let later = Duration::from_micros(chance % 3_000);
        let mut deaths = 0;
        // Once in each case, and now and then once more on the way on.
        let (at, again) = (1 + kill % begun, chance % 3 == 0);
        if !run(folder.path(), Some((at, later))) {
            deaths += 1;
            if again && !run(folder.path(), Some((1, later))) {
                deaths += 1;
            }
            assert!(
                run(folder.path(), None),
                "killed {later:?} after {at} steps had begun"
            );
        }
        killed += deaths;
        let result = fs::read_to_string(folder.path().join("result")).expect("a result");
        assert_eq!(result, whole, "killed {later:?} after {at} steps had begun");
        let effects = effects(folder.path());
        let keys = |effects: &HashMap<String, usize>| effects.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(
            keys(&effects),
            keys(&unbroken),
            "killed {later:?} after {at} steps had begun"
        );
        // Only what was under way ran again: two lanes at most, each time.
        let repeated: usize = effects.values().map(|times| times - 1).sum();
        assert!(
            repeated <= 2 * deaths,
            "{repeated} steps ran again after {deaths} deaths: {effects:?}"
        );
        twice += repeated;
    }
    let told = format!("{killed} processes were killed, {twice} steps ran again\n");
    std::io::stdout().write_all(told.as_bytes()).expect("it is told");
    assert!(
        killed * 2 >= kills,
        "too few processes died in time: {killed} of {kills}"
    );
}
