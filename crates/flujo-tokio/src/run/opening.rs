//! Runs that are kept in a store: how they are put there or found there, and how their end is written.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flujo_core::context::{MergeRules, with_merge_rules};
use flujo_core::machine::{Finish, LaneId, Outcome, Stop, Time};
use flujo_core::plan::Plan;
use flujo_core::store::{Change, Claim, Created, NewRun, RunStatus, StoreError, Summary, WallTime};
use flujo_core::usage::Usage;
use flujo_core::value::{TypeCodec, with_codecs};
use flujo_durable::{
    Contents, Definition, Durability, DurableError, GoingOn, Host, Journal, LogPlace, Restored, Snapshot,
    Start, Written, first_snapshot,
};
use flujo_store::WorkerHandle;
use tokio::time::Instant;

use super::parked::{Parked, ParkedLanes, Wake};
use super::recorder::Recorder;
use super::spans::Observed;
use crate::Handler;
use crate::domain::Tokio;

/// How a runner keeps its runs.
pub(crate) struct Keeping {
    pub(crate) worker: WorkerHandle,
    pub(crate) durability: Durability,
    /// By what objects are read again.
    pub(crate) codecs: Vec<&'static TypeCodec>,
    /// How concurrent writes to the context combine.
    pub(crate) rules: Option<Arc<MergeRules>>,
}

/// A run that is in the store.
pub(super) enum Opened {
    /// It was put there, and begins.
    Begun(Arc<Journal<Tokio>>),
    /// It was found there, and goes on.
    Found(Box<Found>),
    /// It was found there, and has ended.
    Ended(Box<Finish<Tokio>>, LogPlace),
}

/// A run that goes on where its last record was written.
pub(super) struct Found {
    pub(super) journal: Arc<Journal<Tokio>>,
    machines: Vec<Restored<Tokio>>,
    /// When questions were asked.
    asked: Vec<(u32, WallTime)>,
    /// What it has used.
    pub(super) used: Usage,
    /// Its own time.
    pub(super) at: Time,
}

pub(super) fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::try_from(since.as_millis()).unwrap_or(WallTime::MAX)
}

/// Puts a run into the store, or finds the one of its name there.
pub(super) async fn open(
    keeping: Arc<Keeping>,
    id: Arc<str>,
    plan: Arc<Plan<Handler>>,
    start: Option<Start<Tokio>>,
) -> Result<Opened, DurableError> {
    let definition = Definition::of(&plan);
    if let Some(start) = start {
        let snapshot = first_snapshot(&Snapshot::Start(start))?;
        let worker = keeping.worker.id().await?;
        let size = snapshot.len() as u64;
        let run = NewRun {
            id: Arc::clone(&id),
            pipeline: Arc::clone(plan.name()),
            definition: definition.to_bytes(),
            created: wall(),
            forked_from: None,
            status: RunStatus::Running,
            snapshot,
            blobs: Vec::new(),
        };
        let created = keeping.worker.store().create(run, Some(worker)).await?;
        if let Created::New(Some(claim)) = created {
            let place = LogPlace {
                last_record: 0,
                next_machine: 1,
                snapshot: size,
            };
            return Ok(Opened::Begun(keeping.journal(claim, place)));
        }
    }
    find(&keeping, id, plan, &definition).await
}

async fn find(
    keeping: &Keeping,
    id: Arc<str>,
    plan: Arc<Plan<Handler>>,
    definition: &Definition,
) -> Result<Opened, DurableError> {
    let store = Arc::clone(keeping.worker.store());
    let info = store.info(Arc::clone(&id)).await?;
    let info = info.ok_or_else(|| StoreError::UnknownRun {
        run: Arc::clone(&id),
        place: store.place(),
    })?;
    let claim = if info.summary.status.has_ended() {
        None
    } else {
        Some(keeping.worker.claim(Arc::clone(&id)).await?)
    };
    let found = load(keeping, &id, plan, definition, claim.as_ref()).await;
    if let (Err(_), Some(claim)) = (&found, claim) {
        // What can't go on here is free for others; whether that is written makes no difference to the error.
        let _ = store.write(&claim, vec![Change::Release]).await;
    }
    found
}

async fn load(
    keeping: &Keeping,
    id: &Arc<str>,
    plan: Arc<Plan<Handler>>,
    definition: &Definition,
    claim: Option<&Claim>,
) -> Result<Opened, DurableError> {
    let store = keeping.worker.store();
    let stored = store.load(Arc::clone(id)).await?;
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
    let rules = keeping.rules.clone();
    let contents = with_codecs(&keeping.codecs, || {
        with_merge_rules(rules, || Contents::<Tokio>::of(&stored))
    })?;
    let asked = contents.asked();
    let mut replay = contents.replay(plan)?;
    let contradicts = |reason| DurableError::Corrupt {
        run: Arc::clone(id),
        location: "its log".to_owned(),
        reason,
    };
    let place = LogPlace {
        last_record: stored.info.last_record,
        next_machine: 1,
        snapshot: stored.snapshot.len() as u64,
    };
    let Some(claim) = claim else {
        let finish = replay.into_finish();
        return match finish {
            Some(finish) => Ok(Opened::Ended(finish, place)),
            None => Err(contradicts("it has ended, and its log goes on".to_owned())),
        };
    };
    let told = replay.settle().map_err(contradicts)?;
    let at = replay.now();
    match replay.go_on(Host::Another, at).map_err(contradicts)? {
        GoingOn::Ended(finish) => {
            let journal = keeping.journal(claim.clone(), place);
            journal.append(&told)?;
            end(&journal, &finish)?.await?;
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
            let journal = keeping.journal(claim.clone(), place);
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

impl Keeping {
    pub(super) fn journal(&self, claim: Claim, place: LogPlace) -> Arc<Journal<Tokio>> {
        let store = Arc::clone(self.worker.store());
        Arc::new(Journal::new(store, claim, self.durability, place))
    }
}

impl Found {
    /// Its machines, as if they had stood still here.
    pub(super) fn parked(&mut self) -> Option<Parked> {
        let now = Instant::now();
        let mut waiting: Vec<Waiting> = Vec::new();
        for restored in std::mem::take(&mut self.machines) {
            let around = restored.parent.and_then(|(parent, _)| {
                let around = waiting.iter().find(|one| one.number == parent);
                around.map(|around| around.parked.outputs.for_lane())
            });
            let mut outputs = around.unwrap_or_default();
            outputs.take_in(restored.machine.history(), restored.machine.plan());
            let mut recorder = Recorder::new(Arc::clone(&self.journal), restored.number);
            let asked = self.asked.iter().find(|(number, _)| *number == restored.number);
            recorder.asked = asked.and_then(|(_, at)| {
                let ago = u64::try_from(wall().saturating_sub(*at)).unwrap_or_default();
                now.checked_sub(Duration::from_millis(ago))
            });
            let mut machine = Observed::from(restored.machine);
            machine.record(recorder);
            waiting.push(Waiting {
                number: restored.number,
                parent: restored.parent,
                parked: Parked {
                    machine,
                    outputs,
                    question: None,
                    lanes: ParkedLanes::default(),
                    wake: Some(Wake::Below),
                },
            });
        }
        // Lanes stand behind what is around them.
        while let Some(lane) = waiting.pop() {
            let Some((parent, id)) = lane.parent else {
                return Some(lane.parked);
            };
            if let Some(around) = waiting.iter_mut().find(|one| one.number == parent) {
                around.parked.lanes.insert(id, Box::new(lane.parked));
            }
        }
        None
    }
}

/// A machine that is to be put to the one around it.
struct Waiting {
    number: u32,
    parent: Option<(u32, LaneId)>,
    parked: Parked,
}

/// Writes the end of a run. What can go on keeps its log, and so does what has a value in it that only the pipeline can
/// make again; of anything else the result alone is kept.
pub(super) fn end(journal: &Journal<Tokio>, finish: &Finish<Tokio>) -> Result<Written, DurableError> {
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
            Change::Summary(summary(status, finish, message.clone(), None)),
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

pub(super) fn summary(
    status: RunStatus,
    finish: &Finish<Tokio>,
    message: Option<Arc<str>>,
    due: Option<WallTime>,
) -> Summary {
    Summary {
        status,
        updated: wall(),
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
            .finish_non_exhaustive()
    }
}
