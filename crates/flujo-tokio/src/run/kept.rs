//! A run in a store, whoever runs it.

mod events;

use std::sync::Arc;
use std::time::Duration;

use flujo_core::store::{MessageId, RunInfo, RunStatus, StoreError};
use flujo_durable::{DurableError, Posted};
use flujo_store::runs;

pub use events::KeptEvents;

use super::handle::{Done, Run};
use super::opening::Keeping;
use crate::domain::durable_error;
use crate::runner::Running;

/// How soon a run that hasn't ended is looked at again: at first, and at most.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A run in the store, whoever runs it: in this process, in another one, or nobody at the moment. Cloning shares it.
#[derive(Clone)]
pub struct KeptRun {
    runner: Arc<Running>,
    id: Arc<str>,
}

impl KeptRun {
    pub(crate) fn new(runner: Arc<Running>, id: Arc<str>) -> Self {
        Self { runner, id }
    }

    /// Its id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// How it stands, and what it has used as of what was last told to lists.
    ///
    /// # Errors
    /// There is no such run, or the store can't be used.
    pub async fn info(&self) -> Result<RunInfo, DurableError> {
        let store = self.keeping()?.runs.store();
        let info = store.info(Arc::clone(&self.id)).await?;
        let unknown = || StoreError::UnknownRun {
            run: Arc::clone(&self.id),
            place: store.place(),
        };
        Ok(info.ok_or_else(unknown)?)
    }

    /// How it stands.
    ///
    /// # Errors
    /// As [`info`](Self::info).
    pub async fn status(&self) -> Result<RunStatus, DurableError> {
        Ok(runs::status(&self.info().await?))
    }

    /// Waits until it has ended or stands still, and gives its result. The store is looked at again and again, once a second
    /// in the end. A run that stands still and for which an answer was left, and that nobody has taken up yet, goes on here.
    pub async fn result(&self) -> Done {
        let mut pause = LOOKS.0;
        loop {
            let stands = match self.status().await {
                Ok(status) => status.has_ended() || status == RunStatus::Paused,
                Err(_) => true,
            };
            if stands {
                let done = Run::named(Arc::clone(&self.runner), Arc::clone(&self.id), None).await;
                let busy = matches!(
                    durable_error(&done.finish),
                    Some(DurableError::Store(StoreError::Owned { .. }))
                );
                if !busy {
                    return done;
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOKS.1);
        }
    }

    /// What happened in it, in order and from its beginning, and what happens, up to its end: the beginnings and ends of steps
    /// as its store knows them, with the same numbers in every process, whoever runs it. Those up to number `after` are left
    /// out: as many as somebody has seen who looks again.
    pub fn events(&self, after: u64) -> KeptEvents {
        KeptEvents::new(self.clone(), after)
    }

    /// Asks it to end: at once where this runner runs it, elsewhere when its worker next shows that it lives (3 seconds), and
    /// when nobody runs it, as soon as a worker takes it up.
    ///
    /// # Errors
    /// There is no such run, it has ended, or the store can't be used.
    pub async fn cancel(&self) -> Result<(), DurableError> {
        self.post(&Posted::Cancel).await.map(drop)
    }

    /// Leaves an answer to one of its questions, `None` for the only one that is open. A worker of its pipeline goes on with
    /// it; an answer that fits no open question changes nothing.
    ///
    /// # Errors
    /// As [`cancel`](Self::cancel).
    pub async fn answer(&self, pause: Option<String>, value: serde_json::Value) -> Result<(), DurableError> {
        self.post(&Posted::Answer { pause, value }).await.map(drop)
    }

    async fn post(&self, posted: &Posted) -> Result<MessageId, DurableError> {
        self.keeping()?.runs.post(Arc::clone(&self.id), posted).await
    }

    fn keeping(&self) -> Result<&Keeping, DurableError> {
        self.runner.keeping.as_deref().ok_or(DurableError::NoStore)
    }
}

impl std::fmt::Debug for KeptRun {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeptRun").field(&self.id).finish()
    }
}
