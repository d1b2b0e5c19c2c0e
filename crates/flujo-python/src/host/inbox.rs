//! Where lanes and timers leave their events for the driver of the machine that waits for them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::machine::{LaneId, Outcome, TimerId};
use pyo3::PyTraverseError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

use super::collected;
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
    /// How many lanes may complete before the driver has to hear of it.
    patience: usize,
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
    /// A lane ended by what ends everything, such as a `KeyboardInterrupt`.
    Broke(LaneId, PyErr),
}

impl Delivery {
    /// Whether it is the end of a lane that completed.
    fn is_completion(&self) -> bool {
        matches!(
            self,
            Self::Event(Event::LaneFinished { finish, .. }) if matches!(finish.outcome, Outcome::Completed(_))
        )
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves something and wakes the driver, unless it is patient.
    pub(crate) fn deliver(&self, py: Python<'_>, delivery: Delivery) -> PyResult<()> {
        let future = {
            let mut waiting = self.lock();
            if delivery.is_completion() {
                waiting.patience = waiting.patience.saturating_sub(1);
            } else {
                waiting.patience = 0;
            }
            waiting.events.push(delivery);
            let wakes = waiting.patience == 0;
            waiting.future.take_if(|_| wakes)
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

    /// Waits on `future` from now on: until so many lanes have completed, or until anything else is left.
    pub(crate) fn wait_on(&self, future: Py<PyAny>, lanes: usize) {
        let mut waiting = self.lock();
        waiting.future = Some(future);
        waiting.patience = lanes;
    }

    /// Tells the garbage collector of the ends of lanes that are held.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The lock is never held while Python runs, so the collector finds it free.
        let Ok(waiting) = self.waiting.try_lock() else {
            return Ok(());
        };
        if let Some(future) = &waiting.future {
            visit.call(future)?;
        }
        waiting.events.iter().try_for_each(|delivery| match delivery {
            Delivery::Event(Event::LaneFinished { finish, .. }) => collected::lane_finish(finish, visit),
            _ => Ok(()),
        })
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
