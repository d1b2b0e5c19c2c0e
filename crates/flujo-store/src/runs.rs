//! Runs that are kept in a store: how they are put there or found there, and how their end is written. The same for
//! every host.

use std::sync::Arc;

use flujo_core::machine::{Finish, Outcome, Stop, Time};
use flujo_core::plan::Plan;
use flujo_core::store::{
    Change, Claim, Created, NewRun, RunStatus, RunStore, StoreError, StoredRun, Summary, WallTime,
};
use flujo_core::usage::Usage;
use flujo_durable::{
    Contents, Definition, Durability, DurableError, GoingOn, Host, Journal, LogPlace, Recorded, Restored,
    Snapshot, Start, Written, first_snapshot,
};

use crate::WorkerHandle;

/// How runs are kept.
#[derive(Clone)]
pub struct Keeping {
    /// Who runs them, and where they are kept.
    pub worker: WorkerHandle,
    /// When what happens must be there.
    pub durability: Durability,
    /// Where the pipeline comes from, such as the file of a blueprint: for whoever finds its runs.
    pub source: Option<Arc<str>>,
}

/// A run that is in the store.
pub enum Opened<D: Recorded> {
    /// It was put there, and begins.
    Begun(Arc<Journal<D>>),
    /// It was found there, and goes on.
    Found(Box<Found<D>>),
    /// It was found there, and has ended.
    Ended(Box<Finish<D>>, LogPlace),
}

/// A run that goes on where its last record was written.
pub struct Found<D: Recorded> {
    /// Its log.
    pub journal: Arc<Journal<D>>,
    /// Its machines, each behind the one that started it.
    pub machines: Vec<Restored<D>>,
    /// When each question was asked that waits: the number of its machine, and milliseconds since 1970 began.
    pub asked: Vec<(u32, WallTime)>,
    /// What it has used.
    pub used: Usage,
    /// Its own time.
    pub at: Time,
}

/// What a run is to be that is opened.
pub struct Opening<D: Recorded> {
    /// Its id.
    pub id: Arc<str>,
    /// What it runs.
    pub plan: Arc<Plan<D::Callable>>,
    /// What it begins with when it isn't in the store; without, it must be there.
    pub start: Option<Start<D>>,
    /// The time on the wall, for lists.
    pub now: WallTime,
}

impl Keeping {
    /// The store.
    pub fn store(&self) -> &Arc<dyn RunStore> {
        self.worker.store()
    }

    /// The log of a run that is claimed.
    pub fn journal<D: Recorded>(&self, claim: Claim, place: LogPlace) -> Arc<Journal<D>> {
        Arc::new(Journal::new(
            Arc::clone(self.store()),
            claim,
            self.durability,
            place,
        ))
    }

    /// Puts a run into the store, or finds the one of its id there. `read` makes its contents of the bytes: a domain may
    /// need something at hand for that.
    ///
    /// # Errors
    /// What keeps it from going on: it is under way elsewhere, its pipeline has changed, it is damaged, the store fails.
    /// It is left as it was, and free.
    pub async fn open<D: Recorded>(
        &self,
        opening: Opening<D>,
        read: impl FnOnce(&StoredRun) -> Result<Contents<D>, DurableError> + Send,
    ) -> Result<Opened<D>, DurableError> {
        let Opening { id, plan, start, now } = opening;
        let definition = Definition::of(&plan);
        let definition = match &self.source {
            Some(source) => definition.from_source(&**source),
            None => definition,
        };
        if let Some(start) = start {
            let snapshot = first_snapshot(&Snapshot::Start(start))?;
            let worker = self.worker.id().await?;
            let size = snapshot.len() as u64;
            let run = NewRun {
                id: Arc::clone(&id),
                pipeline: Arc::clone(plan.name()),
                definition: definition.to_bytes(),
                created: now,
                forked_from: None,
                status: RunStatus::Running,
                snapshot,
                blobs: Vec::new(),
            };
            let created = self.store().create(run, Some(worker)).await?;
            if let Created::New(Some(claim)) = created {
                let place = LogPlace {
                    last_record: 0,
                    next_machine: 1,
                    snapshot: size,
                };
                return Ok(Opened::Begun(self.journal(claim, place)));
            }
        }
        self.find(id, plan, &definition, now, read).await
    }

    async fn find<D: Recorded>(
        &self,
        id: Arc<str>,
        plan: Arc<Plan<D::Callable>>,
        definition: &Definition,
        now: WallTime,
        read: impl FnOnce(&StoredRun) -> Result<Contents<D>, DurableError> + Send,
    ) -> Result<Opened<D>, DurableError> {
        let store = Arc::clone(self.store());
        let info = store.info(Arc::clone(&id)).await?;
        let info = info.ok_or_else(|| StoreError::UnknownRun {
            run: Arc::clone(&id),
            place: store.place(),
        })?;
        let claim = if info.summary.status.has_ended() {
            None
        } else {
            Some(self.worker.claim(Arc::clone(&id)).await?)
        };
        let found = self.load(&id, plan, definition, claim.as_ref(), now, read).await;
        if let (Err(_), Some(claim)) = (&found, claim) {
            // What can't go on here is free for others; whether that is written makes no difference to the error.
            let _ = store.write(&claim, vec![Change::Release]).await;
        }
        found
    }

    async fn load<D: Recorded>(
        &self,
        id: &Arc<str>,
        plan: Arc<Plan<D::Callable>>,
        definition: &Definition,
        claim: Option<&Claim>,
        now: WallTime,
        read: impl FnOnce(&StoredRun) -> Result<Contents<D>, DurableError> + Send,
    ) -> Result<Opened<D>, DurableError> {
        let stored = self.store().load(Arc::clone(id)).await?;
        let corrupt = |reason| DurableError::Corrupt {
            run: Arc::clone(id),
            location: "the definition".to_owned(),
            reason,
        };
        let before = Definition::from_bytes(&stored.definition).map_err(corrupt)?;
        let differences = before.differences(definition);
        if !differences.is_empty() {
            return Err(DurableError::DefinitionChanged {
                run: Arc::clone(id),
                differences,
            });
        }
        let place = LogPlace {
            last_record: stored.info.last_record,
            next_machine: 1,
            snapshot: stored.snapshot.len() as u64,
        };
        let contents = read(&stored)?;
        let asked = contents.asked();
        let mut replay = contents.replay(plan)?;
        let contradicts = |reason| DurableError::Corrupt {
            run: Arc::clone(id),
            location: "its log".to_owned(),
            reason,
        };
        let Some(claim) = claim else {
            let finish = replay.into_finish();
            let finish = finish.ok_or_else(|| contradicts("it has ended, and its log goes on".to_owned()))?;
            return Ok(Opened::Ended(finish, place));
        };
        let told = replay.settle().map_err(contradicts)?;
        let at = replay.now();
        let gone_on = replay.go_on(Host::Another, at).map_err(contradicts)?;
        match gone_on {
            GoingOn::Ended(finish) => {
                let journal = self.journal(claim.clone(), place);
                journal.append(&told)?;
                end(&journal, &finish, now)?.await?;
                Ok(Opened::Ended(finish, journal.place()))
            }
            GoingOn::Machines {
                entries,
                machines,
                next,
            } => {
                let place = LogPlace {
                    next_machine: next,
                    ..place
                };
                let journal = self.journal(claim.clone(), place);
                journal.append(&told)?;
                journal.append(&entries)?;
                let used = machines
                    .iter()
                    .fold(Usage::ZERO, |used, one| used + one.machine.usage());
                Ok(Opened::Found(Box::new(Found {
                    journal,
                    machines,
                    asked,
                    used,
                    at,
                })))
            }
        }
    }
}

/// Writes the end of a run. What can go on keeps its log, and so does what has a value in it that only the pipeline can
/// make again; of anything else the result alone is kept.
///
/// # Errors
/// [`DurableError::Unsavable`] for a result of a run whose log isn't kept: nothing was written.
pub fn end<D: Recorded>(
    journal: &Journal<D>,
    finish: &Finish<D>,
    now: WallTime,
) -> Result<Written, DurableError> {
    let status = match &finish.outcome {
        Outcome::Completed(_) => RunStatus::Completed,
        Outcome::Failed(_) | Outcome::Stopped(Stop::Fatal(_)) => RunStatus::Failed,
        Outcome::Stopped(Stop::LimitExceeded(_)) => RunStatus::LimitExceeded,
        Outcome::Stopped(Stop::Paused) => RunStatus::Paused,
        Outcome::Stopped(Stop::Cancelled | Stop::Aborted(_)) => RunStatus::Cancelled,
    };
    let message = match &finish.outcome {
        Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => Some(Arc::from(format!(
            "step `{}` failed: {}",
            failure.step, failure.error_type
        ))),
        _ => None,
    };
    let changes = || {
        [
            Change::Summary(summary(status, finish, message.clone(), None, now)),
            Change::Release,
        ]
    };
    if finish.kept.is_none() || journal.durability() == Durability::Exit {
        let ended = Snapshot::Ended(Box::new(finish.clone()));
        match journal.snapshot(&ended, changes()) {
            Ok(written) => return Ok(written),
            Err(error) if journal.durability() == Durability::Exit => return Err(error),
            Err(_) => {}
        }
    }
    Ok(journal.write(changes()))
}

/// How a run stands, for lists: with these steps so far.
pub fn summary<D: Recorded>(
    status: RunStatus,
    finish: &Finish<D>,
    message: Option<Arc<str>>,
    due: Option<WallTime>,
    now: WallTime,
) -> Summary {
    Summary {
        status,
        updated: now,
        due,
        steps: finish.history.records.len() as u64,
        usage: finish.usage,
        message,
    }
}

impl std::fmt::Debug for Keeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeping")
            .field("worker", &self.worker)
            .field("durability", &self.durability)
            .field("source", &self.source)
            .finish()
    }
}
