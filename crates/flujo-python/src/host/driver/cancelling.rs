//! How a driver is made to stop: by a cancellation of the task that drives it, or because `runner.cancel` asks for the end
//! of the run. The coroutine under way is told and awaited, but only so long.

use pyo3::intern;
use pyo3::prelude::*;

use super::{Awaited, Driver, Resume};
use crate::host::call::{Pending, Reader};
use crate::host::clock::seconds;
use crate::host::domain::Event;
use crate::host::interrupt::Overdue;
use crate::host::names;
use flujo_core::machine::Time;
use flujo_core::usage::Usage;

/// The time that a call which was cancelled has to end.
pub(super) struct Grace {
    pub(super) timer: Py<PyAny>,
    /// How often the task had been cancelled when it began; None where `runner.cancel` ends the run.
    thrown_at: Option<i64>,
}

impl Driver {
    /// Whether `runner.cancel` has asked for the end of the run and nothing has come of it yet.
    pub(super) fn is_to_be_called_off(&self) -> bool {
        !self.called_off && self.interrupt.is_requested()
    }

    /// Takes in that `runner.cancel` has asked for the end of the run. A cancellation of the caller's own task goes before
    /// it.
    pub(super) fn call_off(&mut self, py: Python<'_>, resume: Resume) -> PyResult<Resume> {
        if !self.is_to_be_called_off() {
            return Ok(resume);
        }
        self.called_off = true;
        let own = match &self.awaited {
            Awaited::Call(pending) => self.cancels_of_limit(pending),
            _ => 0,
        };
        let by_hand = i64::from(self.cancellation.is_some());
        if cancels_of(&self.task(py)?)?.unwrap_or(by_hand) > own {
            if let (None, Resume::Throw(error)) = (&self.cancellation, &resume) {
                self.cancellation = Some(error.clone_ref(py));
            }
        } else {
            self.cancellation = None;
        }
        Ok(match resume {
            Resume::Next if self.cancellation.is_none() => {
                Resume::Throw(PyErr::from_value(names::cancelled_error(py)?.call0()?))
            }
            resume => resume,
        })
    }

    /// How often the task is cancelled where nobody but the call's time limit has cancelled it since that began.
    fn cancels_of_limit(&self, pending: &Pending) -> i64 {
        pending.limit_from.unwrap_or(0) + i64::from(self.time_limit.has_expired())
    }

    /// A call into which a cancellation has just been thrown goes on: from now on it has so long to end.
    pub(super) fn begin_grace(&mut self, py: Python<'_>, pending: &Pending) -> PyResult<()> {
        let Some(thrown_at) = pending.thrown_at else {
            return Ok(());
        };
        let thrown_at = (!self.called_off).then_some(thrown_at);
        let begun = match (self.grace.as_ref().map(|grace| grace.thrown_at), thrown_at) {
            (Some(Some(before)), Some(now)) => before < now,
            (Some(Some(before)), None) => self.cancel_count(py)? >= before,
            (Some(None), _) => true,
            (None, _) => false,
        };
        if begun {
            return Ok(());
        }
        self.end_grace(py)?;
        // The time limit's own cancellation ends an attempt, not the run.
        if thrown_at.is_some_and(|thrown_at| thrown_at <= self.cancels_of_limit(pending)) {
            return Ok(());
        }
        let Ok(grace) = Time::try_from(self.shared.grace().as_nanos()) else {
            return Ok(());
        };
        let task = match thrown_at {
            Some(times) => Some((self.task(py)?.unbind(), times)),
            None => None,
        };
        let overdue = Overdue {
            interrupt: self.interrupt.clone(),
            task,
        };
        let event_loop = self.shared.event_loop(py);
        let timer = event_loop.call_method1(
            intern!(py, "call_later"),
            (seconds(grace), Bound::new(py, overdue)?),
        )?;
        self.grace = Some(Grace {
            timer: timer.unbind(),
            thrown_at,
        });
        Ok(())
    }

    /// The call has ended, in time or not.
    pub(super) fn end_grace(&mut self, py: Python<'_>) -> PyResult<()> {
        if let Some(grace) = self.grace.take() {
            grace.timer.bind(py).call_method0(intern!(py, "cancel"))?;
        }
        self.interrupt.settle();
        Ok(())
    }

    /// Ends a call that has had its time: its coroutine is closed, and what it does from now on reaches nothing.
    pub(super) fn cut_off(&mut self, py: Python<'_>, pending: &Pending) -> PyResult<Event> {
        self.end_grace(py)?;
        if pending.limit_from.is_some() && self.time_limit.end() {
            self.task(py)?.call_method0(intern!(py, "uncancel"))?;
        }
        let name = match &pending.reader {
            Reader::Callable(spec) => spec.name.as_str(),
            Reader::NextItem => "an iterator of items",
            Reader::Hooks(_) => "a hook",
            Reader::Aside(_) => "work on a context",
            Reader::Cache(_) => "a look into the cache",
        };
        names::report_cut_off(py)?.call1((name, self.shared.grace().as_secs_f64()))?;
        // What a coroutine does on being closed is its own; nobody is left to be told.
        let _ = pending.coroutine.bind(py).call_method0(intern!(py, "close"));
        let (call, at) = (pending.call, self.shared.now(py));
        self.take_event(py, Event::Cancel { at });
        Ok(Event::TimedOut {
            call,
            usage: Usage::ZERO,
            at,
        })
    }

    pub(super) fn task<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        names::current_task(py)?.call1((self.shared.event_loop(py),))
    }

    /// How often the task that drives this has been asked to cancel and not been released from it.
    pub(super) fn cancel_count(&self, py: Python<'_>) -> PyResult<i64> {
        Ok(cancels_of(&self.task(py)?)?.unwrap_or(1))
    }

    /// A cancellation that arrived while no call was under way.
    pub(super) fn cancel(&mut self, py: Python<'_>, error: PyErr) -> PyResult<()> {
        if !error.is_instance(py, names::cancelled_error(py)?) {
            return Err(error);
        }
        if !self.called_off {
            self.cancellation.get_or_insert(error);
        }
        let at = self.shared.now(py);
        self.take_event(py, Event::Cancel { at });
        Ok(())
    }
}

/// How often a task has been asked to cancel and not been released from it; None where there is no task.
pub(super) fn cancels_of(task: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
    if task.is_none() {
        return Ok(None);
    }
    let cancels = task.call_method0(intern!(task.py(), "cancelling"))?;
    Ok(Some(cancels.extract()?))
}
