//! Runs that are kept in a store, on this host.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flujo_core::machine::{FailureKind, LaneId, Options, Time};
use flujo_core::store::{Change, Claim, Lease, Message, RunStatus, StoreError, WallTime};
use flujo_core::usage::UsageLimits;
use flujo_durable::{
    Contents, Durability, DurableError, ForkPoint, Journal, LogPlace, Posted, Saved, Snapshot, Start, Written,
};
use flujo_store::WorkerHandle;
use flujo_store::runs::{self, Opening, Post};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyType};

use super::bell::{Awaiting, Ring};
use super::domain::{Failure, Finish, Python3};
use super::interrupt::{Interrupt, Switch};
use super::migrating::migrating;
use super::parked::{Parked, ParkedLanes, Wake};
use super::planning::PlanWithSteps;
use super::player::Played;
use super::recorded::{RecordedRun, unplayable};
use super::steps::Outputs;
use crate::cache::register_class;
use crate::store::errors::durable_error;
use crate::store::{Store, awaited, blocking};

pub(super) type Opened = runs::Opened<Python3>;
pub(super) type Found = runs::Found<Python3>;

/// How a runner keeps its runs.
pub(crate) struct Keeping {
    pub(super) runs: runs::Keeping,
}

/// Where a run's log was when the run stood still here.
#[derive(Clone)]
pub(crate) struct LogOf {
    pub(super) run: Arc<str>,
    pub(super) place: LogPlace,
    /// What it was written with; `None` of a run that was only read.
    pub(super) token: Option<u64>,
}

impl LogOf {
    pub(super) fn of(journal: &Journal<Python3>) -> Self {
        let claim = journal.claim();
        Self {
            run: Arc::clone(&claim.run),
            place: journal.place(),
            token: Some(claim.token),
        }
    }
}

pub(super) fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime::try_from(since.as_millis()).unwrap_or(WallTime::MAX)
}

/// What a value that can't be written down makes of the call that gave it, and a store that fails of the run.
pub(super) fn unsavable(py: Python<'_>, error: &DurableError) -> Failure {
    let mut failure = Failure::new(FailureKind::Host, error.name(), error.to_string()).permanent();
    failure.error = Some(durable_error(py, error, None).into_value(py).into_any().into());
    failure
}

impl Keeping {
    /// The exception for what a store says.
    pub(super) fn error(&self, py: Python<'_>, error: &DurableError) -> PyErr {
        durable_error(py, error, Some(self.runs.worker.lease().lasts))
    }

    /// The same for another version of the pipeline.
    pub(super) fn of_version(&self, version: Arc<str>) -> Self {
        Self {
            runs: self.runs.of_version(version),
        }
    }

    /// Which version of the pipeline a run goes on with, if it is there and that is known.
    pub(super) fn version_of(&self, run: Arc<str>) -> Awaiting<Result<Option<Arc<str>>, DurableError>> {
        let runs = self.runs.clone();
        Awaiting::new(async move { runs.version_of(run).await })
    }

    /// Puts a run into the store, or finds the one of its id there.
    pub(super) fn open(
        self: &Arc<Self>,
        id: Arc<str>,
        plan: &Arc<PlanWithSteps>,
        (options, start): (Options, Option<Start<Python3>>),
        migrate: Option<Py<PyAny>>,
    ) -> Awaiting<Result<Opened, DurableError>> {
        let runs = self.migrating(migrate);
        let plan = Arc::clone(&plan.plan);
        let now = wall();
        Awaiting::new(async move {
            let opening = Opening {
                id,
                plan,
                start,
                options,
                now,
            };
            runs.open(opening, Contents::<Python3>::of).await
        })
    }

    /// The same for runs that began with another pipeline.
    fn migrating(&self, migrate: Option<Py<PyAny>>) -> runs::Keeping {
        let mut runs = self.runs.clone();
        runs.migrate = migrate.map(migrating);
        runs
    }

    /// Puts another run into the store, which begins with what one was when a step of it began.
    pub(super) fn fork(
        &self,
        (from, step, iteration): (Arc<str>, Arc<str>, Option<u32>),
        id: Arc<str>,
        plan: &Arc<PlanWithSteps>,
        migrate: Option<Py<PyAny>>,
    ) -> impl Future<Output = Result<(), DurableError>> + Send + 'static {
        let runs = self.migrating(migrate);
        let plan = Arc::clone(&plan.plan);
        let now = wall();
        async move {
            let opening = Opening {
                id,
                plan,
                start: None,
                options: Options::default(),
                now,
            };
            let at = ForkPoint { step, iteration };
            runs.fork(from, &at, opening, Contents::<Python3>::of).await
        }
    }

    /// Takes a run again that stood still here, or was stopped, if nobody else has gone on with it since.
    pub(super) fn claim(&self, log: &LogOf, is_stopped: bool) -> Awaiting<Result<Claim, DurableError>> {
        let (runs, run, before) = (self.runs.clone(), Arc::clone(&log.run), log.token);
        Awaiting::new(async move {
            if is_stopped {
                runs.claim_stopped(run, before).await
            } else {
                runs.claim_unanswered(run, before).await
            }
        })
    }

    /// The log of such a run.
    pub(super) fn continued(&self, claim: Claim, log: &LogOf) -> Arc<Journal<Python3>> {
        self.runs.journal(claim, log.place.clone())
    }

    /// Hears what others leave for a run that is driven on this loop: a request to stop reaches it there.
    pub(super) fn hear(
        &self,
        run: &Arc<str>,
        event_loop: &Bound<'_, PyAny>,
        interrupt: &Arc<Interrupt>,
    ) -> PyResult<Post> {
        let interrupt = Arc::clone(interrupt);
        let switch = Bound::new(event_loop.py(), Switch { interrupt })?;
        let stops = Ring::waker(event_loop, switch.into_any())?;
        let heard = move |posted: &Posted| {
            if *posted == Posted::Cancel {
                stops.wake_by_ref();
            }
        };
        Ok(self.runs.hear(Arc::clone(run), heard))
    }
}

/// Tells lists that a run goes on that stood still.
pub(super) fn goes_on(so_far: &Finish) -> Change {
    Change::Summary(runs::summary(RunStatus::Running, so_far, None, None, wall()))
}

/// A found run's machines, as if they had stood still here.
pub(super) fn parked(py: Python<'_>, found: &mut Found, plan: &PlanWithSteps) -> PyResult<Option<Parked>> {
    let mut waiting: Vec<(Option<(u32, LaneId)>, Parked)> = Vec::new();
    for restored in std::mem::take(&mut found.machines) {
        let around = restored.parent.and_then(|(parent, _)| {
            let around = waiting.iter_mut().find(|(_, one)| one.number == parent);
            around.map(|(_, around)| around.outputs.for_lane(py))
        });
        let mut outputs: Outputs = around.unwrap_or_default();
        outputs.take_in(py, restored.machine.history(), plan)?;
        let parked = Parked {
            number: restored.number,
            machine: Box::new(restored.machine),
            question: None,
            lanes: ParkedLanes::default(),
            outputs,
            once: restored.once,
            wake: Wake::Below,
            before: None,
        };
        waiting.push((restored.parent, parked));
    }
    // Lanes stand behind what is around them.
    while let Some((parent, lane)) = waiting.pop() {
        let Some((parent, id)) = parent else {
            return Ok(Some(lane));
        };
        if let Some((_, around)) = waiting.iter_mut().find(|(_, one)| one.number == parent) {
            around.lanes.insert(id, Box::new(lane));
        }
    }
    Ok(None)
}

/// Writes that a run stands still.
pub(super) fn stands_still(
    py: Python<'_>,
    journal: &Journal<Python3>,
    parked: &Parked,
    so_far: &Finish,
    at: Time,
) -> PyResult<Result<Written, DurableError>> {
    // A log that isn't long stays, so that the run can be forked and played again.
    let anew = journal.durability() == Durability::Exit || journal.wants_snapshot();
    let mut machines = Vec::new();
    let mut due: Option<WallTime> = None;
    let mut waiting = VecDeque::from([(None, parked)]);
    while let Some((parent, parked)) = waiting.pop_front() {
        let machine = parked.number;
        if anew {
            machines.push(Saved {
                machine,
                parent,
                state: parked.machine.save(at),
                once: None,
                sleeping: None,
            });
        }
        if let Some(question) = &parked.question {
            let expires = question.question.bind(py).getattr(intern!(py, "expires_at"))?;
            if !expires.is_none() {
                let seconds: f64 = expires.call_method0(intern!(py, "timestamp"))?.extract()?;
                let since = Duration::try_from_secs_f64(seconds).unwrap_or_default();
                let expires = WallTime::try_from(since.as_millis()).unwrap_or(WallTime::MAX);
                due = Some(due.map_or(expires, |due| due.min(expires)));
            }
        }
        waiting.extend(
            parked
                .lanes
                .each()
                .map(|(lane, below)| (Some((machine, lane)), below)),
        );
    }
    let asks = parked.open().first().map(|open| {
        let node = parked.machine.plan().node(open.question.node);
        Arc::from(format!("step `{}` asks", node.name))
    });
    let changes = || {
        let summary = runs::summary(RunStatus::Paused, so_far, asks.clone(), due, wall());
        [Change::Summary(summary), Change::Release]
    };
    if !anew {
        return Ok(Ok(journal.write(changes())));
    }
    machines.sort_by_key(|saved| saved.machine);
    let snapshot = Snapshot::Machines {
        machines,
        next: journal.next_machine(),
        asked: Vec::new(),
        limits: journal.limits(),
    };
    Ok(match journal.snapshot(&snapshot, changes()) {
        Err(_) if journal.durability() != Durability::Exit => Ok(journal.write(changes())),
        written => written,
    })
}

/// Goes on writing what a run that doesn't wait for it has left behind, each time the store has taken something in.
#[pyclass(module = "flujo._native", frozen)]
pub(super) struct WriteOn {
    journal: Arc<Journal<Python3>>,
    event_loop: Py<PyAny>,
}

impl WriteOn {
    pub(super) fn begin(
        py: Python<'_>,
        journal: &Arc<Journal<Python3>>,
        event_loop: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if journal.needs_watching() {
            Self::go_on(py, journal, event_loop)?;
        }
        Ok(())
    }

    fn go_on(py: Python<'_>, journal: &Arc<Journal<Python3>>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let write_on = Self {
            journal: Arc::clone(journal),
            event_loop: event_loop.clone().unbind(),
        };
        let waker = Ring::waker(event_loop, Bound::new(py, write_on)?.into_any())?;
        journal.go_on_writing(&mut Context::from_waker(&waker));
        Ok(())
    }
}

#[pymethods]
impl WriteOn {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        Self::go_on(py, &self.journal, self.event_loop.bind(py))
    }
}

/// How a runner keeps its runs: where, and when what happens must be there.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct KeptRuns {
    pub(super) keeping: Arc<Keeping>,
    store: Py<Store>,
}

#[pymethods]
impl KeptRuns {
    #[new]
    #[pyo3(signature = (store, *, durability="strict", lease_s=10.0, classes=vec![], version=None))]
    fn new(
        store: &Bound<'_, Store>,
        durability: &str,
        lease_s: f64,
        classes: Vec<Bound<'_, PyType>>,
        version: Option<&str>,
    ) -> PyResult<Self> {
        let durability = match durability {
            "strict" => Durability::Strict,
            "async" => Durability::Async,
            "exit" => Durability::Exit,
            other => {
                return Err(PyValueError::new_err(format!(
                    "durability is {other:?}; it is \"strict\", \"async\" or \"exit\""
                )));
            }
        };
        let lasts = Duration::try_from_secs_f64(lease_s)
            .ok()
            .filter(|lasts| *lasts >= Duration::from_millis(100))
            .ok_or_else(|| {
                PyValueError::new_err(format!("lease_s is {lease_s}; it is seconds, 0.1 or more"))
            })?;
        classes.iter().try_for_each(register_class)?;
        let renewed = lasts.mul_f64(0.3);
        let kept = store.clone().unbind();
        let store = Arc::clone(store.get().run_store());
        let worker = WorkerHandle::new(store, Lease { lasts, renewed });
        let source = None;
        let runs = runs::Keeping {
            worker,
            durability,
            source,
            given: UsageLimits::default(),
            version: version.map(Arc::from),
            purging: Arc::default(),
            migrate: None,
            defined: Arc::default(),
            clock: runs::Clock::default(),
        };
        Ok(Self {
            keeping: Arc::new(Keeping { runs }),
            store: kept,
        })
    }

    /// The store.
    #[getter]
    fn store(&self, py: Python<'_>) -> Py<Store> {
        self.store.clone_ref(py)
    }

    /// A future of the loop for runs of a pipeline that wait for somebody to go on with them, the oldest first: those that
    /// were left half done, that have not begun, those with a question whose time is over, and those for which something was
    /// left.
    fn waiting(&self, event_loop: &Bound<'_, PyAny>, pipeline: &str, limit: u32) -> PyResult<Py<PyAny>> {
        let worker = &self.keeping.runs.worker;
        let waiting = worker.waiting(Some(Arc::from(pipeline)), wall(), limit);
        awaited(event_loop, waiting, move |py, runs| {
            let ids: Vec<&str> = runs.iter().map(|run| &*run.id).collect();
            Ok(PyList::new(py, ids)?.into_any())
        })
    }

    /// A future of the loop for a run that has ended, to be played again.
    fn recorded(&self, run_id: &str, event_loop: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let loaded = flujo_durable::load(Arc::clone(self.keeping.runs.store()), run_id.into());
        let id = run_id.to_owned();
        awaited(event_loop, loaded, move |py, stored| match Played::of(&stored) {
            Ok(played) => Ok(Bound::new(py, RecordedRun::new(played))?.into_any()),
            Err(why) => Err(unplayable(py, &id, &why)),
        })
    }

    /// A future of the loop for the number of what is left for a run, for whoever has it or will: an answer as JSON to one of
    /// its questions, or a request to stop.
    #[pyo3(signature = (event_loop, run_id, *, pause=None, answer=None))]
    fn post(
        &self,
        event_loop: &Bound<'_, PyAny>,
        run_id: &str,
        pause: Option<String>,
        answer: Option<&str>,
    ) -> PyResult<Py<PyAny>> {
        let posted = match answer.map(serde_json::from_str).transpose() {
            Ok(Some(value)) => Posted::Answer { pause, value },
            Ok(None) => Posted::Cancel,
            Err(error) => return Err(PyValueError::new_err(format!("an answer isn't JSON: {error}"))),
        };
        let (runs, run) = (self.keeping.runs.clone(), Arc::from(run_id));
        let post = async move { runs.post(run, &posted).await };
        awaited(event_loop, post, |py, id| Ok(id.0.into_pyobject(py)?.into_any()))
    }

    /// A future of the loop for the answers that wait for the owner of a run: their numbers, and the questions they are for.
    fn left(&self, event_loop: &Bound<'_, PyAny>, run_id: &str) -> PyResult<Py<PyAny>> {
        let (store, run): (_, Arc<str>) = (Arc::clone(self.keeping.runs.store()), Arc::from(run_id));
        let left = async move {
            let info = store.info(Arc::clone(&run)).await?;
            let Some(owner) = info.and_then(|info| info.owner) else {
                return Ok(Vec::new());
            };
            let messages = store.messages(owner.worker).await?;
            let ours = messages.into_iter().filter(|message| message.run == run);
            Ok::<_, StoreError>(ours.collect())
        };
        awaited(event_loop, left, |py, left: Vec<Message>| {
            let answers = left
                .iter()
                .filter_map(|message| match Posted::from_bytes(&message.body) {
                    Ok(Posted::Answer { pause, .. }) => Some((message.id.0, pause)),
                    _ => None,
                });
            Ok(PyList::new(py, answers.collect::<Vec<_>>())?.into_any())
        })
    }

    /// Gives back what its process owns.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        blocking(py, self.keeping.runs.worker.stop())
    }
}
