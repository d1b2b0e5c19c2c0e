//! Runs in the store of a runner, whoever runs them.

use std::sync::Arc;

use flujo_core::context::Context;
use flujo_core::value::Value;
use flujo_durable::{DurableError, ForkPoint};

use super::worker::{self, Recovered, Worker};
use super::{Run, Runner};
use crate::run::{KeptRun, RunId};

impl Runner {
    /// The run of this name in the store, whoever runs it: to see how it stands, to wait for its result, to answer it or to
    /// have it end.
    pub fn get(&self, id: impl Into<Arc<str>>) -> KeptRun {
        KeptRun::new(Arc::clone(&self.0), id.into())
    }

    /// Puts a run into the store for a [worker](Self::worker) of its pipeline, here or elsewhere; one of this name that is
    /// there already stays as it is.
    ///
    /// # Errors
    /// The runner has no store, the input can't be saved, or the store can't be used.
    pub async fn enqueue(
        &self,
        id: impl Into<Arc<str>>,
        input: Value,
        context: Context,
    ) -> Result<RunId, DurableError> {
        self.run_named(id, input, context).enqueue().await
    }

    /// Another run, of the name `id`, that begins with what run `from` was when a step of it began. What had ended by then is
    /// part of the new run and isn't run again; what it used counts for the new run, too. The run `from` stays as it is.
    ///
    /// It fails as [`DurableError::Fork`] when there is no such step or it didn't begin, and as [`DurableError::Exists`] when
    /// there is a run `id`.
    pub fn fork(&self, from: impl Into<Arc<str>>, at: ForkPoint, id: impl Into<Arc<str>>) -> Run {
        Run::forked(Arc::clone(&self.0), id.into(), from.into(), at)
    }

    /// Goes on with the runs of this pipeline that wait in the store for somebody, until each has ended or stands still:
    /// those that were left half done by a process that is gone, those that have not begun, those for which an answer was
    /// left, or whose question's time is up.
    ///
    /// # Errors
    /// The runner has no store, or it can't be used.
    pub async fn recover(&self) -> Result<Recovered, DurableError> {
        worker::recover(self).await
    }

    /// Goes on with such runs from now on, so many at a time, at least one. It runs on the tokio runtime that it is called
    /// in, until it is dropped or [drained](Worker::drain).
    ///
    /// # Errors
    /// The runner has no store.
    pub fn worker(&self, concurrency: usize) -> Result<Worker, DurableError> {
        Worker::begin(self.clone(), concurrency.max(1))
    }
}
