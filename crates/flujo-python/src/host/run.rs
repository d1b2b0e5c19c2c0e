//! A run as Python sees it: a coroutine that starts when it is awaited.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::machine::{LimitBreach, LimitKind, Outcome, Stop, Time};
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

use super::domain::{Finish, Machine};
use super::driver::{Driver, Resume, Turn};
use super::engine::{EngineInner, Shared, was_cancelled};
use super::place::Place;
use super::steps::Outputs;
use super::{names, record};
use crate::vectorcall;

/// What `run_async` returns.
#[pyclass(module = "flujo._native", frozen, weakref)]
pub(crate) struct Run {
    state: Mutex<State>,
}

enum State {
    Fresh(Box<Start>),
    UnderWay(Box<UnderWay>),
    /// Being driven right now, or over.
    Gone(&'static str),
}

struct Start {
    engine: Arc<EngineInner>,
    input: Py<PyAny>,
    run_id: Option<Py<PyAny>>,
    initial_context_data: Option<Py<PyAny>>,
}

struct UnderWay {
    driver: Driver,
    began: Time,
    /// Gives `flujo.current_step()` back to whoever is around this run.
    place_token: Py<PyAny>,
}

impl Run {
    pub(crate) fn new(
        engine: Arc<EngineInner>,
        input: Py<PyAny>,
        run_id: Option<Py<PyAny>>,
        initial_context_data: Option<Py<PyAny>>,
    ) -> Self {
        let start = Start {
            engine,
            input,
            run_id,
            initial_context_data,
        };
        Self {
            state: Mutex::new(State::Fresh(Box::new(start))),
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
            State::Fresh(start) => match begin(py, *start, &resume) {
                Ok(under_way) => under_way,
                Err(error) => {
                    *self.lock() = State::Gone("this run could not start");
                    return Err(error);
                }
            },
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
                *self.lock() = State::Gone("cannot reuse already awaited run");
                Err(end(py, *under_way, finish)?)
            }
            Err(error) => {
                *self.lock() = State::Gone("cannot reuse already awaited run");
                under_way.driver.abandon(py);
                Err(error)
            }
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
    } = start;
    let shared = Shared::begin(py, &engine, run_id)?;
    let context = shared.context(py, &input, initial_context_data)?;
    let began = shared.now(py);
    let deadline = shared.deadline(began);
    let plan = Arc::clone(&shared.plan.plan);
    let machine = Machine::start(plan, shared.options(), input, context, began, deadline);
    let driver = Driver::new(Box::new(machine), shared, Vec::new(), Outputs::default());
    let place = Bound::new(
        py,
        Place {
            state: Arc::clone(driver.place()),
        },
    )?;
    let place_token = vectorcall::set_variable(names::place_variable(py)?, place.as_any())?.unbind();
    Ok(Box::new(UnderWay {
        driver,
        began,
        place_token,
    }))
}

/// What leaves the coroutine when the run has ended: its result as `StopIteration`, or an exception.
fn end(py: Python<'_>, under_way: UnderWay, finish: Box<Finish>) -> PyResult<PyErr> {
    let UnderWay {
        driver,
        began,
        place_token,
    } = under_way;
    let shared = &driver.shared;
    // A run that was handed from one context to another keeps the variable where it was set.
    let _ = names::place_variable(py)?.call_method1(intern!(py, "reset"), (place_token,));
    shared.record(&finish, began, shared.now(py));
    let finish: Arc<Finish> = Arc::from(finish);
    let result = record::pipeline_result(py, &shared.plan, Arc::clone(&finish))?;
    if let (true, Some(error)) = (was_cancelled(&finish), driver.cancellation.as_ref()) {
        let error = error.clone_ref(py);
        error.value(py).setattr(intern!(py, "flujo_result"), result)?;
        return Ok(error);
    }
    match &finish.outcome {
        Outcome::Stopped(Stop::LimitExceeded(breach)) => {
            let [limit, used, reserved] = amounts(breach);
            let limits = (
                breach.to_string(),
                result,
                limit,
                used,
                reserved,
                &*breach.step,
                breach.refused,
            );
            Ok(PyErr::from_value(names::limit_error(py)?.call1(limits)?))
        }
        Outcome::Stopped(Stop::Fatal(failure)) => {
            let error = failure.error.as_ref();
            let fatal = (error, &*failure.error_type, &*failure.message, result);
            Ok(PyErr::from_value(names::fatal_error(py)?.call1(fatal)?))
        }
        _ => Ok(PyStopIteration::new_err((result.unbind(),))),
    }
}

/// The limit that was reached, what was used and what was reserved, in its unit: dollars, tokens or requests.
#[allow(clippy::cast_precision_loss)] // for display; the totals in the result are exact
fn amounts(breach: &LimitBreach) -> [f64; 3] {
    let (limits, used, reserved) = (breach.limits, breach.used, breach.reserved);
    match breach.which {
        LimitKind::Cost => [
            limits.cost.unwrap_or_default().dollars(),
            used.cost.dollars(),
            reserved.cost.dollars(),
        ],
        LimitKind::Tokens => [
            limits.tokens.unwrap_or_default() as f64,
            used.tokens as f64,
            reserved.tokens as f64,
        ],
        LimitKind::Requests => [
            limits.requests.unwrap_or_default() as f64,
            used.requests as f64,
            reserved.requests as f64,
        ],
    }
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
            under_way.driver.abandon(py);
        }
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
                if let Some(run_id) = &start.run_id {
                    visit.call(run_id)?;
                }
                match &start.initial_context_data {
                    Some(data) => visit.call(data),
                    None => Ok(()),
                }
            }
            Ok(State::UnderWay(under_way)) => {
                visit.call(&under_way.place_token)?;
                under_way.driver.tell(&visit)
            }
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let state = self
            .state
            .try_lock()
            .map(|mut state| std::mem::replace(&mut *state, State::Gone("collected")));
        drop(state);
    }
}

impl Drop for Run {
    /// Like a coroutine's: one that was never awaited is a mistake worth a warning.
    fn drop(&mut self) {
        if !matches!(*self.lock(), State::Fresh(_)) {
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
