//! Runs that are kept in a store, on this host.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use flujo_core::agent::BoxFuture;
use flujo_core::context::{MergeRules, with_merge_rules};
use flujo_core::machine::{Finish, LaneId, Options};
use flujo_core::plan::Plan;
use flujo_core::store::{Change, RunStatus, StoredRun, WallTime};
use flujo_core::value::{TypeCodec, with_codecs};
use flujo_durable::{Contents, DurableError, ForkPoint, Start, passed};
use flujo_store::runs::{self, Opening};
use tokio::time::Instant;

use super::once::Onces;
use super::parked::{Parked, ParkedLanes, Wake};
use super::recorder::Recorder;
use super::spans::Observed;
use crate::Handler;
use crate::domain::Tokio;

/// How a runner keeps its runs.
pub(crate) struct Keeping {
    pub(crate) runs: runs::Keeping,
    /// By what objects are read again.
    pub(crate) codecs: Vec<&'static TypeCodec>,
    /// How concurrent writes to the context combine.
    pub(crate) rules: Option<Arc<MergeRules>>,
}

pub(super) type Opened = runs::Opened<Tokio>;
pub(super) type Found = runs::Found<Tokio>;

/// Puts a run into the store, or finds the one of its name there.
pub(super) async fn open(
    keeping: Arc<Keeping>,
    id: Arc<str>,
    plan: Arc<Plan<Handler>>,
    (options, start): (Options, Option<Start<Tokio>>),
) -> Result<Opened, DurableError> {
    let opening = Opening {
        id,
        plan,
        start,
        options,
        now: keeping.runs.clock.now(),
    };
    keeping.runs.open(opening, |stored| keeping.read(stored)).await
}

/// Puts a run into the store that begins with what another one was, and finds it there.
pub(super) async fn fork(
    keeping: Arc<Keeping>,
    id: Arc<str>,
    plan: Arc<Plan<Handler>>,
    options: Options,
    (from, at): (Arc<str>, ForkPoint),
) -> Result<Opened, DurableError> {
    let opening = Opening {
        id: Arc::clone(&id),
        plan: Arc::clone(&plan),
        start: None,
        options,
        now: keeping.runs.clock.now(),
    };
    let read = |stored: &_| keeping.read(stored);
    keeping.runs.fork(from, &at, opening, read).await?;
    open(keeping, id, plan, (options, None)).await
}

/// Tells lists that a run goes on that stood still.
pub(super) fn goes_on(so_far: &Finish<Tokio>, now: WallTime) -> Change {
    Change::Summary(runs::summary(RunStatus::Running, so_far, None, None, now))
}

/// Gives a run back that nobody waits for any more, once it has been taken.
pub(super) fn give_back(opened: BoxFuture<'static, Result<Opened, DurableError>>) {
    flujo_store::do_anyway(async move {
        let journal = match opened.await {
            Ok(Opened::Begun(journal)) => journal,
            Ok(Opened::Found(found)) => found.journal,
            Ok(Opened::Ended(..)) | Err(_) => return,
        };
        // What could not be written is found out when somebody else wants the run.
        let _ = journal.write([Change::Release]).await;
    });
}

impl Keeping {
    fn read(&self, stored: &StoredRun) -> Result<Contents<Tokio>, DurableError> {
        with_codecs(&self.codecs, || {
            with_merge_rules(self.rules.clone(), || Contents::of(stored))
        })
    }
}

/// A found run's machines, as if they had stood still here.
pub(super) fn parked(found: &mut Found, onces: &Onces, wall: WallTime) -> Option<Parked> {
    let now = Instant::now();
    let asked: HashMap<u32, WallTime> = std::mem::take(&mut found.asked).into_iter().collect();
    let mut waiting: BTreeMap<u32, Waiting> = BTreeMap::new();
    for restored in std::mem::take(&mut found.machines) {
        if let Some(once) = restored.once {
            onces.put(restored.machine.lane(), once);
        }
        let around = restored.parent.and_then(|(parent, _)| {
            let around = waiting.get(&parent);
            around.map(|(_, around)| around.outputs.for_lane())
        });
        let mut outputs = around.unwrap_or_default();
        outputs.take_in(restored.machine.history(), restored.machine.plan());
        let mut recorder = Recorder::new(Arc::clone(&found.journal), restored.number);
        recorder.asked = asked
            .get(&restored.number)
            .and_then(|at| now.checked_sub(Duration::from_nanos(passed(*at, wall))));
        let mut machine = Observed::from(restored.machine);
        machine.record(recorder);
        let parked = Parked {
            machine,
            outputs,
            question: None,
            lanes: ParkedLanes::default(),
            wake: Some(Wake::Below),
        };
        waiting.insert(restored.number, (restored.parent, parked));
    }
    // Lanes have higher numbers than what is around them.
    while let Some((_, (parent, parked))) = waiting.pop_last() {
        let Some((parent, id)) = parent else {
            return Some(parked);
        };
        if let Some((_, around)) = waiting.get_mut(&parent) {
            around.lanes.insert(id, Box::new(parked));
        }
    }
    None
}

/// A machine that is to be put to the one around it, which started it as this lane.
type Waiting = (Option<(u32, LaneId)>, Parked);

impl std::fmt::Debug for Keeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeping")
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}
