//! Interrupting a driver that waits: because `runner.cancel` asks for it, and when a call that was cancelled has not ended
//! in the time it is granted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::PyTraverseError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

/// What a driver waits on, and why it is to stop.
#[derive(Default)]
pub(crate) struct Interrupt {
    future: Mutex<Option<Py<PyAny>>>,
    requested: AtomicBool,
    overdue: AtomicBool,
}

impl Interrupt {
    /// The driver waits on `future`, or on nothing any more.
    pub(crate) fn wait_on(&self, future: Option<Py<PyAny>>) {
        let before = {
            let mut waiting = self.future.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *waiting, future)
        };
        drop(before);
    }

    /// The run is to end as soon as its driver looks.
    pub(crate) fn request(&self) {
        self.requested.store(true, Ordering::Release);
    }

    /// Whether `runner.cancel` has asked for the end of the run.
    #[inline]
    pub(crate) fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Whether the call that was cancelled has had its time.
    #[inline]
    pub(crate) fn is_overdue(&self) -> bool {
        self.overdue.load(Ordering::Acquire)
    }

    /// The call that was overdue has ended, or another one begins.
    pub(crate) fn settle(&self) {
        self.overdue.store(false, Ordering::Release);
    }

    /// Cancels what the driver waits on, as a cancelled task does.
    fn wake(&self, py: Python<'_>) -> PyResult<()> {
        let future = {
            let waiting = self.future.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.as_ref().map(|future| future.clone_ref(py))
        };
        if let Some(future) = future {
            future.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        Ok(())
    }

    /// Tells the garbage collector of what is held.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.future.try_lock().as_deref() {
            Ok(Some(future)) => visit.call(future),
            _ => Ok(()),
        }
    }
}

/// Cancels one run, from its loop's thread.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct Switch {
    pub(crate) interrupt: Arc<Interrupt>,
}

#[pymethods]
impl Switch {
    /// Asks the run to end. Nothing happens to one that has ended.
    fn cancel(&self, py: Python<'_>) -> PyResult<()> {
        self.interrupt.request();
        self.interrupt.wake(py)
    }

    /// The same, where a loop is told by another thread.
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.cancel(py)
    }
}

/// Called by the loop when a cancelled call has had its time.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct Overdue {
    pub(crate) interrupt: Arc<Interrupt>,
    /// The task that was cancelled, and how often: a cancellation that was taken back leaves the call alone.
    pub(crate) task: Option<(Py<PyAny>, i64)>,
}

#[pymethods]
impl Overdue {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.task {
            Some((task, _)) => visit.call(task),
            None => Ok(()),
        }
    }

    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        if let Some((task, times)) = &self.task
            && !task.is_none(py)
        {
            let still: i64 = task.bind(py).call_method0(intern!(py, "cancelling"))?.extract()?;
            if still < *times {
                return Ok(());
            }
        }
        self.interrupt.overdue.store(true, Ordering::Release);
        self.interrupt.wake(py)
    }
}
