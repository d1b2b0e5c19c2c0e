//! A run as Python sees it: a coroutine that starts when it is awaited.

mod ends;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::config::Part;
use flujo_core::machine::Time;
use flujo_core::usage::{Usage, UsageLimits, run_meter};
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning};
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::PyString;

use super::domain::Machine;
use super::driver::{Driver, Resume, Turn};
use super::engine::EngineInner;
use super::names;
use super::parked::{Parked, ParkedLanes, Wake};
use super::paused::{Answers, PausedRun};
use super::place::Place;
use super::shared::Shared;
use super::steps::Outputs;
use super::trace::{Trace, Traced};
use crate::vectorcall;

/// What `run_async` returns.
#[pyclass(module = "flujo._native", frozen, weakref)]
pub(crate) struct Run {
    state: Mutex<State>,
}

enum State {
    Fresh(Box<Start>),
    Resumed(Box<Resumption>),
    UnderWay(Box<UnderWay>),
    /// Being driven right now, or over.
    Gone(&'static str),
}

struct Start {
    engine: Arc<EngineInner>,
    input: Py<PyAny>,
    run_id: Option<Py<PyAny>>,
    initial_context_data: Option<Py<PyAny>>,
    listener: Option<Py<PyAny>>,
    traceparent: Option<Py<PyString>>,
}

/// What a run that stood still goes on with.
pub(crate) struct Resumption {
    pub(crate) engine: Arc<EngineInner>,
    pub(crate) paused: Py<PausedRun>,
    pub(crate) answers: Answers,
    /// The limits that it goes on with, when it was stopped.
    pub(crate) limits: Option<UsageLimits>,
    pub(crate) listener: Option<Py<PyAny>>,
    pub(crate) traceparent: Option<Py<PyString>>,
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
            input,
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

    fn advance(&self, py: Python<'_>, resume: Resume) -> PyResult<Py<PyAny>> {
        let state = std::mem::replace(
            &mut *self.lock(),
            State::Gone("this run is already being awaited"),
        );
        let mut under_way = match state {
            State::UnderWay(under_way) => under_way,
            State::Fresh(start) => self.begun(begin(py, *start, &resume))?,
            State::Resumed(resumption) => self.begun(go_on(py, *resumption, &resume))?,
            State::Gone(why) => {
                *self.lock() = State::Gone(why);
                return Err(PyRuntimeError::new_err(why));
            }
        };
        match under_way.driver.resume(py, resume) {
            Ok(Turn::Yield(future)) => {
                *self.lock() = State::UnderWay(under_way);
                Ok(future)
            }
            Ok(Turn::End(finish)) => {
                *self.lock() = State::Gone(OVER);
                Err(ends::end(py, *under_way, finish)?)
            }
            Ok(Turn::Park) => {
                *self.lock() = State::Gone(OVER);
                Err(ends::park(py, *under_way)?)
            }
            Err(error) => {
                *self.lock() = State::Gone(OVER);
                under_way.abandon(py);
                Err(error)
            }
        }
    }

    fn begun(&self, begun: PyResult<Box<UnderWay>>) -> PyResult<Box<UnderWay>> {
        if begun.is_err() {
            *self.lock() = State::Gone("this run could not start");
        }
        begun
    }
}

const OVER: &str = "cannot reuse already awaited run";

impl UnderWay {
    fn abandon(self, py: Python<'_>) {
        let shared = Arc::clone(&self.driver.shared);
        self.driver.abandon(py);
        if let Some((paused, _)) = self.paused {
            paused.get().end("failed");
            // Nobody is left to be told.
            let _ = shared.engine.paused.release(paused.bind(py));
        }
    }
}

fn begin(py: Python<'_>, start: Start, resume: &Resume) -> PyResult<Box<UnderWay>> {
    if let Resume::Throw(error) = resume {
        // Cancelled before it began: nothing has happened, and nothing will.
        return Err(error.clone_ref(py));
    }
    let Start {
        engine,
        input,
        run_id,
        initial_context_data,
        listener,
        traceparent,
    } = start;
    let named = run_id.is_some();
    let traced = Traced::now(py, &engine, traceparent)?;
    let shared = Shared::begin(py, &engine, run_id, listener, traced)?;
    super::events::started(py, &shared)?;
    let context = shared.context(py, &input, initial_context_data)?;
    let began = shared.now(py);
    let deadline = shared.deadline(began);
    let plan = Arc::clone(&shared.plan.plan);
    let mut machine = Machine::start(plan, shared.options(), input, context, began, deadline);
    let trace = Trace::of_run(py, &shared, &machine, None)?;
    if shared.twins.now().gave_way(Part::Telemetry) {
        machine.listen(shared.is_told()); // the plain form is told of each step
    }
    let mut driver = Driver::new(Box::new(machine), shared, Outputs::default(), trace);
    let place_token = set_place(py, &mut driver)?;
    Ok(Box::new(UnderWay {
        driver,
        began,
        named,
        paused: None,
        counted: None,
        place_token,
    }))
}

/// A run that stood still goes on.
fn go_on(py: Python<'_>, resumption: Resumption, resume: &Resume) -> PyResult<Box<UnderWay>> {
    if let Resume::Throw(error) = resume {
        return Err(error.clone_ref(py));
    }
    let Resumption {
        engine,
        paused,
        answers,
        limits,
        listener,
        traceparent,
    } = resumption;
    if let Some(limits) = limits {
        return take_up(py, engine, paused, limits, listener, traceparent);
    }
    let traced = Traced::now(py, &engine, traceparent)?;
    let before = (paused.get().meter.clone(), paused.get().stopped());
    let shared = Shared::resume(py, &engine, paused.get(), before, listener, traced)?;
    let answered = answers.wakes.iter().map(|(id, _)| id.clone()).collect();
    let parked = paused.get().take(py, answers)?;
    let trace = Trace::of_run(py, &shared, &parked.machine, parked.before.as_ref())?;
    let mut driver = Driver::revive(py, *parked, shared, trace)?;
    let place_token = set_place(py, &mut driver)?;
    Ok(Box::new(UnderWay {
        driver,
        began: paused.get().began,
        named: false,
        counted: paused.get().counted(),
        paused: Some((paused, answered)),
        place_token,
    }))
}

/// A run that was stopped goes on with other limits.
fn take_up(
    py: Python<'_>,
    engine: Arc<EngineInner>,
    paused: Py<PausedRun>,
    limits: UsageLimits,
    listener: Option<Py<PyAny>>,
    traceparent: Option<Py<PyString>>,
) -> PyResult<Box<UnderWay>> {
    let traced = Traced::now(py, &engine, traceparent)?;
    let run = paused.get();
    let stopped = run.stopped();
    let (kept, used) = run.take_stopped(py, &limits)?;
    let meter = (!limits.is_unlimited()).then(|| run_meter(run.twins, limits, used));
    // A nanosecond later: what ended by then has been counted.
    let began = stopped.saturating_add(1);
    let shared = Shared::resume(py, &engine, run, (meter, began), listener, traced)?;
    let plan = Arc::clone(&shared.plan.plan);
    let parked = Parked {
        machine: Box::new(Machine::go_on(plan, *kept, shared.options(), stopped)),
        question: None,
        lanes: ParkedLanes::default(),
        outputs: Outputs::default(),
        wake: Wake::default(),
        before: None,
    };
    let trace = Trace::of_run(py, &shared, &parked.machine, None)?;
    let mut driver = Driver::revive(py, parked, shared, trace)?;
    let place_token = set_place(py, &mut driver)?;
    Ok(Box::new(UnderWay {
        driver,
        began,
        named: false,
        counted: Some((stopped, used)),
        paused: Some((paused, Vec::new())),
        place_token,
    }))
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
        if let State::UnderWay(under_way) = state {
            under_way.abandon(py);
        }
    }

    /// Has the run tell `listener` what happens; before it is awaited.
    fn listen(&self, listener: Py<PyAny>) {
        let before = match &mut *self.lock() {
            State::Fresh(start) => start.listener.replace(listener),
            State::Resumed(resumption) => resumption.listener.replace(listener),
            State::UnderWay(_) | State::Gone(_) => None,
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
            Ok(State::Fresh(start)) => {
                visit.call(&start.input)?;
                for held in [&start.run_id, &start.listener].into_iter().flatten() {
                    visit.call(held)?;
                }
                match &start.initial_context_data {
                    Some(data) => visit.call(data),
                    None => Ok(()),
                }
            }
            Ok(State::Resumed(resumption)) => {
                visit.call(&resumption.paused)?;
                if let Some(listener) = &resumption.listener {
                    visit.call(listener)?;
                }
                resumption.answers.tell(&visit)
            }
            Ok(State::UnderWay(under_way)) => {
                visit.call(&under_way.place_token)?;
                if let Some((paused, _)) = &under_way.paused {
                    visit.call(paused)?;
                }
                under_way.driver.tell(&visit)
            }
            _ => Ok(()),
        }
    }

    fn __clear__(&self, py: Python<'_>) {
        let state = self
            .state
            .try_lock()
            .map(|mut state| std::mem::replace(&mut *state, State::Gone("collected")));
        if let Ok(State::UnderWay(mut under_way)) = state {
            under_way.driver.end_spans(py);
        }
    }
}

impl Drop for Run {
    /// Like a coroutine's: one that was never awaited is a mistake worth a warning.
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let State::UnderWay(under_way) = state {
            Python::attach(|py| under_way.driver.end_spans(py));
        }
        if !matches!(state, State::Fresh(_)) {
            return;
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
