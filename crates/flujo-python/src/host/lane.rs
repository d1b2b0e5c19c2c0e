//! A lane as an asyncio task of its own, so that `current_task()`, `asyncio.timeout()` and context variables bind to
//! it. A lane that only answers can move has no task: it is kept where it was started from.

use std::collections::BTreeMap;
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
use super::parked::{Parked, ParkedLanes, Wake};
use super::place::Place;
use super::shared::Shared;
use super::trace::{Before, Trace};
use crate::vectorcall;

/// The coroutine of a lane.
#[pyclass(module = "flujo._native", frozen, weakref)]
pub(crate) struct Lane {
    driver: Mutex<Option<Box<Driver>>>,
    id: LaneId,
    parent: Arc<Inbox>,
}

/// The lanes of one machine.
#[derive(Default)]
pub(crate) struct Lanes {
    pub(crate) running: BTreeMap<LaneId, Task>,
    pub(crate) parked: ParkedLanes,
}

/// What lanes are started with by the machine around them.
#[derive(Clone, Copy)]
pub(crate) struct Around<'d> {
    pub(crate) shared: &'d Arc<Shared>,
    pub(crate) inbox: &'d Arc<Inbox>,
    pub(crate) machine: &'d Machine,
    pub(crate) trace: Option<&'d Trace>,
}

impl Around<'_> {
    /// The spans of a lane that begins, or goes on after it stood still.
    pub(crate) fn trace_of(
        self,
        py: Python<'_>,
        lane: &Machine,
        before: Option<&Before>,
    ) -> PyResult<Option<Box<Trace>>> {
        let trace = self.trace;
        trace
            .map(|trace| trace.of_lane(py, self.shared, self.machine, lane, before))
            .transpose()
    }

    /// A lane that stood still, ready to go on.
    fn revived(self, py: Python<'_>, parked: Parked) -> PyResult<Driver> {
        let trace = self.trace_of(py, &parked.machine, parked.before.as_ref())?;
        Driver::revive(py, parked, Arc::clone(self.shared), trace)
    }
}

pub(crate) struct Task {
    task: Py<PyAny>,
    /// Whether it has been told to end; it may have been about to park.
    cancelled: bool,
}

impl Lanes {
    pub(crate) fn spawn(
        &mut self,
        py: Python<'_>,
        inbox: &Arc<Inbox>,
        lane: LaneId,
        driver: Driver,
    ) -> PyResult<()> {
        let task = spawn(py, inbox, lane, driver)?;
        let cancelled = false;
        self.running.insert(lane, Task { task, cancelled });
        Ok(())
    }

    /// Tells a lane to end. One that stands still goes on to do so.
    pub(crate) fn cancel(&mut self, py: Python<'_>, around: Around<'_>, lane: LaneId) -> PyResult<()> {
        if let Some(running) = self.running.get_mut(&lane) {
            running.cancelled = true;
            running.task.bind(py).call_method0(intern!(py, "cancel"))?;
        } else if let Some(mut parked) = self.parked.take(lane) {
            parked.wake = Wake::Cancel;
            self.spawn(py, around.inbox, lane, around.revived(py, *parked)?)?;
        }
        Ok(())
    }

    /// Takes in a lane that stands still.
    pub(crate) fn park(
        &mut self,
        py: Python<'_>,
        around: Around<'_>,
        lane: LaneId,
        parked: Box<Parked>,
    ) -> PyResult<()> {
        let cancelled = self
            .running
            .remove(&lane)
            .is_some_and(|running| running.cancelled);
        self.parked.insert(lane, parked);
        if cancelled {
            return self.cancel(py, around, lane);
        }
        Ok(())
    }

    /// Has a lane that stood still go on.
    pub(crate) fn revive(&mut self, py: Python<'_>, around: Around<'_>, lane: LaneId) -> PyResult<()> {
        match self.parked.take(lane) {
            Some(parked) => self.spawn(py, around.inbox, lane, around.revived(py, *parked)?),
            None => Ok(()),
        }
    }

    pub(crate) fn ended(&mut self, lane: LaneId) {
        self.running.remove(&lane);
    }

    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.running
            .values()
            .try_for_each(|running| visit.call(&running.task))?;
        self.parked.tell(visit)
    }

    pub(crate) fn abandon(self, py: Python<'_>) {
        for running in self.running.into_values() {
            let _ = running.task.bind(py).call_method0(intern!(py, "cancel"));
        }
    }
}

/// Starts a lane as a task.
fn spawn(py: Python<'_>, parent: &Arc<Inbox>, lane: LaneId, driver: Driver) -> PyResult<Py<PyAny>> {
    let shared = Arc::clone(&driver.shared);
    let coroutine = Bound::new(
        py,
        Lane {
            driver: Mutex::new(Some(Box::new(driver))),
            id: lane,
            parent: Arc::clone(parent),
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
            driver.enter(py, &place)?;
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
            Ok(Turn::Park) => {
                let parked = driver.park(py)?;
                self.parent.deliver(py, Delivery::Parked(self.id, parked))?;
                Ok(None)
            }
            Err(error) => {
                driver.abandon(py);
                let told = Delivery::Broke(self.id, error.clone_ref(py));
                self.parent.deliver(py, told)?;
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

    fn __clear__(&self, py: Python<'_>) {
        let driver = self.driver.try_lock().ok().and_then(|mut driver| driver.take());
        if let Some(mut driver) = driver {
            driver.end_spans(py);
        }
    }

    fn close(&self, py: Python<'_>) {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(driver) = driver {
            driver.abandon(py);
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let driver = self.driver.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(driver) = driver {
            Python::attach(|py| driver.end_spans(py));
        }
    }
}
