//! The steps of a stored run, read without its pipeline: what ran, how it ended, what it used and what came out, and when.

use std::collections::HashMap;
use std::sync::Arc;

use flujo_core::machine::{Finish, Record, Status, lane_name};
use flujo_core::store::StoredRun;
use flujo_durable::{Definition, DurableError, Raw, RawValue, Replay};
use flujo_store::runs::{KeptEventKind, asks};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::errors::durable_error;
use crate::agents::to_object;
use crate::cache;

/// The version of the pipeline, where it is known.
pub(super) fn version(py: Python<'_>, stored: StoredRun) -> PyResult<Bound<'_, PyAny>> {
    let definition = Definition::of_stored(&stored).map_err(|error| durable_error(py, &error, None))?;
    Ok(definition.version().into_pyobject(py)?.into_any())
}

/// The questions that wait for answers: each one's id, and the path of its step.
pub(super) fn questions(py: Python<'_>, stored: StoredRun) -> PyResult<Bound<'_, PyAny>> {
    let read = py.detach(|| {
        let (plan, replay) = Replay::of_stored(&stored)?;
        let asked = replay.questions().into_iter();
        let named = asked.map(|open| (open.id, plan.node(open.question.node).path.to_string()));
        Ok(named.collect::<Vec<_>>())
    });
    let open = read.map_err(|error: DurableError| durable_error(py, &error, None))?;
    Ok(PyList::new(py, open)?.into_any())
}

/// The steps, those in lanes behind the step that the lanes belong to.
pub(super) fn steps(py: Python<'_>, stored: StoredRun) -> PyResult<Bound<'_, PyAny>> {
    let read = py.detach(|| {
        let (plan, replay) = Replay::of_stored(&stored)?;
        Ok((plan, replay.into_done()))
    });
    let (plan, finish) = read.map_err(|error: DurableError| durable_error(py, &error, None))?;
    let shown = PyList::empty(py);
    let mut waiting: Vec<(String, Option<usize>, Arc<Finish<Raw>>)> = Vec::new();
    waiting.extend(finish.map(|finish| (String::new(), None, Arc::from(finish))));
    while let Some((lane, around, finish)) = waiting.pop() {
        // By their places in the history, the places of those that are shown; what is the work of a step stands for it.
        let mut places: HashMap<u32, Option<usize>> = HashMap::new();
        for (place, record) in (0u32..).zip(&finish.history.records) {
            let parent = match record.parent {
                Some(parent) => places.get(&parent).copied().flatten(),
                None => around,
            };
            let node = plan.node(record.node);
            let here = if node.inner {
                parent
            } else {
                let step = step(py, record)?;
                step.set_item("asks", asks(&plan, record))?;
                step.set_item("step_name", &*node.name)?;
                step.set_item("path", node.path.to_string())?;
                step.set_item("lane", &lane)?;
                step.set_item("step_index", shown.len())?;
                step.set_item("parent_index", parent)?;
                shown.append(step)?;
                Some(shown.len() - 1)
            };
            places.insert(place, here);
            for inside in record.lanes().iter().rev() {
                if let Some(finish) = &inside.finish {
                    let lane = lane_name(&plan, &lane, record.node, &inside.name);
                    waiting.push((lane, here, Arc::clone(finish)));
                }
            }
        }
    }
    Ok(shown.into_any())
}

/// What happened behind the first `after` events, and when the run ended, if the last one of all is its end: in milliseconds
/// since 1970 began. The end of a step comes with the step.
pub(super) fn events(py: Python<'_>, stored: StoredRun, after: usize) -> PyResult<Bound<'_, PyAny>> {
    let read = py.detach(|| {
        let mut told = flujo_store::runs::events(&stored)?;
        let end = told.last().filter(|last| last.is_end());
        let ended = end.map(|_| stored.info.summary.updated);
        told.drain(..after.min(told.len()));
        Ok((told, ended))
    });
    let (told, ended) = read.map_err(|error: DurableError| durable_error(py, &error, None))?;
    let shown = PyList::empty(py);
    for one in &told {
        let event = PyDict::new(py);
        event.set_item("kind", one.event.kind.name())?;
        event.set_item("step_name", &*one.event.step)?;
        event.set_item("path", &*one.event.path)?;
        event.set_item("lane", &*one.event.lane)?;
        event.set_item("at_s", one.event.at.as_secs_f64())?;
        let ends = matches!(
            one.event.kind,
            KeptEventKind::StepFinished { .. } | KeptEventKind::StepFailed { .. }
        );
        let ended = one.record().filter(|_| ends);
        event.set_item("step", ended.map(|record| step(py, record)).transpose()?)?;
        shown.append(event)?;
    }
    py.detach(|| drop(told));
    Ok((shown, ended).into_pyobject(py)?.into_any())
}

#[allow(clippy::cast_precision_loss)] // a float is asked for
fn step<'py>(py: Python<'py>, record: &Record<Raw>) -> PyResult<Bound<'py, PyDict>> {
    let step = PyDict::new(py);
    step.set_item("status", status(record.status))?;
    step.set_item("attempts", record.attempts)?;
    step.set_item("cost_usd", record.usage.cost.dollars())?;
    step.set_item("token_counts", record.usage.tokens)?;
    step.set_item("requests", record.usage.requests)?;
    step.set_item("latency_s", record.latency() as f64 / 1e9)?;
    step.set_item("started_s", record.started as f64 / 1e9)?;
    let ended = (record.status != Status::Running).then_some(record.ended as f64 / 1e9);
    step.set_item("ended_s", ended)?;
    let output = record
        .output
        .as_ref()
        .map(|output| value(py, output))
        .transpose()?;
    step.set_item("output", output)?;
    let failure = record.failure.as_deref();
    step.set_item("error_type", failure.map(|failure| &*failure.error_type))?;
    step.set_item("error_message", failure.map(|failure| &*failure.message))?;
    Ok(step)
}

/// A value as its program wrote it; for one whose class isn't imported, or that has changed, a text that says so.
fn value<'py>(py: Python<'py>, value: &RawValue) -> PyResult<Bound<'py, PyAny>> {
    match value {
        RawValue::Bytes(bytes) => match cache::read(py, bytes) {
            Ok(value) => Ok(value),
            Err(cache::Unreadable::Raised(error)) => Err(error),
            Err(unreadable) => Ok(format!("<{unreadable}>").into_pyobject(py)?.into_any()),
        },
        RawValue::Other(value) => to_object(py, value),
    }
}

fn status(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Succeeded => "completed",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        Status::LimitExceeded => "limit_exceeded",
    }
}
