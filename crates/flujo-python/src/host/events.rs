//! Telling whoever listens to a run, as it happens. A run that nobody listens to tells nobody and pays nothing.

use std::sync::Arc;

use flujo_core::machine::{History, LanePlace, NoticeKind};
use flujo_core::plan::NodeId;
use pyo3::intern;
use pyo3::prelude::*;

use super::domain::{Machine, Notice, Python3};
use super::parked::{self, Question};
use super::shared::Shared;
use super::{names, place, record};

/// Tells of what happened to a step.
pub(crate) fn tell(
    py: Python<'_>,
    shared: &Shared,
    lane: Option<&Arc<LanePlace>>,
    history: &History<Python3>,
    notice: &Notice,
) -> PyResult<()> {
    if shared.plan.plan.node(notice.node).inner {
        // A construct that a step works with is told of with the step.
        return Ok(());
    }
    let kind = match &notice.kind {
        NoticeKind::StepStarted => "step_started",
        NoticeKind::AttemptStarted => "attempt_started",
        NoticeKind::AttemptFailed(_) => "attempt_failed",
        NoticeKind::Resumed => "resumed",
        NoticeKind::StepFinished => "step_finished",
        NoticeKind::StepFailed(_) | NoticeKind::StepStopped { .. } => "step_failed",
        // The fallback is a step with events of its own; a question is told when it is put.
        NoticeKind::FallbackStarted | NoticeKind::CacheHit(_) | NoticeKind::Paused => return Ok(()),
    };
    let data = match &notice.kind {
        NoticeKind::AttemptFailed(failure) => Some(failure.to_string().into_pyobject(py)?.into_any()),
        NoticeKind::StepFinished | NoticeKind::StepFailed(_) | NoticeKind::StepStopped { .. } => {
            Some(record::snapshot(py, &shared.plan, history, notice.record)?)
        }
        _ => None,
    };
    say(py, shared, kind, lane, (notice.node, notice.attempt), data)
}

/// Writes what happened to a step into the log.
pub(crate) fn log(
    py: Python<'_>,
    shared: &Shared,
    lane: Option<&Arc<LanePlace>>,
    notice: &Notice,
) -> PyResult<()> {
    let (kind, failure) = match &notice.kind {
        NoticeKind::StepStarted => ("step_started", None),
        NoticeKind::AttemptStarted => ("attempt_started", None),
        NoticeKind::AttemptFailed(failure) => ("attempt_failed", Some(failure)),
        NoticeKind::CacheHit(_) => ("cache_hit", None),
        NoticeKind::FallbackStarted => ("fallback_started", None),
        NoticeKind::Paused => ("paused", None),
        NoticeKind::Resumed => ("resumed", None),
        NoticeKind::StepFinished => ("step_finished", None),
        NoticeKind::StepFailed(failure) => ("step_failed", Some(failure)),
        NoticeKind::StepStopped { .. } => ("step_stopped", None),
    };
    let plan = &shared.plan.plan;
    let place = (&*plan.node(notice.node).path, place::lane_path(plan, lane));
    let error = failure.map(|failure| &*failure.error_type);
    let told = (kind, shared.run_id(py)?, place.0, place.1, notice.attempt, error);
    names::log(py)?.call1(told)?;
    Ok(())
}

/// Tells of a question that is put.
pub(crate) fn paused(
    py: Python<'_>,
    shared: &Shared,
    machine: &Machine,
    question: &Question,
) -> PyResult<()> {
    if shared.listener.is_none() {
        return Ok(());
    }
    let id = machine.question_id(question.node, question.pause);
    let data = parked::shown(py, &shared.plan, &id, question)?;
    say(
        py,
        shared,
        "paused",
        machine.lane(),
        (question.node, 0),
        Some(data),
    )
}

/// Tells of an alert.
pub(crate) fn alert(
    py: Python<'_>,
    shared: &Shared,
    lane: Option<&Arc<LanePlace>>,
    node: NodeId,
    alert: Bound<'_, PyAny>,
) -> PyResult<()> {
    say(py, shared, "alert", lane, (node, 0), Some(alert))
}

fn say(
    py: Python<'_>,
    shared: &Shared,
    kind: &str,
    lane: Option<&Arc<LanePlace>>,
    (node, attempt): (NodeId, u32),
    data: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let Some(listener) = &shared.listener else {
        return Ok(());
    };
    let node = shared.plan.plan.node(node);
    let lane = place::lane_path(&shared.plan.plan, lane);
    let run_id = shared.run_id(py)?;
    let event = (kind, run_id, &*node.name, &*node.path, lane, attempt, data);
    listener.bind(py).call_method1(intern!(py, "told"), event)?;
    Ok(())
}

/// Tells of a run that begins.
pub(crate) fn started(py: Python<'_>, shared: &Shared) -> PyResult<()> {
    if let Some(listener) = &shared.listener {
        let event = ("run_started", shared.run_id(py)?, "", "", "", 0, py.None());
        listener.bind(py).call_method1(intern!(py, "told"), event)?;
    }
    Ok(())
}

/// What is to be awaited before more is done that somebody hears of; None while there is room.
#[inline]
pub(crate) fn room(py: Python<'_>, shared: &Shared) -> PyResult<Option<Py<PyAny>>> {
    let Some(listener) = &shared.listener else {
        return Ok(None);
    };
    let room = listener.bind(py).call_method0(intern!(py, "room"))?;
    if room.is_none() {
        return Ok(None);
    }
    // What a future's own iterator does when it is awaited.
    room.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
    Ok(Some(room.unbind()))
}
