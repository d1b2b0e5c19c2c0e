//! What the callables of constructs are given beside a value: keys, names of states, failures to be dealt with.

use std::sync::Arc;

use flujo_core::machine::{History, Record, Status};
use flujo_core::plan::{Kind, NodeId};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::callable::CallableSpec;
use super::domain::{Call, Failure, Machine, Python3};
use super::planning::PlanWithSteps;
use super::{names, record};

/// The name of a state.
pub(super) fn state_name<'py>(
    py: Python<'py>,
    plan: &PlanWithSteps,
    node: NodeId,
    state: u32,
) -> Option<Bound<'py, PyAny>> {
    match &plan.plan.node(node).kind {
        Kind::States(states) => {
            let state = states.states.get(state as usize)?;
            Some(PyString::new(py, &state.name).into_any())
        }
        _ => None,
    }
}

/// The key that chose a branch: as it was declared, or of the default branch the text of what the condition gave.
pub(super) fn branch_key<'py>(
    py: Python<'py>,
    machine: &Machine,
    spec: &CallableSpec,
    call: &Call,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Some(keys) = &spec.keys {
        for (key, place) in keys.bind(py) {
            if place.extract::<u32>()? == call.index {
                return Ok(Some(key));
            }
        }
    }
    let mut records = machine.history().records.iter().rev();
    let own = records.find(|record| record.node == call.node);
    let key = own.and_then(|record| record.details.as_ref()?.branch.clone());
    Ok(key.map(|key| PyString::new(py, &key).into_any()))
}

/// The exception behind a failure, or its text where there is none.
pub(super) fn error_or_text<'py>(py: Python<'py>, failure: &Failure) -> Bound<'py, PyAny> {
    match &failure.error {
        Some(error) => error.bind(py).clone(),
        None => PyString::new(py, &failure.to_string()).into_any(),
    }
}

/// A failure, with what failed.
pub(super) struct Route<'a> {
    pub(super) failure: &'a Arc<Failure>,
    pub(super) input: &'a Py<PyAny>,
    pub(super) first: u32,
}

/// The `StepFailure` that a handler gets.
pub(super) fn step_failure<'py>(
    py: Python<'py>,
    plan: &Arc<PlanWithSteps>,
    history: &History<Python3>,
    route: &Route<'_>,
) -> PyResult<Bound<'py, PyAny>> {
    let first = route.first;
    let mut records: Vec<Record<Python3>> = Vec::new();
    for entry in history.records.iter().skip(first as usize) {
        let parent = entry.parent.and_then(|parent| parent.checked_sub(first));
        records.push(Record {
            parent,
            ..entry.clone()
        });
    }
    let top = records.iter_mut().rev().find(|record| record.parent.is_none());
    let (mut step, mut path, mut attempts) = (Arc::clone(&route.failure.step), Arc::from(""), 1);
    if let Some(record) = top {
        let node = plan.plan.node(record.node);
        (step, path) = (Arc::clone(&node.name), Arc::clone(&node.path));
        attempts = record.attempts.max(1);
        // A step that tells its own handlers has not ended yet.
        if record.status == Status::Running {
            record.status = Status::Failed;
            record.failure = Some(Arc::clone(route.failure));
        }
    }
    let results = record::results_of(py, plan, History { records })?;
    let error = super::failure::error_of(py, route.failure);
    names::step_failure(py)?.call1((
        &*step,
        &*path,
        attempts,
        error,
        route.failure.to_string(),
        route.input.bind(py),
        results,
    ))
}
