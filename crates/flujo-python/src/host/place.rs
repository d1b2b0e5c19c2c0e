//! Where a run is: what `flujo.current_step()` tells user code.

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use flujo_core::machine::{CallId, LanePlace, Round};
use flujo_core::plan::{Kind, NodeId};
use flujo_core::telemetry::{SpanContext, SpanId, SpanIds};
use flujo_durable::Once;
use pyo3::PyTraverseError;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::PyDict;

use super::domain::{Call, Machine, Plan};
use super::names;
use super::once::{Parts, StepParts};
use super::shared::Shared;
use super::steps::Outputs;
use crate::object::Object;

/// The step a run or lane is at. Kept up to date by its driver; read by user code.
pub(crate) struct PlaceState {
    shared: Arc<Shared>,
    lane: Option<Arc<LanePlace>>,
    node: AtomicU32,
    attempt: AtomicU32,
    /// The call that is under way, and the number of its machine in the log of a run that is kept.
    call: AtomicU64,
    machine: AtomicU32,
    /// The iterations of loops and visits of states around it.
    round: Mutex<Option<Arc<Round>>>,
    /// Whether there are any: a lock costs as much as the rest of what is noted for a step.
    in_round: AtomicBool,
    outputs: Mutex<Outputs>,
    /// What the step does once.
    parts: Mutex<Option<Parts>>,
    /// Derives the ids of spans, where a runner's exporter gets them.
    ids: OnceLock<SpanIds>,
    /// The current span; 0 before there is one.
    span: AtomicU64,
}

impl PlaceState {
    pub(crate) fn new(shared: &Arc<Shared>, lane: Option<&Arc<LanePlace>>, outputs: Outputs) -> Self {
        Self {
            shared: Arc::clone(shared),
            lane: lane.cloned(),
            node: AtomicU32::new(0),
            attempt: AtomicU32::new(0),
            call: AtomicU64::new(0),
            machine: AtomicU32::new(0),
            round: Mutex::default(),
            in_round: AtomicBool::new(false),
            outputs: Mutex::new(outputs),
            parts: Mutex::default(),
            ids: OnceLock::new(),
            span: AtomicU64::new(0),
        }
    }

    /// What is known of earlier steps' outputs.
    pub(super) fn outputs(&self) -> MutexGuard<'_, Outputs> {
        self.outputs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outputs of earlier steps by name.
    pub(crate) fn steps<'py>(&self, py: Python<'py>) -> Bound<'py, PyDict> {
        match self.outputs().by_name() {
            Some(outputs) => outputs.bind(py).clone(),
            None => PyDict::new(py),
        }
    }

    /// Tells the garbage collector of the outputs, on behalf of the driver, whose they are.
    pub(super) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(outputs) = self.outputs.try_lock()
            && let Some(by_name) = outputs.by_name()
        {
            visit.call(by_name)?;
        }
        match self.parts.try_lock().as_deref() {
            Ok(Some(parts)) => parts.tell(visit),
            _ => Ok(()),
        }
    }

    /// What the runs and lanes of one run share.
    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The number of its machine in the log of a run that is kept.
    pub(super) fn machine(&self) -> u32 {
        self.machine.load(Ordering::Relaxed)
    }

    pub(super) fn is_machine(&self, number: u32) {
        self.machine.store(number, Ordering::Relaxed);
    }

    /// Takes in what a step did once before this process.
    pub(super) fn did_once(&self, py: Python<'_>, once: Once<Object>) -> PyResult<()> {
        let parts = Parts::recorded(py, once)?;
        let before = self.parts().replace(parts);
        drop(before);
        Ok(())
    }

    /// What the step at this path, where the machine is now, has done once.
    pub(super) fn once(&self, py: Python<'_>, machine: &Machine, step: &str) -> Option<Once<Object>> {
        let iterations = machine.round().map(|round| round.indices()).unwrap_or_default();
        self.latest_once(py).filter(|once| once.is_of(step, &iterations))
    }

    /// What the latest step has done once.
    pub(super) fn latest_once(&self, py: Python<'_>) -> Option<Once<Object>> {
        let parts = self.parts().as_ref().map(|parts| parts.clone_ref(py))?;
        Some(parts.to_once(py))
    }

    fn parts(&self) -> MutexGuard<'_, Option<Parts>> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the step that is under way does once; what another one did is forgotten.
    fn step_parts(self: &Arc<Self>, py: Python<'_>) -> StepParts {
        let call = CallId(self.call.load(Ordering::Relaxed));
        let step = &self.shared.plan.plan.node(self.node()).path;
        let iterations = self.rounds();
        let fresh = Parts::new(py, Arc::clone(step), iterations.clone());
        let mut parts = self.parts();
        let (mine, gone) = match &*parts {
            Some(known) if known.are_of(step, &iterations) => {
                (StepParts::of(py, self, call, known), Some(fresh))
            }
            _ => (StepParts::of(py, self, call, &fresh), parts.replace(fresh)),
        };
        drop(parts);
        // Values may run code when they go.
        drop(gone);
        mine
    }

    /// The run or lane is over: nobody reads outputs here any more.
    pub(super) fn forget_outputs(&self) {
        *self.outputs() = Outputs::default();
        let parts = self.parts().take();
        drop(parts);
    }

    /// Spans are recorded, with ids of these.
    pub(super) fn traces(&self, ids: SpanIds) {
        let _ = self.ids.set(ids);
    }

    /// From now on this span is current.
    #[inline]
    pub(super) fn is_in(&self, span: SpanId) {
        self.span
            .store(u64::from_be_bytes(span.to_bytes()), Ordering::Relaxed);
    }

    /// The current span, of a run that a runner's exporter gets the spans of.
    pub(super) fn span(&self) -> Option<SpanContext> {
        let ids = self.ids.get()?;
        let span = SpanId::from_bytes(self.span.load(Ordering::Relaxed).to_be_bytes());
        Some(ids.context(span.unwrap_or(ids.own())))
    }

    /// The current span as other processes are told of it.
    pub(crate) fn traceparent(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.shared.traced.traceparent(py, self)
    }

    #[inline]
    pub(crate) fn at(&self, machine: &Machine, call: &Call) {
        self.node.store(call.node.0, Ordering::Relaxed);
        self.attempt.store(call.attempt, Ordering::Relaxed);
        self.call.store(call.call.0, Ordering::Relaxed);
        let round = machine.round();
        if round.is_some() || self.in_round.load(Ordering::Relaxed) {
            self.in_round.store(round.is_some(), Ordering::Relaxed);
            *self.round.lock().unwrap_or_else(PoisonError::into_inner) = round.cloned();
        }
    }

    /// The iterations of loops and visits of states around the step, from 1, outermost first.
    fn rounds(&self) -> Vec<u32> {
        let round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        round.as_ref().map(|round| round.indices()).unwrap_or_default()
    }

    fn node(&self) -> NodeId {
        NodeId(self.node.load(Ordering::Relaxed))
    }

    fn lane_path(&self) -> String {
        lane_path(&self.shared.plan.plan, self.lane.as_ref())
    }
}

/// `fan[a]/items[3]`, outermost first; empty outside lanes.
pub(crate) fn lane_path(plan: &Plan, lane: Option<&Arc<LanePlace>>) -> String {
    lane.map(|lane| lane.name(plan)).unwrap_or_default()
}

/// The branch's name, or the item's number.
pub(crate) fn branch_name(plan: &Plan, lane: &LanePlace) -> String {
    let branch = match &plan.node(lane.node).kind {
        Kind::Parallel(parallel) => parallel.branches.get(lane.index as usize),
        _ => None,
    };
    branch.map_or_else(|| lane.index.to_string(), |(name, _)| name.to_string())
}

/// The step that is being worked on, as seen from inside it.
#[pyclass(module = "flujo._native", frozen, weakref)]
pub(crate) struct Place {
    pub(crate) state: Arc<PlaceState>,
}

#[pymethods]
impl Place {
    /// The run's id.
    #[getter]
    fn run_id<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.state.shared.run_id(py)
    }

    /// The step's name.
    #[getter]
    fn step(&self) -> &str {
        &self.state.shared.plan.plan.node(self.state.node()).name
    }

    /// The step's place in the pipeline: the names of the steps around it and its own, joined by `/`.
    #[getter]
    fn path(&self) -> &str {
        &self.state.shared.plan.plan.node(self.state.node()).path
    }

    /// The lane, `fan[a]/items[3]`, empty outside of parallel branches and map items.
    #[getter]
    fn lane(&self) -> String {
        self.state.lane_path()
    }

    /// The attempt, from 1; 0 outside attempts.
    #[getter]
    fn attempt(&self) -> u32 {
        self.state.attempt.load(Ordering::Relaxed)
    }

    /// The iteration of the innermost loop around the step, or the number of the visit of its state, from 1; 0 outside of
    /// both.
    #[getter]
    fn iteration(&self) -> u32 {
        self.state.rounds().last().copied().unwrap_or(0)
    }

    /// The current span, in the form in which other processes are told of it (the value of a W3C `traceparent` header);
    /// None where nobody traces the run.
    #[getter]
    fn traceparent(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.state.traceparent(py)
    }

    /// A part of the step's work under a name, as a coroutine: it is done unless the step has done it before.
    fn once<'py>(&self, py: Python<'py>, key: &str, work: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        if !work.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "once takes a function, not {}: give it the function itself, without calling it",
                work.get_type().name()?
            )));
        }
        names::once(py)?.call1((self.parts(py), key, work))
    }

    /// What the step does once, by name.
    #[getter]
    fn parts(&self, py: Python<'_>) -> StepParts {
        self.state.step_parts(py)
    }

    /// Whoever listens to the run; None where nobody does.
    #[getter]
    fn listener<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let listener = self.state.shared.listener.as_ref();
        listener.map(|listener| listener.bind(py).clone())
    }

    /// Where the run's plain functions are run.
    #[getter]
    fn workers<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.state.shared.workers(py).clone()
    }

    /// The same for every attempt of this step in this run, and after a crash: a service that gets it can tell a
    /// repeated request from a new one. Each iteration of a loop has its own, and each visit of a state.
    #[getter]
    fn idempotency_key(&self, py: Python<'_>) -> PyResult<String> {
        let mut key = format!(
            "{}:{}:{}",
            self.state.shared.run_id(py)?,
            self.path(),
            self.lane()
        );
        for (place, iteration) in self.state.rounds().into_iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(key, "{}{iteration}", if place == 0 { ':' } else { '.' });
        }
        Ok(key)
    }
}
