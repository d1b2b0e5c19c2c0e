//! Telling hooks, one after the other. What a hook raises is logged and the run goes on, unless it is the signal to
//! abort.

use std::sync::Arc;

use flujo_core::machine::{CallId, HookPoint, Input, Time};
use pyo3::PyTraverseError;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

use super::call::{Begun, Pending, Reader, awaitable};
use super::domain::{Answer, Call, Event, Finish, Machine};
use super::payload::payload;
use super::shared::Shared;
use super::{failure, names, parked, record};
use crate::vectorcall::{self, Sent};

/// Hooks of a runner with the points each wants to hear of.
pub(crate) struct Hook {
    pub(crate) function: Py<PyAny>,
    /// Bits of [`bit`].
    pub(crate) points: u8,
}

pub(crate) fn bit(point: HookPoint) -> u8 {
    match point {
        HookPoint::PreRun => 1,
        HookPoint::PreStep => 2,
        HookPoint::PostStep => 4,
        HookPoint::OnStepFailure => 8,
        HookPoint::PostRun => 16,
        HookPoint::PauseRequested => 32,
    }
}

/// Hooks that are being told of one thing.
pub(crate) struct Telling {
    payload: Py<PyAny>,
    point: HookPoint,
    next: usize,
}

impl Telling {
    /// Tells the garbage collector of what is held.
    pub(crate) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.payload)
    }
}

pub(crate) fn begin(
    py: Python<'_>,
    shared: &Arc<Shared>,
    machine: &Machine,
    call: &Call,
    point: HookPoint,
) -> PyResult<Begun> {
    if !shared.hooks().iter().any(|hook| hook.points & bit(point) != 0) {
        return Ok(ended(py, shared, call.call, Answer::Done));
    }
    let (input, result) = match &call.input {
        Input::Record {
            record: Some(record), ..
        } => (
            None,
            Some(record::snapshot(py, &shared.plan, machine.history(), *record)?),
        ),
        Input::Record { record: None, input } => (input.as_ref().map(|input| input.bind(py).clone()), None),
        Input::Outcome(outcome) => {
            let finish = Finish {
                outcome: (**outcome).clone(),
                context: Arc::clone(machine.context()),
                history: machine.history().clone(),
                usage: machine.usage(),
                kept: None,
            };
            (None, Some(record::pipeline_result(py, shared, Arc::new(finish))?))
        }
        Input::Pause(question) => {
            let id = machine.question_id(question.node, question.pause);
            (None, Some(parked::shown(py, &shared.plan, &id, question)?))
        }
        _ => (None, None),
    };
    let payload = payload(py, shared, call, point, input, result);
    let payload = match payload {
        Ok(payload) => payload.unbind(),
        Err(error) => {
            report(py, &error, point)?;
            return Ok(ended(py, shared, call.call, Answer::Done));
        }
    };
    let telling = Telling {
        payload,
        point,
        next: 0,
    };
    advance(py, shared, (call.call, call.deadline), telling)
}

/// The hook that was awaited has ended: the next ones are called.
pub(crate) fn go_on(
    py: Python<'_>,
    shared: &Arc<Shared>,
    call: (CallId, Option<Time>),
    telling: Telling,
    result: PyResult<()>,
) -> PyResult<Begun> {
    if let Err(error) = result
        && let Some(answer) = aborts(py, error, telling.point)?
    {
        return Ok(ended(py, shared, call.0, answer));
    }
    advance(py, shared, call, telling)
}

/// Calls the next hooks until one has to be awaited or all have been told.
fn advance(
    py: Python<'_>,
    shared: &Arc<Shared>,
    (call, deadline): (CallId, Option<Time>),
    mut telling: Telling,
) -> PyResult<Begun> {
    let point = telling.point;
    while let Some(hook) = shared.hooks().get(telling.next) {
        telling.next += 1;
        if hook.points & bit(point) == 0 {
            continue;
        }
        match tell(hook.function.bind(py), telling.payload.bind(py)) {
            Ok(None) => {}
            Ok(Some((coroutine, future))) => {
                let reader = Reader::Hooks(telling);
                let pending = Pending::new(call, deadline, reader, coroutine.unbind());
                return Ok(Begun::Waiting(Box::new(pending), future.unbind()));
            }
            Err(error) => {
                if let Some(answer) = aborts(py, error, point)? {
                    return Ok(ended(py, shared, call, answer));
                }
            }
        }
    }
    Ok(ended(py, shared, call, Answer::Done))
}

/// Calls one hook; gives its coroutine and what that waits for, unless it has ended.
#[allow(clippy::type_complexity)]
fn tell<'py>(
    hook: &Bound<'py, PyAny>,
    payload: &Bound<'py, PyAny>,
) -> PyResult<Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    let Some(coroutine) = awaitable(&hook.call1((payload,))?)? else {
        return Ok(None);
    };
    match vectorcall::send(&coroutine)? {
        Sent::Returned(_) => Ok(None),
        Sent::Yielded(future) => Ok(Some((coroutine, future))),
    }
}

fn ended(py: Python<'_>, shared: &Shared, call: CallId, answer: Answer) -> Begun {
    Begun::Ended(Event::Answered {
        call,
        answer,
        context: None,
        at: shared.now(py),
    })
}

/// What a hook's exception means: the end of the run, or a line in the log.
fn aborts(py: Python<'_>, error: PyErr, point: HookPoint) -> PyResult<Option<Answer>> {
    if failure::ends_everything(py, &error) {
        return Err(error);
    }
    if let Some(answer) = failure::control_flow(py, &error)? {
        return Ok(Some(answer));
    }
    if error.is_instance_of::<PyException>(py) {
        report(py, &error, point)?;
    }
    Ok(None)
}

fn report(py: Python<'_>, error: &PyErr, point: HookPoint) -> PyResult<()> {
    names::report_hook_error(py)?.call1((point_name(point), error.value(py)))?;
    Ok(())
}

fn point_name(point: HookPoint) -> &'static str {
    match point {
        HookPoint::PreRun => "pre_run",
        HookPoint::PreStep => "pre_step",
        HookPoint::PostStep => "post_step",
        HookPoint::OnStepFailure => "on_step_failure",
        HookPoint::PostRun => "post_run",
        HookPoint::PauseRequested => "on_pause_requested",
    }
}
