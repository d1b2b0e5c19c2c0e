//! Work on contexts beside the event loop. It is tried on the loop's own thread with a bound, which is all that most
//! contexts need; what turns out larger begins anew in a worker thread that gives up the interpreter every few
//! milliseconds. Work on a cancelled run ends early and writes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use flujo_core::config::contained;
use flujo_core::machine::Time;
use pyo3::PyTraverseError;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::{PyDict, PyTuple};

use super::call::{self, Begun, Pending, Reader};
use super::domain::Event;
use super::shared::Shared;
use super::{answer, names};
use crate::context::{self as view, MergeStrategy, Pace, Ticket};

/// What is to be done.
pub(crate) enum Work {
    /// Prepares an attempt's view for its commit.
    Settle(Py<PyAny>),
    /// Merges the views of lanes into the context they were forked from.
    Merge {
        base: Py<PyAny>,
        lanes: Vec<(String, Py<PyAny>)>,
        strategy: MergeStrategy,
    },
}

impl Work {
    /// A panic in it is the failure of the step.
    fn perform(&self, py: Python<'_>, pace: &Pace<'_>) -> PyResult<()> {
        let done = contained(|| match self {
            Self::Settle(context) => view::settle(context.bind(py), pace),
            Self::Merge {
                base,
                lanes,
                strategy,
            } => view::merge(base.bind(py), lanes, *strategy, pace),
        });
        done.unwrap_or_else(|reason| Err(PyRuntimeError::new_err(reason)))
    }

    fn visit(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Settle(context) => visit.call(context),
            Self::Merge { base, lanes, .. } => {
                visit.call(base)?;
                lanes.iter().try_for_each(|(_, lane)| visit.call(lane))
            }
        }
    }
}

/// What a worker thread calls.
#[pyclass(module = "flujo._native", frozen)]
struct Job {
    work: Arc<Work>,
    ticket: Arc<Ticket>,
}

#[pymethods]
impl Job {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        self.ticket.work(|pace| self.work.perform(py, pace))
    }
}

/// Work that a worker thread does. Letting go of it ends the work.
pub(crate) struct Aside {
    work: Arc<Work>,
    ticket: Arc<Ticket>,
    /// What the machine is told when it is done.
    event: Option<Event>,
    workers: Py<PyAny>,
    /// Its result's.
    future: Py<PyAny>,
}

impl Aside {
    /// Tells the garbage collector of the contexts that are worked on.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.work.visit(visit)?;
        visit.call(&self.workers)?;
        visit.call(&self.future)
    }

    /// The event of work that has ended.
    pub(crate) fn ended(&mut self, py: Python<'_>, shared: &Shared, result: PyResult<()>) -> PyResult<Event> {
        match self.event.take() {
            Some(event) => outcome(py, shared, &self.work, event, result),
            None => Err(answer::refuse("work on a context that ended twice")),
        }
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        Python::attach(|py| {
            if self.ticket.withdraw(py) {
                let left = names::leave_worker(py)
                    .and_then(|leave| leave.call1((&self.workers, &self.future, "a field's merge rule")));
                if let Err(error) = left {
                    error.write_unraisable(py, None);
                }
            }
        });
    }
}

/// Does the work, here or in a worker thread, by `deadline`; the machine is then told of `event`, an answer.
pub(crate) fn begin(
    py: Python<'_>,
    shared: &Arc<Shared>,
    work: Work,
    event: Event,
    deadline: Option<Time>,
) -> PyResult<Begun> {
    let pace = Pace::inline();
    let tried = work.perform(py, &pace);
    if tried.is_ok() || !pace.too_large() {
        return Ok(Begun::Ended(outcome(py, shared, &work, event, tried)?));
    }
    let Event::Answered { call, .. } = event else {
        return Ok(Begun::Ended(event));
    };
    let (work, ticket) = (Arc::new(work), Arc::<Ticket>::default());
    let job = Job {
        work: Arc::clone(&work),
        ticket: Arc::clone(&ticket),
    };
    let request = (
        shared.workers(py),
        shared.event_loop(py),
        Bound::new(py, job)?,
        PyTuple::empty(py),
        PyDict::new(py),
    );
    let future = match names::submit_to_worker(py)?.call1(request) {
        Ok(future) => future,
        // There is no thread for it: here then, however long it takes.
        Err(error) if error.is_instance_of::<PyRuntimeError>(py) => {
            let done = work.perform(py, &Pace::brief());
            return Ok(Begun::Ended(outcome(py, shared, &work, event, done)?));
        }
        Err(error) => return Err(error),
    };
    let aside = Aside {
        work,
        ticket,
        event: Some(event),
        workers: shared.workers(py).clone().unbind(),
        future: future.clone().unbind(),
    };
    let Some(coroutine) = call::awaitable(&future)? else {
        return Err(answer::refuse("a worker without a future"));
    };
    let pending = Pending::new(call, deadline, Reader::Aside(aside), coroutine.unbind());
    Ok(Begun::UnderWay(Box::new(pending)))
}

/// Prepares the context that an answer brings along for its commit, which the machine asks for in one piece.
pub(crate) fn settled(py: Python<'_>, shared: &Arc<Shared>, event: Event) -> PyResult<Begun> {
    let Event::Answered {
        context: Some(cell), ..
    } = &event
    else {
        return Ok(Begun::Ended(event));
    };
    match cell.unsettled(py)? {
        Some(context) => begin(py, shared, Work::Settle(context.clone_ref(py)), event, None),
        None => Ok(Begun::Ended(event)),
    }
}

fn outcome(
    py: Python<'_>,
    shared: &Shared,
    work: &Work,
    mut event: Event,
    result: PyResult<()>,
) -> PyResult<Event> {
    let Event::Answered { call, at, .. } = &mut event else {
        return Ok(event);
    };
    match (work, result) {
        (Work::Merge { .. }, Err(error)) => {
            shared.engine.contexts.conflicts.fetch_add(1, Ordering::Relaxed);
            call::failed(py, shared, *call, None, error)
        }
        // The commit meets what is wrong with the data again, and reports it.
        (Work::Settle(_), _) | (_, Ok(())) => {
            *at = shared.now(py);
            Ok(event)
        }
    }
}
