//! A run as Python sees it: a coroutine that starts when it is awaited.

mod ends;
mod opening;
mod posted;
mod released;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::machine::Time;
use flujo_core::usage::{Usage, UsageLimits};
use flujo_durable::{DurableError, Written};
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::PyString;

use super::bell::Awaiting;
use super::driver::{Driver, Resume, Turn};
use super::engine::EngineInner;
use super::names;
use super::paused::{Answers, PausedRun};
use super::place::Place;
use super::shared::Shared;
use crate::vectorcall;

/// What `run_async` returns.
#[pyclass(module = "flujo._native", frozen, weakref)]
pub(crate) struct Run {
    state: Mutex<State>,
}

enum State {
    Fresh(Box<Start>),
    Resumed(Box<Resumption>),
    /// Its version of the pipeline is looked up.
    Choosing(Box<opening::Choosing>),
    /// On its way into the store, or out of it.
    Opening(Box<opening::Opening>),
    /// Being taken from the store again.
    Claiming(Box<opening::Claiming>),
    UnderWay(Box<UnderWay>),
    /// It stands still; whether something was left for it is looked up.
    Looking(Box<posted::Looking>),
    /// Its end, or that it stands still, is being written.
    Closing(Box<Closing>),
    /// Being driven right now, or over.
    Gone(&'static str),
}

struct Start {
    engine: Arc<EngineInner>,
    /// `None`: the run is in the store.
    input: Option<Py<PyAny>>,
    run_id: Option<Py<PyAny>>,
    initial_context_data: Option<Py<PyAny>>,
    listener: Option<Py<PyAny>>,
    traceparent: Option<Py<PyString>>,
}

impl Start {
    fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        let held = [
            &self.input,
            &self.run_id,
            &self.listener,
            &self.initial_context_data,
        ];
        held.into_iter().flatten().try_for_each(|held| visit.call(held))
    }
}

/// A run whose last is being written.
struct Closing {
    written: Awaiting<Result<(), DurableError>>,
    shared: Arc<Shared>,
    /// What leaves the coroutine then.
    leaves: PyErr,
    /// A cancellation that came meanwhile.
    thrown: Option<PyErr>,
}

/// What leaves the coroutine, once that is written.
struct Leaves {
    error: PyErr,
    written: Option<Written>,
}

/// What a run goes on with that was stopped.
#[derive(Clone, Copy)]
pub(crate) struct AfterStop {
    /// Other limits than the runner's own.
    pub(crate) raised: Option<UsageLimits>,
}

/// What a run that stood still goes on with.
pub(crate) struct Resumption {
    pub(crate) engine: Arc<EngineInner>,
    pub(crate) paused: Py<PausedRun>,
    pub(crate) answers: Answers,
    /// When it was stopped.
    pub(crate) stop: Option<AfterStop>,
    pub(crate) listener: Option<Py<PyAny>>,
    pub(crate) traceparent: Option<Py<PyString>>,
}

impl Resumption {
    fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.paused)?;
        if let Some(listener) = &self.listener {
            visit.call(listener)?;
        }
        self.answers.tell(visit)
    }
}

struct UnderWay {
    driver: Driver,
    began: Time,
    /// Whether the caller gave it an id by which it can be found.
    named: bool,
    /// What it is known by since it first stood still, and the questions that it was resumed with answers to.
    paused: Option<(Py<PausedRun>, Vec<String>)>,
    /// When it was stopped, if it was, and what it had used by then: that has been counted.
    counted: Option<(Time, Usage)>,
    /// Gives `flujo.current_step()` back to whoever is around this run.
    place_token: Py<PyAny>,
    /// Whether it looks for what was left for it before it stands still.
    looks: bool,
}

impl Run {
    pub(crate) fn new(
        engine: Arc<EngineInner>,
        input: Py<PyAny>,
        run_id: Option<Py<PyAny>>,
        initial_context_data: Option<Py<PyAny>>,
        traceparent: Option<Py<PyString>>,
    ) -> Self {
        let start = Start {
            engine,
            input: Some(input),
            run_id,
            initial_context_data,
            listener: None,
            traceparent,
        };
        Self {
            state: Mutex::new(State::Fresh(Box::new(start))),
        }
    }

    pub(crate) fn resuming(resumption: Resumption) -> Self {
        Self {
            state: Mutex::new(State::Resumed(Box::new(resumption))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run that is in the store.
    pub(crate) fn stored(
        engine: Arc<EngineInner>,
        run_id: Py<PyString>,
        traceparent: Option<Py<PyString>>,
    ) -> Self {
        let start = Start {
            engine,
            input: None,
            run_id: Some(run_id.into_any()),
            initial_context_data: None,
            listener: None,
            traceparent,
        };
        Self {
            state: Mutex::new(State::Fresh(Box::new(start))),
        }
    }

    fn advance(&self, py: Python<'_>, mut resume: Resume) -> PyResult<Py<PyAny>> {
        loop {
            let state = std::mem::replace(
                &mut *self.lock(),
                State::Gone("this run is already being awaited"),
            );
            let next = match state {
                State::UnderWay(under_way) => self.drive(py, under_way, resume)?,
                State::Fresh(start) => self.begun(opening::begin(py, *start, &resume))?,
                State::Resumed(resumption) => self.begun(opening::go_on(py, *resumption, &resume))?,
                State::Choosing(choosing) => self.begun(choosing.look(py, resume))?,
                State::Opening(opening) => self.begun(opening.look(py, resume))?,
                State::Claiming(claiming) => self.begun(claiming.look(py, resume))?,
                State::Looking(looking) => match (*looking, resume) {
                    ((found, under_way), Resume::Next) => posted::looked(py, found, under_way)?,
                    ((_, under_way), thrown @ Resume::Throw(_)) => {
                        self.drive(py, Box::new(under_way), thrown)?
                    }
                },
                State::Closing(closing) => self.leave(py, closing, resume)?,
                State::Gone(why) => {
                    *self.lock() = State::Gone(why);
                    return Err(PyRuntimeError::new_err(why));
                }
            };
            let (state, waits_for) = next;
            *self.lock() = state;
            match waits_for {
                Some(future) => return Ok(future),
                None => resume = Resume::Next,
            }
        }
    }

    fn drive(&self, py: Python<'_>, mut under_way: Box<UnderWay>, resume: Resume) -> PyResult<Step> {
        let shared = Arc::clone(&under_way.driver.shared);
        let leaves = match under_way.driver.resume(py, resume) {
            Ok(Turn::Yield(future)) => return Ok((State::UnderWay(under_way), Some(future))),
            Ok(Turn::Park) if posted::is_there(&shared) => {
                *self.lock() = State::Gone(OVER);
                let going_on = posted::take_in(py, *under_way)?;
                return Ok((State::UnderWay(Box::new(going_on)), None));
            }
            Ok(Turn::Park) if under_way.looks => {
                // An answer that was left since the last look would find nobody who takes it.
                under_way.looks = false;
                if let Some(looking) = posted::look(&shared) {
                    return Ok((State::Looking(Box::new((looking, *under_way))), None));
                }
                return Ok((State::UnderWay(under_way), None));
            }
            Ok(Turn::End(finish)) => {
                *self.lock() = State::Gone(OVER);
                ends::end(py, *under_way, finish)?
            }
            Ok(Turn::Park) => {
                *self.lock() = State::Gone(OVER);
                ends::park(py, *under_way)?
            }
            Err(error) => {
                *self.lock() = State::Gone(OVER);
                under_way.abandon(py);
                return Err(error);
            }
        };
        let Some(written) = leaves.written else {
            return Err(leaves.error);
        };
        let closing = Closing {
            written: Awaiting::new(async { Ok(written.await?) }),
            shared,
            leaves: leaves.error,
            thrown: None,
        };
        Ok((State::Closing(Box::new(closing)), None))
    }

    /// Waits until the last of a run is written. What was thrown meanwhile goes out then, with the result.
    fn leave(&self, py: Python<'_>, mut closing: Box<Closing>, resume: Resume) -> PyResult<Step> {
        if let Resume::Throw(error) = resume {
            closing.thrown.get_or_insert(error);
        }
        let written = match closing.written.look(closing.shared.event_loop(py))? {
            Err(future) => return Ok((State::Closing(closing), Some(future))),
            Ok(written) => written,
        };
        *self.lock() = State::Gone(OVER);
        let leaves = closing.leaves;
        let instead = match (written, closing.thrown) {
            (Ok(()), None) => return Err(leaves),
            (_, Some(thrown)) => thrown,
            (Err(error), None) => match &closing.shared.engine.keeping {
                Some(keeping) => keeping.error(py, &error),
                None => return Err(leaves),
            },
        };
        if leaves.is_instance_of::<PyStopIteration>(py) {
            let result = leaves.value(py).getattr(intern!(py, "value"))?;
            instead.value(py).setattr(intern!(py, "flujo_result"), result)?;
        }
        Err(instead)
    }

    fn begun(&self, begun: PyResult<Step>) -> PyResult<Step> {
        if begun.is_err() {
            *self.lock() = State::Gone("this run could not start");
        }
        begun
    }
}

/// Where a run is now, and what it waits for, if anything.
type Step = (State, Option<Py<PyAny>>);

const OVER: &str = "cannot reuse already awaited run";

impl State {
    /// Nobody goes on with it, and nobody has closed it: what it has taken of a store is free again.
    fn dropped(self, py: Python<'_>) {
        match self {
            Self::UnderWay(under_way) => under_way.dropped(py),
            Self::Looking(looking) => looking.1.dropped(py),
            Self::Opening(opening) => opening.abandon(py),
            Self::Claiming(claiming) => claiming.abandon(py),
            _ => {}
        }
    }
}

impl UnderWay {
    fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.place_token)?;
        if let Some((paused, _)) = &self.paused {
            visit.call(paused)?;
        }
        self.driver.tell(visit)
    }

    /// As in [`abandon`](Self::abandon), but what it waits for is left to whoever drops it.
    fn dropped(mut self, py: Python<'_>) {
        self.driver.end_spans(py);
        if let Some(journal) = &self.driver.shared.journal {
            journal.give_back();
        }
    }

    fn abandon(self, py: Python<'_>) {
        let shared = Arc::clone(&self.driver.shared);
        self.driver.abandon(py);
        if let Some(journal) = &shared.journal {
            journal.give_back();
        }
        if let Some((paused, _)) = self.paused {
            paused.get().end("failed");
            // Nobody is left to be told.
            let _ = shared.engine.paused.release(paused.bind(py));
        }
    }
}

fn set_place(py: Python<'_>, driver: &mut Driver) -> PyResult<Py<PyAny>> {
    let state = Arc::clone(driver.place());
    let place = Bound::new(py, Place { state })?;
    let token = vectorcall::set_variable(names::place_variable(py)?, place.as_any())?;
    driver.enter(py, &place)?;
    Ok(token.unbind())
}

/// The exception that `throw` was given, in any of its forms.
pub(crate) fn thrown(
    error: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
    traceback: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyErr> {
    let instance = match value.filter(|value| !value.is_none()) {
        Some(value) if value.is_instance_of::<pyo3::exceptions::PyBaseException>() => value.clone(),
        Some(value) => error.call1((value,))?,
        None if error.is_instance_of::<pyo3::types::PyType>() => error.call0()?,
        None => error.clone(),
    };
    if let Some(traceback) = traceback.filter(|traceback| !traceback.is_none()) {
        instance.call_method1("with_traceback", (traceback,))?;
    }
    Ok(PyErr::from_value(instance))
}

#[pymethods]
impl Run {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        self.advance(py, Resume::Next)
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.advance(py, Resume::Next)
    }

    #[pyo3(signature = (error, value=None, traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        error: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.advance(py, Resume::Throw(thrown(error, value, traceback)?))
    }

    fn close(&self, py: Python<'_>) {
        let state = std::mem::replace(&mut *self.lock(), State::Gone("this run was closed"));
        match state {
            State::UnderWay(under_way) => under_way.abandon(py),
            State::Looking(looking) => looking.1.abandon(py),
            State::Opening(opening) => opening.abandon(py),
            State::Claiming(claiming) => claiming.abandon(py),
            _ => {}
        }
    }

    /// Has the run tell `listener` what happens; before it is awaited.
    fn listen(&self, listener: Py<PyAny>) {
        let before = match &mut *self.lock() {
            State::Fresh(start) => start.listener.replace(listener),
            State::Resumed(resumption) => resumption.listener.replace(listener),
            _ => None,
        };
        drop(before);
    }

    fn __aiter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, PyAny>> {
        slf.py()
            .import("flujo.application._stream")?
            .call_method1("stream", (slf,))
    }

    #[getter]
    fn cr_running(&self) -> bool {
        matches!(&*self.lock(), State::Gone(why) if *why == "this run is already being awaited")
    }

    #[getter]
    fn cr_frame(&self) -> Option<()> {
        None
    }

    #[getter]
    fn cr_await(&self) -> Option<()> {
        None
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        "run_async"
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        "Flujo.run_async"
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.state.try_lock().as_deref() {
            Ok(State::Fresh(start)) => start.tell(&visit),
            Ok(State::Choosing(choosing)) => choosing.tell(&visit),
            Ok(State::Resumed(resumption)) => resumption.tell(&visit),
            Ok(State::Claiming(claiming)) => claiming.tell(&visit),
            Ok(State::Opening(opening)) => opening.tell(&visit),
            Ok(State::UnderWay(under_way)) => under_way.tell(&visit),
            Ok(State::Looking(looking)) => looking.1.tell(&visit),
            _ => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        let state = self
            .state
            .try_lock()
            .map(|mut state| std::mem::replace(&mut *state, State::Gone("collected")));
        if let Ok(state) = state {
            state.dropped(py);
        }
    }
}

impl Drop for Run {
    /// Like a coroutine's: one that was never awaited is a mistake worth a warning.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(state, State::Gone("dropped")) {
            State::Fresh(_) => {}
            state @ (State::UnderWay(_) | State::Looking(_) | State::Opening(_) | State::Claiming(_)) => {
                return Python::attach(|py| state.dropped(py));
            }
            _ => return,
        }
        Python::attach(|py| {
            let category = py.get_type::<PyRuntimeWarning>();
            let text = c"coroutine 'Flujo.run_async' was never awaited";
            if let Err(error) = PyErr::warn(py, category.as_any(), text, 1) {
                error.write_unraisable(py, None);
            }
        });
    }
}
