//! Cancelling a run by its handle or by dropping it, and its events.

#![allow(clippy::unwrap_used)] // also in what the tests share: a panic is how a test fails

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flujo::{Backoff, BoxError, EventKind, Flujo, Pipeline, RunError, Stage, Status, parallel, step};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Counts the futures of user code that have been begun and dropped.
#[derive(Clone, Default)]
struct Futures(Arc<AtomicUsize>, Arc<AtomicUsize>);

struct Guard(Futures);

impl Futures {
    fn begin(&self) -> Guard {
        self.0.fetch_add(1, Ordering::SeqCst);
        Guard(self.clone())
    }

    fn counts(&self) -> (usize, usize) {
        (self.0.load(Ordering::SeqCst), self.1.load(Ordering::SeqCst))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.1.fetch_add(1, Ordering::SeqCst);
    }
}

/// A step that waits for an hour.
fn wait(futures: &Futures) -> Pipeline<(), ()> {
    let futures = futures.clone();
    step("wait", move |(): ()| {
        let guard = futures.begin();
        async move {
            sleep(ms(3_600_000)).await;
            drop(guard);
            Ok::<_, BoxError>(())
        }
    })
    .into_pipeline()
}

fn nested(futures: &Futures) -> Pipeline<(), ()> {
    let unit = || {
        step(
            "unit",
            |_: Vec<(String, ())>| async move { Ok::<_, BoxError>(()) },
        )
    };
    let inner = |name| parallel(name, [("x", wait(futures)), ("y", wait(futures))]) >> unit();
    parallel("outer", [("a", inner("left")), ("b", inner("right"))]) >> unit()
}

async fn cancelled_within_100_ms(p: Pipeline<(), ()>) -> RunError {
    let flujo = Flujo::new(p);
    let run = flujo.start(());
    let canceller = run.canceller().unwrap();
    let run = tokio::spawn(run);
    sleep(ms(20)).await;
    let begin = Instant::now();
    canceller.cancel();
    let error = run.await.unwrap().unwrap_err();
    assert!(begin.elapsed() < ms(100));
    assert!(matches!(error, RunError::Cancelled { .. }), "{error}");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
    error
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_step_is_dropped_and_recorded_as_cancelled() {
    let futures = Futures::default();
    let before = step("before", |(): ()| async move { Ok::<_, BoxError>(()) });
    let error = cancelled_within_100_ms(before >> wait(&futures)).await;
    assert_eq!(futures.counts(), (1, 1));
    let steps = &error.partial().unwrap().steps;
    assert_eq!(steps.get("before").unwrap().status(), Status::Succeeded);
    assert_eq!(steps.get("wait").unwrap().status(), Status::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_during_a_backoff_makes_no_further_attempt_and_no_fallback() {
    let p = step("broken", |(): ()| async move { Err::<(), BoxError>("no".into()) })
        .retries(10)
        .backoff(Backoff::Fixed(ms(60_000)))
        .fallback(step("fallback", |(): ()| async move { Ok::<_, BoxError>(()) }));
    let error = cancelled_within_100_ms(p.into_pipeline()).await;
    let steps = &error.partial().unwrap().steps;
    assert_eq!(steps.get("broken").unwrap().attempts(), 1);
    assert!(steps.get("fallback").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cancel_reaches_branches_inside_branches() {
    let futures = Futures::default();
    cancelled_within_100_ms(nested(&futures)).await;
    assert_eq!(futures.counts(), (4, 4));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_was_cancelled_before_it_began_does_nothing() {
    let futures = Futures::default();
    let flujo = Flujo::new(nested(&futures));
    let run = flujo.start(());
    run.cancel();
    assert!(matches!(run.await, Err(RunError::Cancelled { .. })));
    assert_eq!(futures.counts().0, futures.counts().1);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_run_drops_its_futures_and_leaves_no_task() {
    let futures = Futures::default();
    let flujo = Flujo::new(nested(&futures));
    assert!(tokio::time::timeout(ms(50), flujo.run(())).await.is_err());
    while Handle::current().metrics().num_alive_tasks() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(futures.counts(), (4, 4));
    let again = step("again", |(): ()| async move { Ok::<_, BoxError>(1) });
    assert_eq!(Flujo::new(again).run(()).await.unwrap().output, 1);
}

#[tokio::test]
async fn events_come_in_order_and_end_with_the_run() {
    let p = step("one", |n: u32| async move { Ok::<_, BoxError>(n) })
        >> step("two", |n: u32| async move {
            Err::<u32, BoxError>(format!("no {n}").into())
        })
        .retries(1);
    let flujo = Flujo::builder(p).event_buffer(1).build().unwrap();
    let mut run = flujo.start(1);
    let mut seen = Vec::new();
    while let Some(event) = run.events().next().await {
        assert_eq!(event.run(), run.id());
        seen.push(format!("{} {}", event.place.step, event.kind.name()));
    }
    let expected = [
        "pipeline run_started",
        "one step_started",
        "one attempt_started",
        "one step_finished",
        "two step_started",
        "two attempt_started",
        "two attempt_failed",
        "two attempt_started",
        "two attempt_failed",
        "two step_failed",
        "pipeline run_finished",
    ];
    assert_eq!(seen, expected);
    assert!(matches!(run.await, Err(RunError::Failed { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_events_are_no_longer_read_goes_on() {
    let p = (0..50).fold(number().into_pipeline(), |p, _| p >> number());
    let flujo = Flujo::builder(p).event_buffer(1).build().unwrap();
    let mut run = flujo.start(0);
    let first = run.events().next().await.unwrap();
    assert!(matches!(first.kind, EventKind::RunStarted));
    assert_eq!(run.await.unwrap().output, 51);
}

fn number() -> flujo::Step<u32, u32> {
    step("number", |n: u32| async move { Ok::<_, BoxError>(n + 1) })
}

#[tokio::test(start_paused = true)]
async fn nothing_goes_on_beyond_the_bounded_buffer_without_a_reader() {
    let begun = Futures::default();
    let counted = begun.clone();
    let count = move || {
        let counted = counted.clone();
        step("count", move |n: u32| {
            drop(counted.begin());
            async move { Ok::<_, BoxError>(n) }
        })
    };
    let p = (0..20).fold(count().into_pipeline(), |p, _| p >> count());
    let flujo = Flujo::builder(p).event_buffer(4).build().unwrap();
    let mut run = flujo.start(0);
    run.events().next().await.unwrap();
    assert!(begun.counts().0 <= 3, "{:?}", begun.counts());
}
