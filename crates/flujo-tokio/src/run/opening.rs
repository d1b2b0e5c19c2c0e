//! Runs that are kept in a store, on this host.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flujo_core::context::{MergeRules, with_merge_rules};
use flujo_core::machine::LaneId;
use flujo_core::plan::Plan;
use flujo_core::store::WallTime;
use flujo_core::value::{TypeCodec, with_codecs};
use flujo_durable::{Contents, DurableError, Start};
use flujo_store::runs::{self, Opening};
use tokio::time::Instant;

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
    let now = wall();
    let opening = Opening { id, plan, start, now };
    let (codecs, rules) = (&keeping.codecs, keeping.rules.clone());
    let read = |stored: &_| {
        with_codecs(codecs, || {
            with_merge_rules(rules, || Contents::<Tokio>::of(stored))
        })
    };
    keeping.runs.open(opening, read).await
}

/// A found run's machines, as if they had stood still here.
pub(super) fn parked(found: &mut Found) -> Option<Parked> {
    let now = Instant::now();
    let mut waiting: Vec<Waiting> = Vec::new();
    for restored in std::mem::take(&mut found.machines) {
        let around = restored.parent.and_then(|(parent, _)| {
            let around = waiting.iter().find(|one| one.number == parent);
            around.map(|around| around.parked.outputs.for_lane())
        });
        let mut outputs = around.unwrap_or_default();
        outputs.take_in(restored.machine.history(), restored.machine.plan());
        let mut recorder = Recorder::new(Arc::clone(&found.journal), restored.number);
        let asked = found.asked.iter().find(|(number, _)| *number == restored.number);
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

/// A machine that is to be put to the one around it.
struct Waiting {
    number: u32,
    parent: Option<(u32, LaneId)>,
    parked: Parked,
}

impl std::fmt::Debug for Keeping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeping")
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}
