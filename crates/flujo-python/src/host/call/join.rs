//! Joining lanes: their contexts are merged, their outputs collected.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use flujo_core::machine::{Input, LaneRecord, Outcome, Role};
use flujo_core::plan::{Kind, NodeId};
use flujo_core::usage::Usage;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use super::{Begun, context_for, invoke};
use crate::context::MergeStrategy;
use crate::host::aside::{self, Work};
use crate::host::callable::{CallableSpec, Given};
use crate::host::context::ContextCell;
use crate::host::domain::{Answer, Call, Event, Python3};
use crate::host::shared::Shared;
use crate::host::{answer, record};

/// Joins lanes: merges their contexts, or collects their outputs.
pub(super) fn join(
    py: Python<'_>,
    shared: &Arc<Shared>,
    spec: &Arc<CallableSpec>,
    call: Call,
) -> PyResult<Begun> {
    let Input::Lanes(lanes) = &call.input else {
        return Err(answer::refuse("a join without lanes"));
    };
    let target = spec.target.bind(py);
    let shape = target
        .cast::<PyString>()
        .ok()
        .map(std::string::ToString::to_string);
    let (answer, at) = match (call.role, shape.as_deref()) {
        (Role::Merge, Some(strategy)) => return merge(py, shared, &call, lanes, strategy),
        (Role::Merge, None) => return merge_by_callable(py, shared, spec, &call, lanes),
        (_, Some("branches")) => {
            let outputs = PyDict::new(py);
            for (place, lane) in lanes.iter().enumerate() {
                match lane.output() {
                    Some(output) => outputs.set_item(&*lane.name, &**output)?,
                    None => {
                        outputs
                            .set_item(&*lane.name, record::lane_result(py, &shared.plan, lanes, place)?)?;
                    }
                }
            }
            let value = outputs.into();
            (
                Answer::Value {
                    value,
                    usage: Usage::ZERO,
                },
                shared.now(py),
            )
        }
        (_, Some(shape)) => {
            let outputs = PyList::empty(py);
            for lane in lanes.iter() {
                match lane.output() {
                    Some(output) => outputs.append(&**output)?,
                    None if shape == "items_or_none" => outputs.append(py.None())?,
                    None => {}
                }
            }
            let value = outputs.into();
            (
                Answer::Value {
                    value,
                    usage: Usage::ZERO,
                },
                shared.now(py),
            )
        }
        (_, None) => {
            let input = lane_results(py, shared, call.node, lanes)?;
            let (context, own) = context_for(py, shared, spec, &call)?;
            let given = Given {
                input: Some(input),
                context,
                ..Given::default()
            };
            return invoke(py, shared, spec, call.call, call.deadline, given, own);
        }
    };
    Ok(Begun::Ended(Event::Answered {
        call: call.call,
        answer,
        context: None,
        at,
    }))
}

/// What a collecting callable gets: every lane's result; of a nested runner, the result of its run.
fn lane_results<'py>(
    py: Python<'py>,
    shared: &Shared,
    node: NodeId,
    lanes: &Arc<Vec<LaneRecord<Python3>>>,
) -> PyResult<Bound<'py, PyAny>> {
    let is_group = matches!(shared.plan.plan.node(node).kind, Kind::Group(_));
    if let (true, Some(finish)) = (is_group, lanes.first().and_then(|lane| lane.finish.as_ref())) {
        return record::pipeline_result(py, shared, Arc::clone(finish));
    }
    let results = PyList::empty(py);
    for place in 0..lanes.len() {
        results.append(record::lane_result(py, &shared.plan, lanes, place)?)?;
    }
    Ok(results.into_any())
}

/// The lanes that succeeded and whose context somebody looked at, by name.
fn looked_at(lanes: &[LaneRecord<Python3>]) -> Vec<(&LaneRecord<Python3>, &Py<PyAny>)> {
    lanes
        .iter()
        .filter_map(|lane| {
            let finish = lane.finish.as_ref()?;
            matches!(finish.outcome, Outcome::Completed(_)).then_some(())?;
            Some((lane, finish.context.peek()?))
        })
        .collect()
}

fn merge(
    py: Python<'_>,
    shared: &Arc<Shared>,
    call: &Call,
    lanes: &[LaneRecord<Python3>],
    strategy: &str,
) -> PyResult<Begun> {
    let lanes: Vec<(String, Py<PyAny>)> = looked_at(lanes)
        .into_iter()
        .map(|(lane, context)| (lane.name.to_string(), context.clone_ref(py)))
        .collect();
    let done = Event::Answered {
        call: call.call,
        answer: Answer::Done,
        context: None,
        at: shared.now(py),
    };
    if lanes.is_empty() {
        return Ok(Begun::Ended(done));
    }
    let counts = &shared.engine.contexts;
    counts.merges.fetch_add(lanes.len() as u64, Ordering::Relaxed);
    let work = Work::Merge {
        base: call.context.object(py)?.unbind(),
        lanes,
        strategy: MergeStrategy::from_name(strategy)?,
    };
    aside::begin(py, shared, work, done, call.deadline)
}

fn merge_by_callable(
    py: Python<'_>,
    shared: &Arc<Shared>,
    spec: &Arc<CallableSpec>,
    call: &Call,
    lanes: &[LaneRecord<Python3>],
) -> PyResult<Begun> {
    let own = Arc::new(ContextCell::fork_of(&call.context));
    let contexts = PyDict::new(py);
    for lane in lanes {
        if let Some(finish) = &lane.finish
            && matches!(finish.outcome, Outcome::Completed(_))
        {
            contexts.set_item(&*lane.name, finish.context.object(py)?)?;
        }
    }
    let given = Given {
        input: Some(own.object(py)?),
        context: Some(contexts.into_any()),
        ..Given::default()
    };
    invoke(py, shared, spec, call.call, call.deadline, given, Some(own))
}
