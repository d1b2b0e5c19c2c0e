//! One run: the handle that its caller holds, the driver that does what the machine asks, and the events it sends.

mod call;
mod decide;
mod driver;
mod event;
mod handle;
mod kept;
mod lanes;
mod once;
mod opening;
mod outputs;
mod parked;
mod paused;
mod recorder;
mod signal;
mod spans;
mod stopped;
mod turn;

use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use flujo_core::config::{OptimizationConfig, Part, RunTwins, Twins};
use flujo_core::context::Context;
use flujo_core::machine::{LanePlace, Machine, Round, Time};
use flujo_core::plan::{NodeId, Plan};
use flujo_core::stats::Alert;
use flujo_core::store::WallTime;
use flujo_core::telemetry::SpanContext;
use flujo_core::usage::UsageMeter;
use flujo_durable::Journal;
use flujo_store::runs::Post;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

pub(crate) use driver::House;
pub use event::{Event, EventKind};
pub use handle::{Canceller, Done, EventStream, Events, Run};
pub use kept::{KeptEvents, KeptRun};
pub(crate) use once::Onces;
pub(crate) use opening::Keeping;
pub use parked::Pause;
pub(crate) use paused::Answers;
pub use paused::{PausedRun, ResumeError};
pub(crate) use spans::Observed;
pub use stopped::StoppedRun;

use crate::Handler;
use crate::analysis::Analysed;
use crate::domain::Tokio;
use crate::runner::Running;
use crate::scope::{Place, Resources, lane_name};

/// Names a run, differently from every other run.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(Id);

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Id {
    Numbered { process: u64, serial: u64 },
    Named(Arc<str>),
}

impl RunId {
    /// A new id: a number drawn at random once per process, and a serial number.
    #[allow(clippy::new_without_default)] // each one is different
    pub fn new() -> Self {
        static PROCESS: OnceLock<u64> = OnceLock::new();
        static SERIAL: AtomicU64 = AtomicU64::new(1);
        Self(Id::Numbered {
            process: *PROCESS.get_or_init(|| RandomState::new().hash_one("process")),
            serial: SERIAL.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The id of that name.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self(Id::Named(name.into()))
    }

    /// What jitter is derived from.
    pub(crate) fn seed(&self) -> u64 {
        match &self.0 {
            Id::Numbered { process, serial } => process ^ serial.rotate_left(32),
            Id::Named(name) => BuildHasherDefault::<DefaultHasher>::default().hash_one(name),
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Id::Numbered { process, serial } => write!(f, "{process:016x}-{serial:x}"),
            Id::Named(name) => f.write_str(name),
        }
    }
}

/// What all lanes of a run share.
pub(crate) struct Shared {
    pub(crate) runner: Arc<Running>,
    pub(crate) id: RunId,
    pub(crate) analysed: Arc<Analysed>,
    pub(crate) plan: Arc<Plan<Handler>>,
    pub(crate) resources: Arc<Resources>,
    pub(crate) meter: Option<Arc<dyn UsageMeter>>,
    /// Which twin of each part the run uses; a node may have a nearer config.
    pub(crate) twins: RunTwins,
    pub(crate) events: Option<Sender<Event>>,
    /// The caller's span.
    pub(crate) parent: Option<SpanContext>,
    /// Whether somebody collects `tracing` events of runs.
    pub(crate) traced: bool,
    /// When the run began, or was resumed.
    pub(crate) origin: Instant,
    /// The run's own time then.
    pub(crate) base: Time,
    /// What is written of the run, when it is kept in a store.
    pub(crate) journal: Option<Arc<Journal<Tokio>>>,
    /// What others leave for it meanwhile.
    pub(crate) post: Option<Post>,
    /// What steps have recorded that are under way.
    pub(crate) onces: Onces,
    /// Alerts that whoever reads the events is still to be told of.
    pub(crate) alerts: Mutex<Vec<Alert>>,
}

impl Shared {
    /// The run's time now.
    pub(crate) fn now(&self) -> Time {
        let elapsed = Instant::now().saturating_duration_since(self.origin);
        let elapsed = Time::try_from(elapsed.as_nanos()).unwrap_or(Time::MAX);
        self.base.saturating_add(elapsed)
    }

    /// The time on the wall.
    pub(crate) fn wall(&self) -> WallTime {
        self.runner.wall()
    }

    /// The context of a call of user code, isolated from the one around it.
    pub(crate) fn isolated(&self, node: NodeId, context: Context) -> Context {
        let contexts = &self.runner.contexts;
        contexts.forked();
        let copies = self.contain(Part::Context, self.nearest(node), |twins| {
            !twins.is_optimized(Part::Context)
        });
        if copies {
            context.copied(contexts.copies())
        } else {
            context
        }
    }

    /// Takes in an alert of this run: whoever reads its events is told too.
    pub(crate) fn alerted(&self, alert: Option<Alert>) {
        if let Some(alert) = alert.filter(|_| self.events.is_some()) {
            self.alerts
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(alert);
        }
    }

    /// Does work that has two twins; see [`RunTwins::contain`].
    pub(crate) fn contain<R>(
        &self,
        part: Part,
        nearest: Option<&OptimizationConfig>,
        work: impl FnMut(Twins) -> R,
    ) -> R {
        let gave_way = |reason: &str| self.alerted(self.runner.gave_way(part, reason));
        self.twins.contain(part, nearest, work, gave_way)
    }

    /// The optimised twin of a part has failed; the plain one is used from now on.
    #[cold]
    pub(crate) fn gave_way(&self, part: Part, reason: &str) {
        self.twins.give_up(part);
        self.alerted(self.runner.gave_way(part, reason));
    }

    /// A step took so long.
    pub(crate) fn took(&self, node: NodeId, latency: u64) {
        let alert = self.contain(Part::Monitor, self.nearest(node), |twins| {
            self.runner.took(node, latency, twins)
        });
        self.alerted(self.runner.told(alert));
    }

    /// A cached step looked for a result.
    pub(crate) fn looked_up(&self, node: NodeId, hit: bool) {
        self.runner.caches.looked_up(hit);
        let alert = self.contain(Part::Monitor, self.nearest(node), |twins| {
            self.runner.looked_up(node, hit, twins)
        });
        self.alerted(self.runner.told(alert));
    }

    /// The config of a step that has its own.
    pub(crate) fn nearest(&self, node: NodeId) -> Option<&OptimizationConfig> {
        self.plan.node(node).optimization.as_deref()
    }

    /// Whether anybody is told what happens.
    pub(crate) fn listened_to(&self) -> bool {
        self.events.is_some() || self.traced
    }

    /// The instant of a time of the run; `None` when it lies further ahead than can be waited for.
    pub(crate) fn instant(&self, time: Time) -> Option<Instant> {
        let from_origin = time.saturating_sub(self.base);
        self.origin
            .checked_add(std::time::Duration::from_nanos(from_origin))
    }

    /// The place of a call or question of a machine.
    pub(crate) fn place_in(&self, machine: &Machine<Tokio>, node: NodeId, attempt: u32) -> Place {
        let lane = machine.lane().map(|lane| &**lane);
        self.place(node, lane, attempt, machine.round())
    }

    pub(crate) fn place(
        &self,
        node: NodeId,
        lane: Option<&LanePlace>,
        attempt: u32,
        round: Option<&Arc<Round>>,
    ) -> Place {
        let definition = self.plan.node(node);
        Place {
            run: self.id.clone(),
            step: Arc::clone(&definition.name),
            path: Arc::clone(&definition.path),
            lane: lane_name(&self.plan, lane),
            attempt,
            iterations: round.map(|round| round.indices()).unwrap_or_default(),
            span: None,
        }
    }
}
