//! What leaves the coroutine of a run that has ended, or that stands still.

use std::sync::Arc;

use flujo_core::machine::{Outcome, Stop};
use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::{Leaves, UnderWay, posted};
use crate::host::context::ContextCell;
use crate::host::domain::Finish;
use crate::host::engine::was_cancelled;
use crate::host::keeping::{self, LogOf, wall};
use crate::host::paused::PausedRun;
use crate::host::shared::Shared;
use crate::host::usage::limit_error;
use crate::host::{names, parked, record};
use crate::vectorcall;

pub(super) fn reset_place(py: Python<'_>, token: Py<PyAny>) -> PyResult<()> {
    // A run that was handed from one context to another keeps the variable where it was set.
    let _ = names::place_variable(py)?.call_method1(intern!(py, "reset"), (token,));
    Ok(())
}

/// What leaves the coroutine when the run stands still: its result so far as `StopIteration`, or why an answer was not
/// taken.
pub(super) fn park(py: Python<'_>, under_way: UnderWay) -> PyResult<Leaves> {
    let UnderWay {
        driver,
        began,
        named,
        paused,
        place_token,
        ..
    } = under_way;
    reset_place(py, place_token)?;
    let shared = Arc::clone(&driver.shared);
    let stopped = shared.now(py);
    let parked = driver.park(py)?;
    let mut finish = parked.so_far();
    let written = match &shared.journal {
        Some(journal) => Some(keeping::stands_still(py, journal, &parked, &finish, stopped)?),
        None => None,
    };
    let written = written
        .transpose()
        .map_err(|error| shared.store_error(py, &error))?;
    let log = shared.journal.as_deref().map(LogOf::of);
    let pauses = PyList::empty(py);
    let mut refused = None;
    for open in parked.open() {
        pauses.append(parked::shown(py, &shared.plan, &open.id, open.question)?)?;
        let answered = paused
            .as_ref()
            .is_some_and(|(_, answered)| answered.contains(&open.id));
        if let (true, None, Some(failure)) = (answered, &refused, &open.question.rejected) {
            refused = Some(Arc::clone(failure));
        }
    }
    let context = names::mark_paused(py)?.call1((finish.context.plain(py)?, &pauses))?;
    finish.context = Arc::new(ContextCell::given(&context)?);
    let paused = if let Some((paused, _)) = paused {
        paused.get().park(parked, stopped, log);
        paused.into_bound(py)
    } else {
        let run_id = shared.run_id_in(&context)?.unbind();
        let paused = Bound::new(py, PausedRun::new(&shared, run_id, began, stopped, parked))?;
        shared.engine.paused.add(&paused, named)?;
        paused
    };
    let result = record::paused_result(&paused, &shared, finish, pauses)?;
    shared.ended(py, &result, false)?;
    let Some(failure) = refused else {
        let error = PyStopIteration::new_err((result.unbind(),));
        return Ok(Leaves { error, written });
    };
    let error = (
        failure.error.as_deref(),
        &*failure.error_type,
        &*failure.message,
        &result,
    );
    let error = PyErr::from_value(names::fatal_error(py)?.call1(error)?);
    Ok(Leaves { error, written })
}

/// What leaves the coroutine when the run has ended: its result as `StopIteration`, or an exception.
pub(super) fn end(py: Python<'_>, under_way: UnderWay, mut finish: Box<Finish>) -> PyResult<Leaves> {
    let UnderWay {
        driver,
        began,
        named,
        paused,
        counted,
        place_token,
        ..
    } = under_way;
    let shared = &driver.shared;
    reset_place(py, place_token)?;
    let now = shared.now(py);
    shared.record(&finish, (began, now), counted);
    shared.measure_memory(py)?;
    posted::take_cancels(shared);
    let kept = shared.journal.as_ref().zip(shared.engine.keeping.as_ref());
    let written = kept.map(|(journal, keeping)| {
        let pipeline = shared.plan.plan.name();
        keeping.runs.end(journal, pipeline, &finish, wall())
    });
    let written = written
        .transpose()
        .map_err(|error| shared.store_error(py, &error))?;
    let stopped = match (finish.kept.take(), paused) {
        (Some(kept), Some((paused, _))) => {
            let log = shared.journal.as_deref().map(LogOf::of);
            paused.get().stop(&finish, kept, now, log);
            Some(paused.into_bound(py))
        }
        (Some(kept), None) => {
            let run_id = shared.run_id_in(&finish.context.object(py)?)?.unbind();
            let stopped = PausedRun::stopped_by(shared, run_id, (began, now), &finish, kept);
            let stopped = Bound::new(py, stopped)?;
            // What somebody cancels is done with as a rule: whoever holds its result may go on all the same.
            let limited = matches!(finish.outcome, Outcome::Stopped(Stop::LimitExceeded(_)));
            shared.engine.paused.add(&stopped, named && limited)?;
            Some(stopped)
        }
        (None, Some((paused, _))) => {
            paused.get().end(finish.outcome.name());
            shared.engine.paused.release(paused.bind(py))?;
            None
        }
        (None, None) => None,
    };
    if stopped.is_some() {
        finish.history.set_apart();
    }
    let finish: Arc<Finish> = Arc::from(finish);
    let result = result(py, shared, &finish, stopped.as_ref())?;
    let cancelled = was_cancelled(&finish);
    let called_off = cancelled && driver.called_off && driver.cancellation.is_none();
    shared.ended(py, &result, called_off)?;
    let error = if let (true, Some(error)) = (cancelled, driver.cancellation.as_ref()) {
        let error = error.clone_ref(py);
        error.value(py).setattr(intern!(py, "flujo_result"), result)?;
        error
    } else if called_off {
        let told = (shared.run_id(py)?, result);
        PyErr::from_value(names::run_cancelled(py)?.call1(told)?)
    } else {
        leaving(py, &finish, &result)?
    };
    Ok(Leaves { error, written })
}

/// What leaves the coroutine of a run that had ended in the store.
pub(super) fn ended_before(
    py: Python<'_>,
    shared: &Arc<Shared>,
    mut finish: Box<Finish>,
    log: LogOf,
) -> PyResult<PyErr> {
    let stopped = match finish.kept.take() {
        Some(kept) => {
            let (run_id, at) = (shared.run_id(py)?.unbind(), kept.now());
            let stopped = PausedRun::stopped_by(shared, run_id, (0, at), &finish, kept);
            stopped.set_log(log);
            let stopped = Bound::new(py, stopped)?;
            shared.engine.paused.add(&stopped, true)?;
            Some(stopped)
        }
        None => None,
    };
    let finish: Arc<Finish> = Arc::from(finish);
    let result = result(py, shared, &finish, stopped.as_ref())?;
    shared.ended(py, &result, false)?;
    leaving(py, &finish, &result)
}

fn result<'py>(
    py: Python<'py>,
    shared: &Shared,
    finish: &Arc<Finish>,
    stopped: Option<&Bound<'py, PausedRun>>,
) -> PyResult<Bound<'py, PyAny>> {
    let result = record::pipeline_result(py, shared, Arc::clone(finish))?;
    if let Some(stopped) = stopped {
        vectorcall::set_plainly(&result, intern!(py, "__flujo_paused__"), stopped)?;
    }
    Ok(result)
}

/// The result as `StopIteration`, or the exception that a run ends with.
fn leaving(py: Python<'_>, finish: &Finish, result: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    match &finish.outcome {
        Outcome::Stopped(Stop::LimitExceeded(breach)) => limit_error(py, breach, Some(result)),
        Outcome::Stopped(Stop::Fatal(failure)) => {
            let error = failure.error.as_deref();
            let fatal = (error, &*failure.error_type, &*failure.message, result);
            Ok(PyErr::from_value(names::fatal_error(py)?.call1(fatal)?))
        }
        _ => Ok(PyStopIteration::new_err((result.clone().unbind(),))),
    }
}
