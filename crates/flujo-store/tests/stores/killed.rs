//! A process that is killed in the middle of a run, and another one that goes on with it from the file; also of a run that
//! is stopped on its way, by a cancellation or by a limit, and goes on. `FLUJO_KILLS` says how often; 20 times without it.

#![allow(clippy::expect_used, clippy::panic)] // also in what the tests share: a panic is how a test fails

use std::collections::{BTreeSet, HashMap};
use std::env;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flujo::store::Sqlite;
use flujo::{
    BoxError, CachePolicy, Context, Flujo, Pipeline, RunError, Scope, Usage, UsageLimits, branch, human,
    parallel, step,
};
use tokio::sync::Notify;

/// Where a child finds its folder.
const FOLDER: &str = "FLUJO_KILLED_FOLDER";
/// The step with whose beginning a child cancels its run, counted from one; never without it.
const CANCELS: &str = "FLUJO_KILLED_CANCELS";
/// How many tokens a child's run may use until the limit is lifted; as many as it likes without it.
const TOKENS: &str = "FLUJO_KILLED_TOKENS";

#[derive(Default, Context)]
struct Log {
    seen: Vec<String>,
}

/// What the steps of a process share.
#[derive(Clone)]
struct World {
    folder: PathBuf,
    /// How many have begun, and who is told of each.
    begun: Arc<(AtomicUsize, Notify)>,
}

impl World {
    /// Tells the world that a step has begun, in a way that outlives the process.
    fn tell(&self, scope: &Scope<Log>) -> Result<(), BoxError> {
        let place = scope.current();
        let mut effects = OpenOptions::new()
            .append(true)
            .create(true)
            .open(self.folder.join("effects"))?;
        // One write each: lanes write at the same time, and the process may die at any moment.
        effects.write_all(format!("{} {}\n", place.idempotency_key(), place.attempt).as_bytes())?;
        std::io::stdout().write_all(b"begun\n")?;
        self.begun.0.fetch_add(1, Ordering::SeqCst);
        self.begun.1.notify_one();
        Ok(())
    }

    /// Waits until so many have begun.
    async fn begins(&self, number: usize) {
        while self.begun.0.load(Ordering::SeqCst) < number {
            self.begun.1.notified().await;
        }
    }
}

type Work = flujo::Step<u32, u32, Log>;

/// A step that adds one, having failed so often, and uses a token each time.
fn work(world: &World, name: &'static str, fails: u32) -> Work {
    let world = world.clone();
    step(name, move |n: u32, scope: Scope<Log>| {
        let world = world.clone();
        async move {
            world.tell(&scope)?;
            tokio::task::yield_now().await;
            scope.add_usage(Usage {
                tokens: 1,
                ..Usage::ZERO
            });
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

fn pipeline(world: &World) -> Pipeline<u32, u32, Log> {
    let turns = work(world, "turn", 0)
        .loop_until("turns", |n: &u32, _: &Log| *n >= 6)
        .max_loops(9);
    let halves = parallel(
        "halves",
        [
            ("left", work(world, "left", 1)),
            ("right", work(world, "right", 0)),
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
    let each = work(world, "item", 0).map_over(2).named("each");
    let sum = step("sum", |items: Vec<u32>| async move {
        Ok::<_, BoxError>(items.iter().sum::<u32>())
    })
    .durable();
    let kept = work(world, "kept", 0).cached(CachePolicy::default());
    let routed = branch(
        "route",
        |n: &u32| if n.is_multiple_of(2) { "even" } else { "odd" },
    )
    .case("even", work(world, "even", 2))
    .case("odd", work(world, "odd", 2));
    let ask = human("approve", |n: &u32| format!("{n}?")).answered_by::<u32>();
    work(world, "first", 1)
        >> turns
        >> halves
        >> list
        >> each
        >> sum
        >> kept
        >> routed
        >> ask
        >> work(world, "last", 0)
}

fn number(name: &str) -> Option<u64> {
    env::var(name)
        .ok()
        .map(|number| number.parse().expect("a number"))
}

async fn child(folder: &Path) -> Result<(), BoxError> {
    let world = World {
        folder: folder.to_owned(),
        begun: Arc::default(),
    };
    let limits = UsageLimits {
        tokens: number(TOKENS),
        ..UsageLimits::default()
    };
    let flujo = Flujo::builder(pipeline(&world))
        .store(Sqlite::open(folder.join("runs.db"))?)
        .usage_limits(limits)
        .build()?;
    let mut cancels = number(CANCELS).map(usize::try_from).transpose()?;
    let mut run = flujo.start_named("the run", 0);
    let ended = loop {
        let canceller = run.canceller();
        let cancelling = async {
            match (cancels, canceller) {
                (Some(number), Some(canceller)) => {
                    world.begins(number).await;
                    canceller.cancel();
                }
                _ => std::future::pending().await,
            }
        };
        let mut going = std::pin::pin!(run);
        let ended = tokio::select! {
            biased;
            () = cancelling => {
                cancels = None;
                going.await
            }
            ended = &mut going => ended,
        };
        run = match &ended {
            Err(RunError::Paused { paused, .. }) => flujo.resume(paused, 10),
            Err(error) => match error.stopped() {
                Some(stopped) => flujo.resume_stopped(stopped, Some(UsageLimits::default())),
                None => break ended,
            },
            Ok(_) => break ended,
        };
    };
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

/// Runs a child whose run is stopped so, and kills it so long after it has begun so many steps. Whether it had ended
/// before.
fn run(folder: &Path, stops: &[(&str, u64)], kill: Option<(usize, Duration)>) -> bool {
    let program = env::current_exe().expect("this program");
    let mut child = Command::new(program)
        .args([
            "--exact",
            "killed::child_process",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .envs(stops.iter().map(|(name, number)| (name, number.to_string())))
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

/// Kills processes in the middle of a run and lets others go on with it; `stops` tells how it is stopped meanwhile, from
/// where it is killed and a number that nobody knows before.
fn killed(stops: impl Fn(usize, u64) -> Vec<(&'static str, u64)>) {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(run(folder.path(), &[], None));
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
        // Once in each case, and now and then once more on the way on.
        let (at, again) = (1 + kill % begun, chance % 3 == 0);
        let stops = stops(at, chance);
        let told =
            format!("killed {later:?} after {at} steps had begun, again: {again}, stopped by {stops:?}");
        let (mut processes, mut deaths) = (1, 0);
        if !run(folder.path(), &stops, Some((at, later))) {
            (processes, deaths) = (2, 1);
            if again && !run(folder.path(), &stops, Some((1, later))) {
                (processes, deaths) = (3, 2);
            }
            assert!(run(folder.path(), &stops, None), "{told}");
        }
        killed += deaths;
        let result = fs::read_to_string(folder.path().join("result")).expect("a result");
        assert_eq!(result, whole, "{told}");
        let effects = effects(folder.path());
        let keys = |effects: &HashMap<String, usize>| effects.keys().cloned().collect::<BTreeSet<_>>();
        assert_eq!(keys(&effects), keys(&unbroken), "{told}");
        // Only what was under way ran again: two lanes at most, each time.
        let repeated: usize = effects.values().map(|times| times - 1).sum();
        let broken = deaths + processes * stops.len();
        assert!(
            repeated <= 2 * broken,
            "{repeated} steps ran again, {told}: {effects:?}"
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

#[test]
fn a_process_killed_at_any_moment_leaves_a_run_that_another_one_ends_as_if_nothing_had_been() {
    killed(|_, _| Vec::new());
}

#[test]
fn so_it_does_when_the_run_is_stopped_before_and_goes_on() {
    killed(|at, chance| {
        let before = 1 + chance / 3 % at as u64;
        match chance / 7 % 3 {
            0 => vec![(CANCELS, before)],
            1 => vec![(TOKENS, before)],
            _ => vec![(CANCELS, before), (TOKENS, 1 + before / 2)],
        }
    });
}
