//! Telling hooks, one after the other. What a hook raises is logged and the run goes on, unless it is the signal to
//! abort.

use std::sync::Arc;

use flujo_core::machine::{HookPoint, Input};
use pyo3::PyTraverseError;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;

use super::call::{Begun, Pending, Reader, awaitable};
use super::domain::{Answer, Call, Event, Finish, Machine};
use super::payload::payload;
use super::shared::Shared;
use super::{failure, names, parked, record};

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
    let answered = |answer, at| {
        Begun::Ended(Event::Answered {
            call: call.call,
            answer,
            context: None,
            at,
        })
    };
    if !shared.hooks().iter().any(|hook| hook.points & bit(point) != 0) {
        return Ok(answered(Answer::Done, shared.now(py)));
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
            let id = parked::pause_id(machine, question);
            (None, Some(parked::shown(py, &shared.plan, &id, question)?))
        }
        _ => (None, None),
    };
    let payload = payload(py, shared, call, point, input, result);
    let payload = match payload {
        Ok(payload) => payload.unbind(),
        Err(error) => {
            report(py, &error, point)?;
            return Ok(answered(Answer::Done, shared.now(py)));
        }
    };
    let pending = Pending {
        call: call.call,
        reader: Reader::Hooks(Telling {
            payload,
            point,
            next: 0,
        }),
        coroutine: py.None(),
        context: None,
        deadline: call.deadline,
        limit_from: None,
        thrown_at: None,
        worker: None,
    };
    advance(py, shared, Box::new(pending))
}

/// Calls the next hooks until one has to be awaited or all have been told.
pub(crate) fn advance(py: Python<'_>, shared: &Arc<Shared>, mut pending: Box<Pending>) -> PyResult<Begun> {
    let Reader::Hooks(telling) = &mut pending.reader else {
        return Ok(Begun::UnderWay(pending));
    };
    let point = telling.point;
    while let Some(hook) = shared.hooks().get(telling.next) {
        telling.next += 1;
        if hook.points & bit(point) == 0 {
            continue;
        }
        let outcome = hook.function.bind(py).call1((&telling.payload,));
        let outcome = outcome.and_then(|result| awaitable(&result));
        match outcome {
            Ok(Some(coroutine)) => {
                pending.coroutine = coroutine.unbind();
                return Ok(Begun::UnderWay(pending));
            }
            Ok(None) => {}
            Err(error) => {
                if let Some(answer) = aborts(py, error, point)? {
                    let (call, at) = (pending.call, shared.now(py));
                    return Ok(Begun::Ended(Event::Answered {
                        call,
                        answer,
                        context: None,
                        at,
                    }));
                }
            }
        }
    }
    let (call, at) = (pending.call, shared.now(py));
    Ok(Begun::Ended(Event::Answered {
        call,
        answer: Answer::Done,
        context: None,
        at,
    }))
}

/// What a hook's exception means: the end of the run, or a line in the log.
pub(crate) fn aborts(py: Python<'_>, error: PyErr, point: HookPoint) -> PyResult<Option<Answer>> {
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

pub(crate) fn point_of(telling: &Telling) -> HookPoint {
    telling.point
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
