//! Waits of runs that nobody runs go on by the clock on the wall.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use flujo_core::context::Context;
use flujo_core::plan::Backoff;
use flujo_core::store::RunStore;
use flujo_core::value::Value;
use flujo_tokio::{Handler, Human, Parallel, Pipeline, Raised, Runner, Step};
use tokio::sync::Notify;
use tokio::time::{Instant, advance};

use super::{builder, memory};

const BACKOFF: Duration = Duration::from_mins(1);

/// A clock on the wall that goes with virtual time, and can be set.
#[derive(Clone)]
struct Wall {
    origin: Instant,
    set: Arc<AtomicI64>,
}

impl Wall {
    fn new() -> Self {
        Self {
            origin: Instant::now(),
            set: Arc::default(),
        }
    }

    /// Sets it forward, or back.
    fn set(&self, seconds: i64) {
        self.set.fetch_add(seconds, Ordering::SeqCst);
    }

    fn runner(&self, pipeline: Pipeline, store: &Arc<dyn RunStore>) -> Runner {
        let wall = self.clone();
        let tell = move || {
            let set = wall.set.load(Ordering::SeqCst) + 1_000_000_000;
            UNIX_EPOCH + Duration::from_secs(set.unsigned_abs()) + wall.origin.elapsed()
        };
        builder(pipeline, store)
            .wall_clock(tell)
            .build()
            .expect("it can run")
    }
}

/// A step that fails the first time, and is tried again after a minute.
#[derive(Clone, Default)]
struct Flaky {
    calls: Arc<AtomicU32>,
    failed: Arc<Notify>,
}

impl Flaky {
    fn step(&self) -> Step {
        let flaky = self.clone();
        let work = Handler::function(move |input: Value| {
            let flaky = flaky.clone();
            async move {
                if flaky.calls.fetch_add(1, Ordering::SeqCst) == 0 {
                    flaky.failed.notify_one();
                    return Err(Raised::new("not yet"));
                }
                Ok(input)
            }
        });
        Step::new("flaky", work)
            .retries(1)
            .backoff(Backoff::Fixed(BACKOFF))
    }

    fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }
}

/// Runs a pipeline until its flaky step waits, and for so long after that; then the process is gone.
async fn dies_after(
    wait: Duration,
    flaky: &Flaky,
    pipeline: Pipeline,
    wall: &Wall,
    store: &Arc<dyn RunStore>,
) {
    let runner = wall.runner(pipeline, store);
    let run = runner.run_named("the run", Value::from(1), Context::new());
    tokio::select! {
        done = run => panic!("it ended as {}", done.status()),
        () = async {
            flaky.failed.notified().await;
            advance(wait).await;
        } => {}
    }
}

/// How long the run waits when another process goes on with it.
async fn waits_then(pipeline: Pipeline, wall: &Wall, store: &Arc<dyn RunStore>) -> Duration {
    let begun = Instant::now();
    let done = wall.runner(pipeline, store).stored("the run").await;
    assert_eq!(done.status(), "completed", "{:?}", done.finish.outcome);
    begun.elapsed()
}

#[track_caller]
fn about(waited: Duration, seconds: u64) {
    // The run's own times are nanoseconds, those on the wall milliseconds.
    let off = waited.abs_diff(Duration::from_secs(seconds));
    assert!(off < Duration::from_millis(5), "{waited:?} and not {seconds} s");
}

#[tokio::test(start_paused = true)]
async fn a_backoff_goes_on_while_nobody_runs_the_run() {
    let (flaky, store, wall) = (Flaky::default(), memory(), Wall::new());
    let pipeline = || Pipeline::from(flaky.step());
    dies_after(Duration::from_secs(50), &flaky, pipeline(), &wall, &store).await;
    about(waits_then(pipeline(), &wall, &store).await, 10);
    assert_eq!(flaky.calls(), 2, "the attempt that had failed isn't made again");
}

#[tokio::test(start_paused = true)]
async fn a_backoff_that_is_over_isn_t_waited_for() {
    let (flaky, store, wall) = (Flaky::default(), memory(), Wall::new());
    let pipeline = || Pipeline::from(flaky.step());
    dies_after(Duration::from_secs(5), &flaky, pipeline(), &wall, &store).await;
    advance(Duration::from_hours(3)).await;
    about(waits_then(pipeline(), &wall, &store).await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_or_forward_makes_no_backoff_longer() {
    for (set, left) in [(-86_400, 60), (86_400, 0), (-5, 60), (20, 30)] {
        let (flaky, store, wall) = (Flaky::default(), memory(), Wall::new());
        let pipeline = || Pipeline::from(flaky.step());
        // With a clock that was set back by less than had passed, the time behind that counts.
        let ran = if set == -5 { 5 } else { 10 };
        dies_after(Duration::from_secs(ran), &flaky, pipeline(), &wall, &store).await;
        wall.set(set);
        about(waits_then(pipeline(), &wall, &store).await, left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_again_and_again_in_a_backoff_makes_it_no_longer() {
    let (flaky, store, wall) = (Flaky::default(), memory(), Wall::new());
    let pipeline = || Pipeline::from(flaky.step());
    dies_after(Duration::from_secs(10), &flaky, pipeline(), &wall, &store).await;
    for _ in 0..3 {
        let run = wall.runner(pipeline(), &store).stored("the run");
        let died = tokio::time::timeout(Duration::from_secs(10), run).await;
        assert!(died.is_err(), "it waits for longer");
    }
    about(waits_then(pipeline(), &wall, &store).await, 20);
}

#[tokio::test(start_paused = true)]
async fn the_backoff_of_a_cancelled_run_goes_on_until_somebody_goes_on_with_it() {
    let (flaky, store, wall) = (Flaky::default(), memory(), Wall::new());
    let pipeline = || Pipeline::from(flaky.step());
    let runner = wall.runner(pipeline(), &store);
    let run = runner.run_named("the run", Value::from(1), Context::new());
    let cancel = run.canceller();
    let (done, ()) = tokio::join!(run, async {
        flaky.failed.notified().await;
        advance(Duration::from_secs(20)).await;
        cancel.cancel();
    });
    assert_eq!(done.status(), "cancelled");
    advance(Duration::from_secs(30)).await;
    let elsewhere = wall.runner(pipeline(), &store);
    let stopped = elsewhere.stored("the run").await.stopped.expect("it can go on");
    let begun = Instant::now();
    let done = elsewhere
        .resume_stopped(&stopped, None)
        .expect("it goes on")
        .await;
    assert_eq!(done.status(), "completed", "{:?}", done.finish.outcome);
    about(begun.elapsed(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_question_beside_a_branch_that_runs_keeps_the_time_it_was_asked() {
    let (flaky, store, wall) = (Flaky::default(), memory(), Wall::new());
    let pipeline = || {
        let ask = Human::new("ask")
            .timeout(Duration::from_secs(100))
            .default_answer(Value::from(7));
        Pipeline::from(
            Parallel::new("both")
                .branch("asks", ask)
                .branch("works", flaky.step()),
        )
    };
    dies_after(Duration::from_secs(40), &flaky, pipeline(), &wall, &store).await;
    let runner = wall.runner(pipeline(), &store);
    let begun = Instant::now();
    let done = runner.stored("the run").await;
    about(begun.elapsed(), 20);
    let paused = done.paused.expect("it waits for an answer");
    let expires = paused.pauses()[0].expires.expect("it has a time limit");
    about(expires - Instant::now(), 40);
}
