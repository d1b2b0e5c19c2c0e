//! The time limit of attempts, in the way of `asyncio.timeout`: the loop cancels the task when the time is up. A driver
//! has one timer for all of its attempts. It is armed when the first of them suspends, and when it fires too early for
//! the attempt under way it is armed again: most attempts end long before their limit and cost the loop nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::machine::Time;
use pyo3::PyTraverseError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

use super::clock::seconds;
use super::shared::Shared;

/// No attempt under way has a limit.
const NEVER: Time = Time::MAX;
/// Loops fire timers this much too early, in nanoseconds: they count in floating-point seconds.
const EARLY: Time = 1_000;

/// The limit of whatever attempt a driver is at.
#[derive(Default)]
pub(crate) struct TimeLimit {
    watch: Option<Arc<Watch>>,
}

struct Watch {
    shared: Arc<Shared>,
    /// When the attempt under way must have ended.
    deadline: AtomicU64,
    expired: AtomicBool,
    held: Mutex<Held>,
}

struct Held {
    /// The task to cancel.
    task: Py<PyAny>,
    /// The loop's timer and when it fires.
    timer: Option<(Time, Py<PyAny>)>,
}

/// Called by the loop when an attempt's time may be up.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct Expiry {
    watch: Arc<Watch>,
}

#[pymethods]
impl Expiry {
    fn __call__(slf: &Bound<'_, Self>) -> PyResult<()> {
        let (py, watch) = (slf.py(), &slf.get().watch);
        let fired = watch.lock().timer.take();
        drop(fired);
        let deadline = watch.deadline.load(Ordering::Acquire);
        if deadline == NEVER {
            return Ok(());
        }
        if watch.shared.now(py).saturating_add(EARLY) < deadline {
            return watch.arm(slf, deadline);
        }
        watch.expired.store(true, Ordering::Release);
        let task = watch.lock().task.clone_ref(py);
        task.bind(py).call_method0(intern!(py, "cancel"))?;
        Ok(())
    }
}

impl Watch {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arm(&self, expiry: &Bound<'_, Expiry>, deadline: Time) -> PyResult<()> {
        let py = expiry.py();
        let wait = seconds(deadline.saturating_sub(self.shared.now(py)));
        let event_loop = self.shared.event_loop(py);
        let timer = event_loop.call_method1(intern!(py, "call_later"), (wait, expiry))?;
        let before = self.lock().timer.replace((deadline, timer.unbind()));
        cancel(py, before)
    }
}

fn cancel(py: Python<'_>, timer: Option<(Time, Py<PyAny>)>) -> PyResult<()> {
    if let Some((_, timer)) = timer {
        timer.bind(py).call_method0(intern!(py, "cancel"))?;
    }
    Ok(())
}

impl TimeLimit {
    /// The attempt that has just suspended in `task` must end by `deadline`.
    pub(crate) fn begin(
        &mut self,
        shared: &Arc<Shared>,
        task: &Bound<'_, PyAny>,
        deadline: Time,
    ) -> PyResult<()> {
        let py = task.py();
        let watch = match &self.watch {
            Some(watch) => watch,
            None => self.watch.insert(Arc::new(Watch {
                shared: Arc::clone(shared),
                deadline: AtomicU64::new(NEVER),
                expired: AtomicBool::new(false),
                held: Mutex::new(Held {
                    task: task.clone().unbind(),
                    timer: None,
                }),
            })),
        };
        watch.expired.store(false, Ordering::Release);
        watch.deadline.store(deadline, Ordering::Release);
        let (before, armed) = {
            let mut held = watch.lock();
            let before =
                (!held.task.is(task)).then(|| std::mem::replace(&mut held.task, task.clone().unbind()));
            (
                before,
                held.timer.as_ref().is_some_and(|(fires, _)| *fires <= deadline),
            )
        };
        drop(before);
        if armed {
            return Ok(());
        }
        let expiry = Expiry {
            watch: Arc::clone(watch),
        };
        watch.arm(&Bound::new(py, expiry)?, deadline)
    }

    /// Whether the attempt's time is up.
    pub(crate) fn has_expired(&self) -> bool {
        let watch = self.watch.as_ref();
        watch.is_some_and(|watch| watch.expired.load(Ordering::Acquire))
    }

    /// The attempt has ended; tells whether its time was up.
    pub(crate) fn end(&self) -> bool {
        let Some(watch) = &self.watch else {
            return false;
        };
        watch.deadline.store(NEVER, Ordering::Release);
        watch.expired.swap(false, Ordering::AcqRel)
    }

    /// No attempt follows.
    pub(crate) fn close(&self, py: Python<'_>) -> PyResult<()> {
        let Some(watch) = &self.watch else {
            return Ok(());
        };
        watch.deadline.store(NEVER, Ordering::Release);
        let timer = watch.lock().timer.take();
        cancel(py, timer)
    }

    /// Tells the garbage collector of what is held.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The lock is never held while Python runs, so the collector finds it free.
        let Some(Ok(held)) = self.watch.as_ref().map(|watch| watch.held.try_lock()) else {
            return Ok(());
        };
        visit.call(&held.task)?;
        match &held.timer {
            Some((_, timer)) => visit.call(timer),
            None => Ok(()),
        }
    }
}
