//! A run that stands still, between two event loops. Whoever holds its result holds it; when nobody does any more, it
//! goes.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use flujo_core::config::Twins;
use flujo_core::machine::{Kept, Time};
use flujo_core::usage::{Usage, UsageLimits, UsageMeter};
use pyo3::PyTraverseError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::{PyDict, PyList};

use super::collected;
use super::domain::{Finish, Python3};
use super::keeping::LogOf;
use super::names;
use super::parked::{self, Parked, Wake};
use super::planning::PlanWithSteps;
use super::record::definition_of;
use super::shared::Shared;

/// What is kept of a run from its first pause on.
#[pyclass(module = "flujo._native", frozen, weakref)]
pub(crate) struct PausedRun {
    pub(crate) plan: Arc<PlanWithSteps>,
    pub(crate) run_id: Py<PyAny>,
    pub(crate) meter: Option<Arc<dyn UsageMeter>>,
    pub(crate) twins: Twins,
    /// When the run began, in its own time.
    pub(crate) began: Time,
    state: Mutex<State>,
}

/// What a run that was stopped goes on from.
pub(crate) struct Stopped {
    kept: Box<Kept<Python3>>,
    /// What it had used when it stopped.
    pub(crate) used: Usage,
    status: &'static str,
}

struct State {
    stage: Stage,
    /// The run's own time when it stopped.
    stopped: Time,
    /// The questions that have been answered.
    answered: HashSet<String>,
    /// When it last went on after it was stopped, and what it had used by then: that has been counted.
    counted: Option<(Time, Usage)>,
    /// Where its log is, when it is kept in a store.
    log: Option<LogOf>,
}

enum Stage {
    Parked(Box<Parked>),
    /// A limit stopped it, or it was cancelled.
    Stopped(Stopped),
    /// Being driven on.
    UnderWay,
    Over(&'static str),
}

/// What a run is resumed with.
pub(crate) struct Answers {
    /// Each question's id with what came of it.
    pub(crate) wakes: Vec<(String, Wake)>,
    pub(crate) cancel: bool,
}

impl Answers {
    /// Tells the garbage collector of what is held.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.wakes.iter().try_for_each(|(_, wake)| wake.tell(visit))
    }
}

impl PausedRun {
    pub(crate) fn new(
        shared: &Shared,
        run_id: Py<PyAny>,
        began: Time,
        stopped: Time,
        parked: Box<Parked>,
    ) -> Self {
        Self::at(shared, run_id, (began, stopped), Stage::Parked(parked))
    }

    /// A run that a limit stopped, or that was cancelled.
    pub(crate) fn stopped_by(
        shared: &Shared,
        run_id: Py<PyAny>,
        times: (Time, Time),
        finish: &Finish,
        kept: Box<Kept<Python3>>,
    ) -> Self {
        Self::at(shared, run_id, times, Stage::stopped(finish, kept))
    }

    fn at(shared: &Shared, run_id: Py<PyAny>, (began, stopped): (Time, Time), stage: Stage) -> Self {
        Self {
            plan: Arc::clone(&shared.plan),
            run_id,
            meter: shared.meter.clone(),
            twins: shared.twins.now(),
            began,
            state: Mutex::new(State {
                stage,
                stopped,
                answered: HashSet::new(),
                counted: None,
                log: shared.journal.as_deref().map(LogOf::of),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run's own time when it stopped.
    pub(crate) fn stopped(&self) -> Time {
        self.lock().stopped
    }

    /// Where its log is, when it is kept in a store.
    pub(crate) fn log(&self) -> Option<LogOf> {
        self.lock().log.clone()
    }

    /// It was read from a store, or its log goes on from there.
    pub(crate) fn set_log(&self, log: LogOf) {
        self.lock().log = Some(log);
    }

    /// The machine, ready to be driven on with the answers. Nothing has changed when it can't be.
    pub(crate) fn take(&self, py: Python<'_>, answers: Answers) -> PyResult<Box<Parked>> {
        let mut state = self.lock();
        let State { stage, answered, .. } = &mut *state;
        let Stage::Parked(parked) = stage else {
            let status = stage.name();
            drop(state);
            return Err(refused(
                py,
                &format!("the run is {status}: it waits for no answer now"),
            ));
        };
        let open: Vec<(String, Vec<_>)> = parked
            .open()
            .into_iter()
            .map(|open| (open.id, open.way))
            .collect();
        let mut wakes = Vec::with_capacity(answers.wakes.len());
        for (id, wake) in answers.wakes {
            let Some((_, way)) = open.iter().find(|(known, _)| *known == id) else {
                drop(state);
                return Err(refused(py, &format!("the pause {id:?} is no longer open")));
            };
            wakes.push((id, way, wake));
        }
        for (id, way, wake) in wakes {
            parked.wake(way, wake);
            answered.insert(id);
        }
        if answers.cancel {
            parked.wake = Wake::Cancel;
        }
        match std::mem::replace(stage, Stage::UnderWay) {
            Stage::Parked(parked) => Ok(parked),
            other => {
                *stage = other;
                drop(state);
                Err(refused(py, "the run is being resumed already"))
            }
        }
    }

    /// What it was stopped at, to be driven on with other limits. Nothing has changed when it can't be.
    pub(crate) fn take_stopped(
        &self,
        py: Python<'_>,
        limits: &UsageLimits,
    ) -> PyResult<(Box<Kept<Python3>>, Usage)> {
        let mut state = self.lock();
        let why = match &state.stage {
            Stage::Stopped(stopped) if limits.passed_by(stopped.used).is_none() => None,
            Stage::Stopped(Stopped { used, .. }) => Some(format!(
                "the run has used {} and {} tokens in {} requests already, which is more than its limits allow: raise \
                 them further",
                used.cost, used.tokens, used.requests
            )),
            other => Some(format!(
                "the run is {}: there is nothing to go on from",
                other.name()
            )),
        };
        if let Some(why) = why {
            drop(state);
            return Err(refused(py, &why));
        }
        match std::mem::replace(&mut state.stage, Stage::UnderWay) {
            Stage::Stopped(Stopped { kept, used, .. }) => {
                state.counted = Some((state.stopped, used));
                Ok((kept, used))
            }
            other => {
                state.stage = other;
                drop(state);
                Err(refused(py, "the run is being resumed already"))
            }
        }
    }

    /// When it last went on after it was stopped, and what it had used by then.
    pub(crate) fn counted(&self) -> Option<(Time, Usage)> {
        self.lock().counted
    }

    /// It was stopped again, or for the first time after a pause.
    pub(crate) fn stop(&self, finish: &Finish, kept: Box<Kept<Python3>>, stopped: Time, log: Option<LogOf>) {
        let mut state = self.lock();
        state.log = log;
        state.stopped = stopped;
        state.stage = Stage::stopped(finish, kept);
    }

    /// It stands still again.
    pub(crate) fn park(&self, parked: Box<Parked>, stopped: Time, log: Option<LogOf>) {
        let mut state = self.lock();
        state.log = log;
        for open in parked.open() {
            // An answer that was not taken leaves its question open.
            state.answered.remove(&open.id);
        }
        state.stopped = stopped;
        state.stage = Stage::Parked(parked);
    }

    /// It has ended.
    pub(crate) fn end(&self, status: &'static str) {
        self.lock().stage = Stage::Over(status);
    }
}

impl Stage {
    fn stopped(finish: &Finish, kept: Box<Kept<Python3>>) -> Self {
        Self::Stopped(Stopped {
            kept,
            used: finish.usage,
            status: finish.outcome.name(),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Parked(_) => "paused",
            Self::Stopped(stopped) => stopped.status,
            Self::UnderWay => "running",
            Self::Over(status) => status,
        }
    }
}

fn refused(py: Python<'_>, message: &str) -> PyErr {
    match names::resume_error(py).and_then(|class| class.call1((message,))) {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

#[pymethods]
impl PausedRun {
    /// The number of its last record in the store; None where there is none.
    #[getter]
    fn last_record(&self) -> Option<u64> {
        self.log().map(|log| log.place.last_record)
    }

    #[getter]
    fn run_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyAny> {
        self.run_id.bind(py).clone()
    }

    /// Whether it can go on although it was stopped.
    #[getter]
    fn is_stopped(&self) -> bool {
        matches!(self.lock().stage, Stage::Stopped(_))
    }

    /// `paused`, `running`, or how it ended.
    #[getter]
    fn status(&self) -> &'static str {
        self.lock().stage.name()
    }

    /// Name and digest of the pipeline that it runs.
    #[getter]
    fn fingerprint(&self) -> String {
        self.plan.plan.fingerprint().to_string()
    }

    /// The questions that wait, each as a pair of its `Pause` and its step, in declared order.
    fn open<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let state = self.lock();
        let Stage::Parked(parked) = &state.stage else {
            return Ok(PyList::empty(py));
        };
        let open: Vec<_> = parked
            .open()
            .into_iter()
            .map(|open| (open.id, open.question.clone()))
            .collect();
        drop(state);
        let pairs = PyList::empty(py);
        for (id, question) in open {
            let step = definition_of(&self.plan, question.node).map(|step| step.bind(py).clone());
            pairs.append((parked::shown(py, &self.plan, &id, &question)?, step))?;
        }
        Ok(pairs)
    }

    /// Whether this question has been answered.
    fn was_answered(&self, id: &str) -> bool {
        self.lock().answered.contains(id)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.run_id)?;
        match self.state.try_lock().as_deref() {
            Ok(State {
                stage: Stage::Parked(parked),
                ..
            }) => parked.tell(&visit),
            Ok(State {
                stage: Stage::Stopped(stopped),
                ..
            }) => collected::kept(&stopped.kept, &visit),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let stage = self
            .state
            .try_lock()
            .map(|mut state| std::mem::replace(&mut state.stage, Stage::Over("collected")));
        drop(stage);
    }
}

/// The paused runs of one runner: those that were given an id are kept, the others are known as long as somebody holds
/// them.
#[derive(Default)]
pub(crate) struct PausedRuns {
    maps: OnceLock<(Py<PyDict>, Py<PyAny>)>,
}

impl PausedRuns {
    fn maps<'py>(&self, py: Python<'py>) -> PyResult<(&Bound<'py, PyDict>, &Bound<'py, PyAny>)> {
        if self.maps.get().is_none() {
            let seen = py.import("weakref")?.call_method0("WeakValueDictionary")?;
            let _ = self.maps.set((PyDict::new(py).unbind(), seen.unbind()));
        }
        match self.maps.get() {
            Some((kept, seen)) => Ok((kept.bind(py), seen.bind(py))),
            None => Err(refused(py, "the paused runs can't be kept")),
        }
    }

    pub(crate) fn add(&self, run: &Bound<'_, PausedRun>, keep: bool) -> PyResult<()> {
        let py = run.py();
        let (kept, seen) = self.maps(py)?;
        let id = run.get().run_id.bind(py);
        if keep {
            kept.set_item(id, run)?;
        }
        seen.set_item(id, run)
    }

    pub(crate) fn find<'py>(
        &self,
        py: Python<'py>,
        run_id: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.maps.get().is_none() {
            return Ok(py.None().into_bound(py));
        }
        let (_, seen) = self.maps(py)?;
        seen.call_method1(intern!(py, "get"), (run_id,))
    }

    /// Lets go of a run that has ended.
    pub(crate) fn release(&self, run: &Bound<'_, PausedRun>) -> PyResult<()> {
        let py = run.py();
        let (kept, _) = self.maps(py)?;
        let id = run.get().run_id.bind(py);
        match kept.get_item(id)? {
            Some(known) if known.is(run) => kept.del_item(id),
            _ => Ok(()),
        }
    }

    /// Lets go of a run that isn't what is held of it any more: whoever looks for it doesn't find this.
    pub(crate) fn forget(&self, run: &Bound<'_, PausedRun>) -> PyResult<()> {
        self.release(run)?;
        let py = run.py();
        let (_, seen) = self.maps(py)?;
        let id = run.get().run_id.bind(py);
        if seen.call_method1(intern!(py, "get"), (id,))?.is(run) {
            seen.del_item(id)?;
        }
        Ok(())
    }

    /// Lets go of all.
    pub(crate) fn clear(&self, py: Python<'_>) {
        if let Some((kept, _)) = self.maps.get() {
            kept.bind(py).clear();
        }
    }

    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.maps.get() {
            Some((kept, seen)) => {
                visit.call(kept)?;
                visit.call(seen)
            }
            None => Ok(()),
        }
    }
}
