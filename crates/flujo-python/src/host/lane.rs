//! A lane as an asyncio task of its own, so that `current_task()`, `asyncio.timeout()` and context variables bind to
//! it.

use std::sync::{Arc, Mutex, PoisonError};

use flujo_core::machine::LaneId;
use pyo3::PyTraverseError;
use pyo3::exceptions::{PyRuntimeError, PyStopIteration};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

use super::domain::{Event, Machine};
use super::driver::{Driver, Resume, Turn};
use super::inbox::{Delivery, Inbox};
use super::names;
use super::place::Place;
use crate::vectorcall;

/// The coroutine of a lane.
#[pyclass(module = "flujo._native", frozen, weakref)]
pub(crate) struct Lane {
    driver: Mutex<Option<Box<Driver>>>,
    id: LaneId,
    parent: Arc<Inbox>,
}

/// Starts a lane of what `around` drives as a task.
pub(crate) fn spawn(
    py: Python<'_>,
    around: &Driver,
    lane: LaneId,
    machine: Box<Machine>,
) -> PyResult<Py<PyAny>> {
    let shared = &around.shared;
    let outputs = around.place().outputs().for_lane(py);
    let driver = Driver::new(machine, Arc::clone(shared), around.iterations(), outputs);
    let driver = Box::new(driver);
    let coroutine = Bound::new(
        py,
        Lane {
            driver: Mutex::new(Some(driver)),
            id: lane,
            parent: Arc::clone(around.inbox()),
        },
    )?;
    let event_loop = shared.event_loop(py);
    match shared.task_arguments(py)? {
        Some(arguments) => Ok(names::task_class(py)?
            .call((coroutine,), Some(arguments))?
            .unbind()),
        None => Ok(event_loop
            .call_method1(intern!(py, "create_task"), (coroutine,))?
            .unbind()),
    }
}

impl Lane {
    fn advance(&self, py: Python<'_>, resume: Resume) -> PyResult<Option<Py<PyAny>>> {
        let taken = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut driver) = taken else {
            return Err(PyRuntimeError::new_err(
                "this lane is already running, or has ended",
            ));
        };
        if driver.begins() {
            let place = Bound::new(
                py,
                Place {
                    state: Arc::clone(driver.place()),
                },
            )?;
            vectorcall::set_variable(names::place_variable(py)?, place.as_any())?;
        }
        match driver.resume(py, resume) {
            Ok(Turn::Yield(future)) => {
                *self.driver.lock().unwrap_or_else(PoisonError::into_inner) = Some(driver);
                Ok(Some(future))
            }
            Ok(Turn::End(finish)) => {
                let at = driver.shared.now(py);
                let event = Event::LaneFinished {
                    lane: self.id,
                    finish,
                    at,
                };
                self.parent.deliver(py, Delivery::Event(event))?;
                Ok(None)
            }
            Err(error) => {
                driver.abandon(py);
                Err(error)
            }
        }
    }
}

#[pymethods]
impl Lane {
    fn __await__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        self.advance(py, Resume::Next)
    }

    fn send(&self, py: Python<'_>, _value: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.advance(py, Resume::Next)?
            .ok_or_else(|| PyStopIteration::new_err(()))
    }

    #[pyo3(signature = (error, value=None, traceback=None))]
    fn throw(
        &self,
        py: Python<'_>,
        error: &Bound<'_, PyAny>,
        value: Option<&Bound<'_, PyAny>>,
        traceback: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let error = super::run::thrown(error, value, traceback)?;
        self.advance(py, Resume::Throw(error))?
            .ok_or_else(|| PyStopIteration::new_err(()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.driver.try_lock().as_deref() {
            Ok(Some(driver)) => driver.tell(&visit),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        let driver = self.driver.try_lock().ok().and_then(|mut driver| driver.take());
        drop(driver);
    }

    fn close(&self, py: Python<'_>) {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver {
            driver.abandon(py);
        }
    }
}
