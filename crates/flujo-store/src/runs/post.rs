//! What others leave for a run, and how it is heard where the run is under way.

use std::sync::Arc;

use flujo_core::store::{Change, Claim, MessageId, RunInfo, RunStatus, StoreError, StoredRun};
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

    /// Takes a run again that stood still here, if nobody else has gone on with it since: `before` is the token it was
    /// written with, if it was.
    ///
    /// # Errors
    /// [`DurableError::WentOnElsewhere`], somebody has it, or the store fails.
    pub async fn claim_again(&self, run: Arc<str>, before: Option<u64>) -> Result<Claim, DurableError> {
        let claim = self.worker.claim(run).await?;
        if before.is_some_and(|before| claim.token != before + 1) {
            let run = Arc::clone(&claim.run);
            return self.give_back(claim, DurableError::WentOnElsewhere { run }).await;
        }
        Ok(claim)
    }

    /// The same for a run that stands still with questions: where something has been left for it, that goes before.
    ///
    /// # Errors
    /// As [`claim_again`](Self::claim_again).
    pub async fn claim_unanswered(&self, run: Arc<str>, before: Option<u64>) -> Result<Claim, DurableError> {
        let claim = self.claim_again(run, before).await?;
        match self.left_for(&claim).await {
            Ok(left) if left.is_empty() => Ok(claim),
            Ok(_) => {
                let run = Arc::clone(&claim.run);
                self.give_back(claim, DurableError::WentOnElsewhere { run }).await
            }
            Err(error) => self.give_back(claim, error).await,
        }
    }

    /// The same for a run that was stopped: with that the requests to stop are done with that were left for it.
    ///
    /// # Errors
    /// As [`claim_again`](Self::claim_again).
    pub async fn claim_stopped(&self, run: Arc<str>, before: Option<u64>) -> Result<Claim, DurableError> {
        let claim = self.claim_again(run, before).await?;
        let done_with = self.left_for(&claim).await.map(|left| {
            let cancels = left.into_iter().filter(|(_, posted)| *posted == Posted::Cancel);
            cancels
                .map(|(message, _)| Change::Taken(message))
                .collect::<Vec<_>>()
        });
        let written = match done_with {
            Ok(none) if none.is_empty() => return Ok(claim),
            Ok(done_with) => self
                .store()
                .write(&claim, done_with)
                .await
                .map_err(DurableError::from),
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => Ok(claim),
            Err(error) => self.give_back(claim, error).await,
        }
    }

    /// What has been left for a run that was claimed here.
    async fn left_for(&self, claim: &Claim) -> Result<Vec<(MessageId, Posted)>, DurableError> {
        let left = self.store().messages(claim.worker).await?.into_iter();
        let ours = left.filter(|one| one.run == claim.run);
        Ok(ours
            .filter_map(|one| Some((one.id, Posted::from_bytes(&one.body).ok()?)))
            .collect())
    }

    /// It is free again for whoever looks it up.
    async fn give_back(&self, claim: Claim, error: DurableError) -> Result<Claim, DurableError> {
        self.store().write(&claim, vec![Change::Release]).await?;
        Err(error)
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
