//! Works on what waits in the store: runs that were left half done, that have not begun, that were answered.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use flujo_core::machine::{Failure, Outcome, Stop};
use flujo_core::store::StoreError;
use flujo_durable::DurableError;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::Runner;
use crate::domain::{Tokio, durable_error};
use crate::run::Done;

/// How often a worker looks for more.
const LOOK: Duration = Duration::from_secs(1);
/// How many runs are gone on with at the same time by [`Runner::recover`].
const AT_ONCE: usize = 16;
/// How many are asked for at most.
const PAGE: usize = 1_000;

/// Works on the runs of its runner's pipeline that wait in the store. Dropped, it ends at once and gives back what it was
/// running, as far as it came.
#[must_use = "a worker that is dropped works no more"]
pub struct Worker {
    runner: Runner,
    stops: Arc<Notify>,
    task: Option<JoinHandle<JoinSet<Worked>>>,
}

/// What became of the runs that [`Runner::recover`] found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovered {
    /// Those that went on, and ended or stand still.
    pub resumed: Vec<Arc<str>>,
    /// Those that went on and failed, and why.
    pub failed: BTreeMap<Arc<str>, String>,
    /// Those that didn't go on here, and why.
    pub skipped: BTreeMap<Arc<str>, String>,
}

/// A run that was gone on with.
pub(super) struct Worked {
    id: Arc<str>,
    done: Done,
}

impl Worker {
    pub(super) fn begin(runner: Runner, concurrency: usize) -> Result<Self, DurableError> {
        if runner.0.keeping.is_none() {
            return Err(DurableError::NoStore);
        }
        let stops = Arc::new(Notify::new());
        let task = tokio::spawn(work(runner.clone(), concurrency, Arc::clone(&stops)));
        Ok(Self {
            runner,
            stops,
            task: Some(task),
        })
    }

    /// Takes no more runs, waits up to so long for those it has, and gives back the others: somebody else goes on with them
    /// at once. Done when that is in the store.
    ///
    /// # Errors
    /// The store can't be used; then others take the runs over after the lease.
    pub async fn drain(mut self, wait: Duration) -> Result<(), DurableError> {
        let ends = Instant::now() + wait;
        self.stops.notify_one();
        let task = self.task.take();
        if let Some(task) = task
            && let Ok(mut runs) = task.await
        {
            let all = async { while runs.join_next().await.is_some() {} };
            // Those that are late are dropped below.
            let _ = tokio::time::timeout_at(ends, all).await;
            runs.shutdown().await;
        }
        match &self.runner.0.keeping {
            Some(keeping) => Ok(keeping.runs.store().flush().await?),
            None => Ok(()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker").finish_non_exhaustive()
    }
}

/// Runs that wait, without those that are known.
async fn waiting(
    runner: &Runner,
    room: usize,
    known: &HashSet<Arc<str>>,
) -> Result<Vec<Arc<str>>, DurableError> {
    let keeping = runner.0.keeping.as_ref().ok_or(DurableError::NoStore)?;
    let pipeline = Arc::clone(runner.plan().name());
    let limit = u32::try_from((room + known.len()).min(PAGE)).unwrap_or(u32::MAX);
    let found = keeping
        .runs
        .worker
        .waiting(Some(pipeline), keeping.runs.clock.now(), limit)
        .await?;
    let new = found
        .into_iter()
        .map(|run| run.id)
        .filter(|id| !known.contains(id));
    Ok(new.take(room).collect())
}

/// Goes on with a run until it has ended or waits for answers.
async fn go_on(runner: Runner, id: Arc<str>) -> Worked {
    let mut done = runner.stored(Arc::clone(&id)).await;
    // Questions whose time was up go on with their default.
    while let Some(paused) = &done.paused {
        let now = Instant::now();
        let late = |expires: Instant| expires <= now;
        if !paused
            .pauses()
            .iter()
            .any(|pause| pause.expires.is_some_and(late))
        {
            break;
        }
        match runner.resume_with::<String>(paused, []) {
            Ok(run) => done = run.await,
            Err(_) => break,
        }
    }
    Worked { id, done }
}

/// Until it is to stop. Gives what is under way then.
async fn work(runner: Runner, concurrency: usize, stops: Arc<Notify>) -> JoinSet<Worked> {
    let mut runs = JoinSet::new();
    // Under way here, or not to be gone on with by this pipeline.
    let mut known = HashSet::new();
    let mut stopped = pin!(stops.notified());
    loop {
        let room = concurrency - runs.len();
        if room > 0 {
            // A store that can't be reached now may be the next time.
            for id in waiting(&runner, room, &known).await.unwrap_or_default() {
                known.insert(Arc::clone(&id));
                runs.spawn(go_on(runner.clone(), id));
            }
        }
        let mut look = pin!(tokio::time::sleep(LOOK));
        let next = poll_fn(|poller| {
            if stopped.as_mut().poll(poller).is_ready() {
                return Poll::Ready(Next::Stop);
            }
            match runs.poll_join_next(poller) {
                Poll::Ready(Some(Ok(worked))) => Poll::Ready(Next::Worked(worked)),
                Poll::Ready(Some(Err(_))) => Poll::Ready(Next::Look),
                Poll::Ready(None) | Poll::Pending => look.as_mut().poll(poller).map(|()| Next::Look),
            }
        });
        match next.await {
            Next::Stop => return runs,
            Next::Look => {}
            Next::Worked(Worked { id, done }) => match durable_error(&done.finish) {
                Some(error) if is_lasting(error) => {
                    tracing::warn!(target: "flujo::store", run = %id, %error, "a run can't go on here");
                }
                _ => drop(known.remove(&id)),
            },
        }
    }
}

enum Next {
    Stop,
    Look,
    Worked(Worked),
}

/// Whether a run will not go on here the next time either.
fn is_lasting(error: &DurableError) -> bool {
    matches!(
        error,
        DurableError::Corrupt { .. }
            | DurableError::Diverged { .. }
            | DurableError::DefinitionChanged { .. }
            | DurableError::Store(StoreError::Corrupt { .. } | StoreError::Withheld { .. })
    )
}

pub(super) async fn recover(runner: &Runner) -> Result<Recovered, DurableError> {
    let (mut recovered, mut known) = (Recovered::default(), HashSet::new());
    let mut runs = JoinSet::new();
    loop {
        for id in waiting(runner, AT_ONCE - runs.len(), &known).await? {
            known.insert(Arc::clone(&id));
            runs.spawn(go_on(runner.clone(), id));
        }
        let Some(worked) = runs.join_next().await else {
            return Ok(recovered);
        };
        let Ok(Worked { id, done }) = worked else { continue };
        match (durable_error(&done.finish), failure(&done)) {
            (Some(error), _) => drop(recovered.skipped.insert(id, error.to_string())),
            (None, Some(failure)) => drop(recovered.failed.insert(id, failure.to_string())),
            (None, None) => recovered.resumed.push(id),
        }
    }
}

fn failure(done: &Done) -> Option<&Failure<Tokio>> {
    match &done.finish.outcome {
        Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => Some(failure),
        _ => None,
    }
}
