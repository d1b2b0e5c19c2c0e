//! What leaves the coroutine of a run that has ended, or that stands still.

use std::sync::Arc;

use flujo_core::machine::{Outcome, Stop};
use pyo3::exceptions::PyStopIteration;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::UnderWay;
use crate::host::context::ContextCell;
use crate::host::domain::Finish;
use crate::host::engine::was_cancelled;
use crate::host::paused::PausedRun;
use crate::host::usage::limit_error;
use crate::host::{names, parked, record};
use crate::vectorcall;

fn reset_place(py: Python<'_>, token: Py<PyAny>) -> PyResult<()> {
    // A run that was handed from one context to another keeps the variable where it was set.
    let _ = names::place_variable(py)?.call_method1(intern!(py, "reset"), (token,));
    Ok(())
}

/// What leaves the coroutine when the run stands still: its result so far as `StopIteration`, or why an answer was not
/// taken.
pub(super) fn park(py: Python<'_>, under_way: UnderWay) -> PyResult<PyErr> {
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
        paused.get().park(parked, stopped);
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
        return Ok(PyStopIteration::new_err((result.unbind(),)));
    };
    let error = (
        failure.error.as_ref(),
        &*failure.error_type,
        &*failure.message,
        &result,
    );
    Ok(PyErr::from_value(names::fatal_error(py)?.call1(error)?))
}

/// What leaves the coroutine when the run has ended: its result as `StopIteration`, or an exception.
pub(super) fn end(py: Python<'_>, under_way: UnderWay, mut finish: Box<Finish>) -> PyResult<PyErr> {
    let UnderWay {
        driver,
        began,
        named,
        paused,
        counted,
        place_token,
    } = under_way;
    let shared = &driver.shared;
    reset_place(py, place_token)?;
    let now = shared.now(py);
    shared.record(&finish, (began, now), counted);
    shared.measure_memory(py)?;
    let stopped = match (finish.kept.take(), paused) {
        (Some(kept), Some((paused, _))) => {
            paused.get().stop(&finish, kept, now);
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
    let finish: Arc<Finish> = Arc::from(finish);
    let result = record::pipeline_result(py, shared, Arc::clone(&finish))?;
    if let Some(stopped) = &stopped {
        vectorcall::set_plainly(&result, intern!(py, "__flujo_paused__"), stopped)?;
    }
    let cancelled = was_cancelled(&finish);
    let called_off = cancelled && driver.called_off && driver.cancellation.is_none();
    shared.ended(py, &result, called_off)?;
    if let (true, Some(error)) = (cancelled, driver.cancellation.as_ref()) {
        let error = error.clone_ref(py);
        error.value(py).setattr(intern!(py, "flujo_result"), result)?;
        return Ok(error);
    }
    if called_off {
        let told = (shared.run_id(py)?, result);
        return Ok(PyErr::from_value(names::run_cancelled(py)?.call1(told)?));
    }
    match &finish.outcome {
        Outcome::Stopped(Stop::LimitExceeded(breach)) => limit_error(py, breach, Some(result.as_any())),
        Outcome::Stopped(Stop::Fatal(failure)) => {
            let error = failure.error.as_ref();
            let fatal = (error, &*failure.error_type, &*failure.message, result);
            Ok(PyErr::from_value(names::fatal_error(py)?.call1(fatal)?))
        }
        _ => Ok(PyStopIteration::new_err((result.unbind(),))),
    }
}
