//! What others leave for a run, and how it is heard where the run is under way.

use std::sync::Arc;

use flujo_core::store::{MessageId, RunInfo, RunStatus, StoreError, StoredRun};
use flujo_durable::{Contents, Definition, DurableError, Inbox, Posted, Questions, Raw, Replay, load};

use super::Keeping;
use crate::Listening;

/// What others leave for a run that is under way here.
#[derive(Debug)]
pub struct Post {
    /// What has come in.
    pub inbox: Arc<Inbox>,
    _listening: Listening,
}

impl Keeping {
    /// Leaves something for a run, for whoever owns it or will. An answer for a run that stands still must be for one of its
    /// questions: by its id, or by the path or name of its step. What a run asks that is under way is known to its owner
    /// alone: an answer that fits nothing there is told of in its log.
    ///
    /// # Errors
    /// [`StoreError::UnknownRun`], [`StoreError::WrongStatus`] for one that has ended, [`DurableError::UnknownPause`] or
    /// [`DurableError::AmbiguousAnswer`] for an answer, or the store fails.
    pub async fn post(&self, run: Arc<str>, posted: &Posted) -> Result<MessageId, DurableError> {
        let store = self.store();
        let info = store.info(Arc::clone(&run)).await?;
        let status = info.as_ref().map(|info| info.summary.status);
        if let Some(status) = status.filter(|status| status.has_ended()) {
            let reason = "nothing can be left for a run that has ended".to_owned();
            return Err(StoreError::WrongStatus { run, status, reason }.into());
        }
        let stands_still = |info: &RunInfo| info.owner.is_none() && info.summary.status == RunStatus::Paused;
        let addressed = match posted {
            Posted::Answer { pause, value } if info.as_ref().is_some_and(stands_still) => {
                let stored = load(Arc::clone(store), Arc::clone(&run)).await?;
                let id = addressed(&stored, pause.as_deref())?;
                let pause = id.or_else(|| pause.clone());
                let value = value.clone();
                Some(Posted::Answer { pause, value })
            }
            _ => None,
        };
        let body = addressed.as_ref().unwrap_or(posted).to_bytes();
        Ok(self.worker.post(run, body).await?)
    }

    /// Hears what others leave for a run that is under way here: `wake` is told of each message once, on another thread.
    pub fn hear(&self, run: Arc<str>, wake: impl Fn(&Posted) + Send + Sync + 'static) -> Post {
        let inbox = Arc::new(Inbox::new(wake));
        let ear = Arc::clone(&inbox);
        Post {
            _listening: self.worker.listen(run, move |message| ear.put(message)),
            inbox,
        }
    }
}

/// The id of the question that an answer is for; `None` when what the run asks can't be read without its pipeline.
fn addressed(stored: &StoredRun, to: Option<&str>) -> Result<Option<String>, DurableError> {
    let Ok(plan) = Definition::of_stored(stored)?.plan() else {
        return Ok(None);
    };
    let Contents {
        snapshot, records, ..
    } = Contents::<Raw>::of(stored)?;
    let Ok(mut replay) = Replay::new(Arc::new(plan), snapshot) else {
        return Ok(None);
    };
    let mut entries = records.into_iter().flat_map(|(_, entries)| entries);
    if entries.try_for_each(|entry| replay.feed(entry)).is_err() {
        return Ok(None);
    }
    let questions = Questions::of(Arc::clone(&stored.info.id), &replay);
    Ok(Some(questions.addressed(to)?.id.clone()))
}
