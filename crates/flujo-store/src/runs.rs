//! Runs that are kept in a store: how they are put there or found there, and how their end is written. The same for
//! every host.

mod clock;
mod defined;
mod events;
mod post;

use std::sync::Arc;

use flujo_core::machine::{Finish, Options, Outcome, Stop, Time};
use flujo_core::plan::Plan;
use flujo_core::store::{
    Change, Claim, Created, Message, NewRun, RunInfo, RunStatus, RunStore, StoreError, StoredRun, Summary,
    WallTime,
};
use flujo_core::usage::{Usage, UsageLimits};
use flujo_durable::{
    Contents, Definition, Drift, Durability, DurableError, FirstSnapshot, ForkPoint, GoingOn, Host, Journal,
    LogPlace, Migrate, Posted, Purging, Questions, Recorded, Replay, Restored, Snapshot, Start, Written,
    load, loaded,
};

use crate::WorkerHandle;

pub use clock::Clock;
pub use defined::Defined;
use defined::Known;
pub use events::{KeptEvent, KeptEventKind, Told, asks, events, events_of};
pub use post::Post;

/// How runs are kept.
#[derive(Clone)]
pub struct Keeping {
    /// Who runs them, and where they are kept.
    pub worker: WorkerHandle,
    /// When what happens must be there.
    pub durability: Durability,
    /// Where the pipeline comes from, such as the file of a blueprint: for whoever finds its runs.
    pub source: Option<Arc<str>>,
    /// Limits that come with the runs, beside those of the pipeline: for whoever goes on with them.
    pub given: UsageLimits,
    /// Which version of the pipeline it is, where there are several of one name.
    pub version: Option<Arc<str>>,
    /// What becomes of those that have ended.
    pub purging: Arc<Purging>,
    /// What the runner knows of how its pipeline has changed since runs began.
    pub migrate: Option<Arc<Migrate>>,
    /// What the pipeline is, as its runs are stored with it.
    pub defined: Arc<Defined>,
    /// The clock on the wall.
    pub clock: Clock,
}

/// How a run stands: also one that goes on after it was found standing still.
pub fn status(info: &RunInfo) -> RunStatus {
    let status = info.summary.status;
    if info.owner.is_some() && !status.has_ended() {
        RunStatus::Running
    } else {
        status
    }
}

/// A run that is in the store.
pub enum Opened<D: Recorded> {
    /// It was put there, and begins.
    Begun(Arc<Journal<D>>),
    /// It was found there, and goes on.
    Found(Box<Found<D>>),
    /// It was found there, and has ended: at this time on the wall.
    Ended(Box<Finish<D>>, LogPlace, WallTime),
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
    /// The limits that it went on with after it was stopped, in place of its runner's own.
    pub limits: Option<UsageLimits>,
    /// Its own time.
    pub at: Time,
    /// The questions that wait for answers: whoever has one finds out which it is for.
    pub questions: Questions<D>,
    /// What had been left for it.
    pub posted: Vec<Message>,
}

/// What a run is to be that is opened.
pub struct Opening<D: Recorded> {
    /// Its id.
    pub id: Arc<str>,
    /// What it runs.
    pub plan: Arc<Plan<D::Callable>>,
    /// What it begins with when it isn't in the store; without, it must be there.
    pub start: Option<Start<D>>,
    /// What its host wants when it goes on here, within the host's own limits: those of the run itself may be others.
    pub options: Options,
    /// The time on the wall.
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
        let Opening {
            id,
            plan,
            start,
            options,
            now,
        } = opening;
        let definition = self.definition(&plan);
        if let Some(start) = start {
            let snapshot = FirstSnapshot::of(&Snapshot::Start(start))?;
            let worker = self.worker.id().await?;
            let (size, blobs) = (snapshot.size, snapshot.blobs.iter().map(|blob| blob.id).collect());
            let run = NewRun {
                status: RunStatus::Running,
                ..queued(Arc::clone(&id), &plan, &definition, snapshot, now)
            };
            let created = self.store().create(run, Some(worker)).await?;
            if let Created::New(Some(claim)) = created {
                let place = LogPlace {
                    last_record: 0,
                    next_machine: 1,
                    snapshot: size,
                    definition: None,
                    limits: None,
                    blobs,
                };
                return Ok(Opened::Begun(self.journal(claim, place)));
            }
        }
        self.find(id, plan, &definition, (options, now), read).await
    }

    /// Puts a run into the store for whoever works on its pipeline; one that is there already stays as it is.
    ///
    /// # Errors
    /// [`DurableError::Unsavable`] for what it begins with, or the store fails.
    pub async fn enqueue<D: Recorded>(&self, opening: Opening<D>) -> Result<(), DurableError> {
        let Opening {
            id, plan, start, now, ..
        } = opening;
        let Some(start) = start else { return Ok(()) };
        let snapshot = FirstSnapshot::of(&Snapshot::Start(start))?;
        let run = queued(id, &plan, &self.definition(&plan), snapshot, now);
        self.store().create(run, None).await?;
        Ok(())
    }

    /// Begins another run, under the id of `opening`, with what a run was when a step of it began. What had ended by then is
    /// part of the new run, with what it used; the run itself stays as it is. The new one waits to be opened.
    ///
    /// # Errors
    /// [`DurableError::Fork`] says why it can't be forked there; [`DurableError::Exists`] when the new id is taken.
    pub async fn fork<D: Recorded>(
        &self,
        from: Arc<str>,
        at: &ForkPoint,
        opening: Opening<D>,
        read: impl FnOnce(&StoredRun) -> Result<Contents<D>, DurableError> + Send,
    ) -> Result<(), DurableError> {
        let Opening { id, plan, now, .. } = opening;
        let stored = load(Arc::clone(self.store()), Arc::clone(&from)).await?;
        let definition = self.definition(&plan);
        let drift = Drift::of(&stored, &plan, &definition.0, self.migrate.as_deref())?;
        let snapshot = match &drift {
            None => read(&stored)?.fork(Arc::clone(&plan), at)?,
            Some(drift) => {
                let contents = drift.read(|| read(&stored))?;
                contents
                    .fork(Arc::clone(&plan), at)
                    .map_err(|error| drift.explain(error))?
            }
        };
        let run = NewRun {
            forked_from: Some(from),
            ..queued(
                Arc::clone(&id),
                &plan,
                &definition,
                FirstSnapshot::of(&snapshot)?,
                now,
            )
        };
        match self.store().create(run, None).await? {
            Created::New(_) => Ok(()),
            Created::Exists(_) => Err(DurableError::Exists { run: id }),
        }
    }

    /// Writes the end of a run, or deletes it with that, as its retention says. A log that isn't long stays, so that the run
    /// can be forked and replayed; in place of a long one the result alone is kept, unless the run can go on.
    ///
    /// # Errors
    /// [`DurableError::Unsavable`] for a result of a run whose log isn't kept: nothing was written.
    pub fn end<D: Recorded>(
        &self,
        journal: &Journal<D>,
        pipeline: &Arc<str>,
        finish: &Finish<D>,
        now: WallTime,
    ) -> Result<Written, DurableError> {
        let written = end(journal, finish, &self.purging, now)?;
        if let Some(old) = self.purging.ended(pipeline, now) {
            // Asked for, and done whether or not anybody waits.
            drop(self.store().purge(old));
        }
        Ok(written)
    }

    async fn find<D: Recorded>(
        &self,
        id: Arc<str>,
        plan: Arc<Plan<D::Callable>>,
        definition: &Known,
        here: (Options, WallTime),
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
        let found = self.load(&id, plan, definition, claim.as_ref(), here, read).await;
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
        definition: &Known,
        claim: Option<&Claim>,
        (options, now): (Options, WallTime),
        read: impl FnOnce(&StoredRun) -> Result<Contents<D>, DurableError> + Send,
    ) -> Result<Opened<D>, DurableError> {
        let (stored, blobs) = loaded(&**self.store(), Arc::clone(id)).await?;
        let drift = Drift::of(&stored, &plan, &definition.0, self.migrate.as_deref())?;
        let contents = match &drift {
            None => read(&stored)?,
            Some(drift) => drift.read(|| read(&stored))?,
        };
        let replayed = contents.replay(Arc::clone(&plan));
        let mut replay = match &drift {
            None => replayed?,
            Some(drift) => replayed.map_err(|error| drift.explain(error))?,
        };
        let mut place = LogPlace {
            last_record: stored.info.last_record,
            next_machine: 1,
            snapshot: stored.snapshot.len() as u64,
            definition: Definition::redefined(&stored),
            // Those that came with it hold however far it was raised.
            limits: replay.limits().map(|raised| raised.and(self.given)),
            blobs,
        };
        let contradicts = |reason| DurableError::Corrupt {
            run: Arc::clone(id),
            location: "its log".to_owned(),
            reason,
        };
        if let (Some(claim), Some(_)) = (claim, &drift) {
            // From here on it is a run of the pipeline as it is now.
            place.definition = Some(Arc::clone(&definition.1));
            let snapshot = replay.into_snapshot().map_err(contradicts)?;
            let journal = self.journal(claim.clone(), place);
            // What could not be written is found out with what is written behind it.
            drop(journal.snapshot(&snapshot, [])?);
            place = journal.place();
            replay = Replay::new(plan, snapshot).map_err(contradicts)?;
        }
        let Some(claim) = claim else {
            let finish = replay.into_finish();
            let finish = finish.ok_or_else(|| contradicts("it has ended, and its log goes on".to_owned()))?;
            return Ok(Opened::Ended(finish, place, stored.info.summary.updated));
        };
        let told = replay.settle().map_err(contradicts)?;
        let (asked, questions) = (replay.asked(), Questions::of(Arc::clone(id), &replay));
        let at = replay.now();
        let limits = place.limits.map(|limits| !limits.is_unlimited());
        let options = Options {
            limits: limits.unwrap_or(options.limits),
            ..options
        };
        let gone_on = replay.go_on(Host::Another, Some(options), at, now);
        let gone_on = gone_on.map_err(contradicts)?;
        match gone_on {
            GoingOn::Ended(finish) => {
                let journal = self.journal(claim.clone(), place);
                journal.append(&told)?;
                let pipeline = &stored.info.pipeline;
                self.end(&journal, pipeline, &finish, now)?.await?;
                Ok(Opened::Ended(finish, journal.place(), now))
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
                let before = &stored.info.summary;
                if before.status != RunStatus::Running {
                    journal.along(Change::Summary(Summary {
                        status: RunStatus::Running,
                        updated: now,
                        due: None,
                        message: None,
                        ..before.clone()
                    }));
                }
                let posted = self.posted(id, claim).await?;
                let used = machines.iter().map(|one| one.machine.usage()).sum();
                let limits = journal.limits();
                Ok(Opened::Found(Box::new(Found {
                    journal,
                    machines,
                    asked,
                    used,
                    limits,
                    at,
                    questions,
                    posted,
                })))
            }
        }
    }

    /// What was left for a run.
    async fn posted(&self, id: &Arc<str>, claim: &Claim) -> Result<Vec<Message>, DurableError> {
        let mut messages = self.store().messages(claim.worker).await?;
        messages.retain(|message| message.run == *id);
        for message in &messages {
            Posted::from_bytes(&message.body).map_err(|reason| DurableError::Corrupt {
                run: Arc::clone(id),
                location: format!("message {}", message.id.0),
                reason,
            })?;
        }
        Ok(messages)
    }
}

/// A run that waits for somebody to begin it.
fn queued<C>(
    id: Arc<str>,
    plan: &Plan<C>,
    definition: &Known,
    first: FirstSnapshot,
    now: WallTime,
) -> NewRun {
    NewRun {
        id,
        pipeline: Arc::clone(plan.name()),
        definition: Arc::clone(&definition.1),
        created: now,
        forked_from: None,
        status: RunStatus::Queued,
        snapshot: first.body,
        blobs: first.blobs,
    }
}

fn end<D: Recorded>(
    journal: &Journal<D>,
    finish: &Finish<D>,
    purging: &Purging,
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
    if purging.deletes(status) {
        return Ok(journal.write([Change::Delete]));
    }
    let changes = || {
        [
            Change::Summary(summary(status, finish, message.clone(), None, now)),
            Change::Release,
        ]
    };
    let long = finish.kept.is_none() && journal.wants_snapshot();
    if long || journal.durability() == Durability::Exit {
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
            .field("purging", &self.purging)
            .finish_non_exhaustive()
    }
}
