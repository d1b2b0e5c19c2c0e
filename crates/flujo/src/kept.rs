//! Runs in a runner's store, typed: whoever runs them.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use flujo_core::store::{RunInfo, RunStatus};
use flujo_durable::{DurableError, ForkPoint, Retention};
use flujo_tokio::{KeptEvents, KeptRun as Untyped, Recovered, RunId, Worker};
use serde::Serialize;

use crate::payload::wrap;
use crate::run::{InvalidRun, Run, RunError, RunHandle, result};
use crate::runner::fields;
use crate::{Context, Flujo, FlujoBuilder, Payload};

/// A run in the store, whoever runs it: in this process, in another one, or nobody at the moment. Cloning shares it.
pub struct KeptRun<O, C = ()> {
    untyped: Untyped,
    types: PhantomData<fn() -> (O, C)>,
}

impl<O, C> Clone for KeptRun<O, C> {
    fn clone(&self) -> Self {
        let untyped = self.untyped.clone();
        let types = PhantomData;
        Self { untyped, types }
    }
}

impl<O, C> fmt::Debug for KeptRun<O, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.untyped.fmt(f)
    }
}

impl<O: Payload, C: Context> KeptRun<O, C> {
    /// Its id.
    pub fn id(&self) -> &str {
        self.untyped.id()
    }

    /// How it stands, and what it has used as of what was last told to lists.
    ///
    /// # Errors
    /// There is no such run, or the store can't be used.
    pub async fn info(&self) -> Result<RunInfo, DurableError> {
        self.untyped.info().await
    }

    /// How it stands.
    ///
    /// # Errors
    /// As [`info`](Self::info).
    pub async fn status(&self) -> Result<RunStatus, DurableError> {
        self.untyped.status().await
    }

    /// Waits until it has ended or waits for answers, and gives its result. The store is looked at again and again, once a
    /// second in the end.
    ///
    /// # Errors
    /// As a run that is awaited here.
    pub async fn result(&self) -> Result<Run<O, C>, RunError> {
        result(self.untyped.result().await)
    }

    /// What happened in it and what happens, up to its end: the beginnings and ends of steps as its store knows them, with
    /// the same numbers in every process, whoever runs it. Those up to number `after` are left out: as many as somebody has
    /// seen who looks again.
    ///
    /// ```
    /// use flujo::store::Memory;
    /// use flujo::{BoxError, Flujo, step};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let double = step("double", |n: u32| async move { Ok::<_, BoxError>(2 * n) }).durable();
    /// let flujo = Flujo::builder(double).store(Memory::new()).build()?;
    /// flujo.start_named("the run", 4).await?;
    /// let mut events = flujo.get("the run")?.events(1); // but for the first, that it began
    /// let mut told = Vec::new();
    /// while let Some(event) = events.next().await? {
    ///     told.push(event.kind.name());
    /// }
    /// assert_eq!(told, ["step_started", "step_finished", "run_finished"]);
    /// # Ok(()) }
    /// ```
    pub fn events(&self, after: u64) -> KeptEvents {
        self.untyped.events(after)
    }

    /// Asks it to end: at once where this runner runs it, within three seconds where another process does, and when nobody
    /// runs it, as soon as a [worker](Flujo::worker) takes it up.
    ///
    /// # Errors
    /// There is no such run, it has ended, or the store can't be used.
    pub async fn cancel(&self) -> Result<(), DurableError> {
        self.untyped.cancel().await
    }

    /// Leaves the answer to its one open question. A [worker](Flujo::worker) of its pipeline goes on with it, here or
    /// elsewhere; an answer that fits no open question changes nothing.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel), or the answer can't be written as JSON.
    pub async fn answer<A: Serialize>(&self, answer: A) -> Result<(), DurableError> {
        self.untyped.answer(None, json(&answer)?).await
    }

    /// The same to the question of this id.
    ///
    /// # Errors
    /// As [`answer`](Self::answer).
    pub async fn answer_to<A: Serialize>(
        &self,
        pause: impl Into<String>,
        answer: A,
    ) -> Result<(), DurableError> {
        self.untyped.answer(Some(pause.into()), json(&answer)?).await
    }
}

fn json<A: Serialize>(answer: &A) -> Result<serde_json::Value, DurableError> {
    serde_json::to_value(answer).map_err(|error| DurableError::Unsavable {
        what: "the answer".to_owned(),
        reason: error.to_string(),
    })
}

impl<I: Payload, O: Payload, C: Context> Flujo<I, O, C> {
    /// The run of this name in the store, whoever runs it: to see how it stands, to wait for its result, to answer it or to
    /// have it end.
    ///
    /// # Errors
    /// The pipeline can't run.
    pub fn get(&self, id: impl Into<Arc<str>>) -> Result<KeptRun<O, C>, InvalidRun> {
        Ok(KeptRun {
            untyped: self.untyped()?.get(id),
            types: PhantomData,
        })
    }

    /// Puts a run into the store for a [worker](Self::worker) of its pipeline, here or elsewhere; one of this name that is
    /// there already stays as it is.
    ///
    /// # Errors
    /// [`InvalidRun`]: the pipeline can't run, the runner has no store, the input can't be saved, the store can't be used.
    pub async fn enqueue(&self, id: impl Into<Arc<str>>, input: I) -> Result<RunId, InvalidRun>
    where
        C: Default,
    {
        let (input, context) = (wrap(input, self.input_codec()), fields(&C::default())?);
        Ok(self.untyped()?.enqueue(id, input, context).await?)
    }

    /// A handle to another run, of the name `id`, that begins with what run `from` was when a step of it began. What had
    /// ended by then is part of the new run and isn't run again; what it used counts for the new run, too. The run `from`
    /// stays as it is: it may have ended, and it may go on.
    ///
    /// ```
    /// use flujo::store::Memory;
    /// use flujo::{BoxError, Flujo, ForkPoint, step};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let add = |n: u32| async move { Ok::<_, BoxError>(n + 1) };
    /// let p = step("one", add).durable() >> step("two", add).durable();
    /// let flujo = Flujo::builder(p).store(Memory::new()).build()?;
    /// flujo.start_named("first", 1).await?;
    /// let again = flujo.fork("first", ForkPoint::first("two"), "second").await?; // `one` doesn't run again
    /// assert_eq!(again.output, 3);
    /// # Ok(()) }
    /// ```
    ///
    /// The run fails as [`RunError::Durable`] when there is no such step, or it didn't begin in `from`, or when there is a
    /// run `id` already.
    pub fn fork(&self, from: impl Into<Arc<str>>, at: ForkPoint, id: impl Into<Arc<str>>) -> RunHandle<O, C> {
        self.go_on(|runner| Ok(runner.fork(from, at, id)))
    }

    /// Goes on with the runs of this pipeline that wait in the store for somebody, until each has ended or stands still:
    /// those that were left half done by a process that is gone, those that have not begun, those for which an answer was
    /// left or whose question's time is up.
    ///
    /// # Errors
    /// The pipeline can't run, the runner has no store, or it can't be used.
    pub async fn recover(&self) -> Result<Recovered, InvalidRun> {
        Ok(self.untyped()?.recover().await?)
    }

    /// Goes on with such runs from now on, so many at a time. It works on the tokio runtime that it is called in, until it is
    /// dropped or [drained](Worker::drain), as when the process is asked to end.
    ///
    /// # Errors
    /// The pipeline can't run, or the runner has no store.
    pub fn worker(&self, concurrency: usize) -> Result<Worker, InvalidRun> {
        Ok(self.untyped()?.worker(concurrency)?)
    }
}

impl<I: Payload, O: Payload, C: Context> FlujoBuilder<I, O, C> {
    /// What becomes of runs in the store that have ended: they stay, without this. Old ones are deleted while others end, a
    /// part at a time.
    #[must_use]
    pub fn retention(self, retention: Retention) -> Self {
        self.with(|runner| runner.retention(retention))
    }
}
