//! Where lanes and timers leave their events for the driver of the machine that waits for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::machine::{LaneId, TimerId};
use pyo3::intern;
use pyo3::prelude::*;

use super::domain::Event;
use super::parked::Parked;

/// Events for one driver, and the future it waits on when it has nothing else to do.
#[derive(Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    events: Vec<Delivery>,
    future: Option<Py<PyAny>>,
}

/// Something that was left for a driver.
pub(crate) enum Delivery {
    Event(Event),
    Woke(TimerId),
    /// A call that waits may have its turn.
    Turn,
    /// A lane waits for answers and for nothing else; its task has ended.
    Parked(LaneId, Box<Parked>),
    /// A lane that stood still is to go on.
    Awake(LaneId),
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves something and wakes the driver.
    pub(crate) fn deliver(&self, py: Python<'_>, delivery: Delivery) -> PyResult<()> {
        let future = {
            let mut waiting = self.lock();
            waiting.events.push(delivery);
            waiting.future.take()
        };
        if let Some(future) = future {
            let future = future.bind(py);
            if !future.call_method0(intern!(py, "done"))?.is_truthy()? {
                future.call_method1(intern!(py, "set_result"), (py.None(),))?;
            }
        }
        Ok(())
    }

    /// What has been left so far.
    pub(crate) fn take(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.lock().events)
    }

    /// Waits on `future` from now on.
    pub(crate) fn wait_on(&self, future: Py<PyAny>) {
        self.lock().future = Some(future);
    }
}

/// Called by the loop when a timer of a machine fires.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct Waker {
    pub(crate) inbox: Arc<Inbox>,
    /// The machine's timer; None for that of a call that waits for its turn.
    pub(crate) timer: Option<TimerId>,
}

#[pymethods]
impl Waker {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let delivery = self.timer.map_or(Delivery::Turn, Delivery::Woke);
        self.inbox.deliver(py, delivery)
    }
}
