//! What is kept of runs and steps, and how their results are read: field by field, when somebody looks.

use std::sync::Arc;

use flujo_core::machine::{History, LaneRecord, Outcome, Record, Status, Stop};
use flujo_core::plan::{Kind, NodeId};
use flujo_core::usage::Usage;
use pyo3::IntoPyObjectExt;
use pyo3::PyTraverseError;
use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::PyList;

mod kept;
mod metadata;
mod standing_still;

use kept::{Kept, Placed, Shown, left_by_condition};
use metadata::price_metadata;
use standing_still::is_shown;
pub(crate) use standing_still::paused_result;

use super::clock::seconds;
use super::domain::{Finish, Python3};
use super::planning::PlanWithSteps;
use super::shared::Shared;
use super::{collected, failure, leaf, names, trace, usage};
use crate::context as view;
use crate::vectorcall;

/// A run that has ended.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct RunRecord {
    plan: Arc<PlanWithSteps>,
    finish: Arc<Finish>,
    /// Where it waits for answers, a list of `Pause`.
    pauses: Option<Py<PyList>>,
    /// The world's time at the run's time 0, in nanoseconds since the Unix epoch.
    epoch: u64,
}

/// A step, or a lane as a whole, of a run.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct StepRecord {
    plan: Arc<PlanWithSteps>,
    of: Of,
}

enum Of {
    /// A record in a history.
    Step(Kept, u32),
    /// One lane of a parallel step or map, of the step at this place: its branch or item.
    Lane(Kept, u32, u32),
}

/// A result model that reads its fields from `record`.
fn on_record<'py>(class: &Bound<'py, PyAny>, record: Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let model = vectorcall::bare_instance(class.cast()?)?;
    vectorcall::set_plainly(&model, intern!(py, "__flujo_record__"), &record)?;
    Ok(model)
}

/// The result of a run that has ended.
pub(crate) fn pipeline_result<'py>(
    py: Python<'py>,
    shared: &Shared,
    finish: Arc<Finish>,
) -> PyResult<Bound<'py, PyAny>> {
    let record = Bound::new(
        py,
        RunRecord {
            plan: Arc::clone(&shared.plan),
            finish,
            pauses: None,
            epoch: shared.epoch(py),
        },
    )?;
    on_record(names::pipeline_result(py)?, record.into_any())
}

fn step_result<'py>(py: Python<'py>, plan: &Arc<PlanWithSteps>, of: Of) -> PyResult<Bound<'py, PyAny>> {
    let record = Bound::new(
        py,
        StepRecord {
            plan: Arc::clone(plan),
            of,
        },
    )?;
    on_record(names::step_result(py)?, record.into_any())
}

/// The result of one lane as a whole.
pub(crate) fn lane_result<'py>(
    py: Python<'py>,
    plan: &Arc<PlanWithSteps>,
    lanes: &Arc<Vec<LaneRecord<Python3>>>,
    place: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let place = u32::try_from(place).unwrap_or(u32::MAX);
    step_result(py, plan, Of::Lane(Kept::lanes_of(py, lanes)?, 0, place))
}

/// The result of a step of a run that is still under way.
pub(crate) fn snapshot<'py>(
    py: Python<'py>,
    plan: &Arc<PlanWithSteps>,
    history: &History<Python3>,
    record: u32,
) -> PyResult<Bound<'py, PyAny>> {
    if let Some(own) = history.records.get(record as usize)
        && leaf::is_one(plan, history, record, own)
    {
        return leaf::result(py, plan, own);
    }
    // What is below a record follows it, up to the next one that isn't.
    let mut records: Vec<Record<Python3>> = Vec::new();
    for entry in history.records.iter().skip(record as usize) {
        let parent = match (records.is_empty(), entry.parent) {
            (true, _) => None,
            (false, Some(parent)) if parent >= record => Some(parent - record),
            _ => break,
        };
        let mut entry = Record {
            parent,
            ..entry.clone()
        };
        let details = entry.details.as_mut();
        if let Some((fallback, _)) = details.and_then(|details| details.fallback.as_mut()) {
            *fallback -= record.min(*fallback);
        }
        records.push(entry);
    }
    step_result(py, plan, Of::Step(Kept::taken(py, History { records })?, 0))
}

/// The results of all that a history holds.
pub(crate) fn results_of<'py>(
    py: Python<'py>,
    plan: &Arc<PlanWithSteps>,
    history: History<Python3>,
) -> PyResult<Bound<'py, PyList>> {
    children_of(py, plan, &Kept::taken(py, history)?, None)
}

fn children_of<'py>(
    py: Python<'py>,
    plan: &Arc<PlanWithSteps>,
    kept: &Kept,
    parent: Option<u32>,
) -> PyResult<Bound<'py, PyList>> {
    let results = PyList::empty(py);
    append_children(plan, kept, parent, None, &results)?;
    Ok(results)
}

/// Appends the results of what is below `parent`, except for those of the node `without`.
fn append_children(
    plan: &Arc<PlanWithSteps>,
    kept: &Kept,
    parent: Option<u32>,
    without: Option<NodeId>,
    results: &Bound<'_, PyList>,
) -> PyResult<()> {
    let Some(history) = kept.history() else {
        return Ok(());
    };
    let py = results.py();
    for (place, record) in history.children(parent) {
        if without == Some(record.node) || !is_shown(&history, place, record) {
            continue;
        }
        results.append(if leaf::is_one(plan, &history, place, record) {
            leaf::result(py, plan, record)?
        } else {
            step_result(py, plan, Of::Step(kept.clone(), place))?
        })?;
    }
    Ok(())
}

/// What had been used to make a result that was found in the cache.
fn saved_by(record: &Record<Python3>) -> Option<Usage> {
    record.details.as_ref().and_then(|details| details.saved)
}

fn unknown(name: &str) -> PyErr {
    PyAttributeError::new_err(name.to_owned())
}

fn object<'py, T: IntoPyObject<'py>>(py: Python<'py>, value: T) -> PyResult<Bound<'py, PyAny>> {
    value.into_bound_py_any(py)
}

#[pymethods]
impl RunRecord {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Some(pauses) = &self.pauses {
            visit.call(pauses)?;
        }
        collected::finish(&self.finish, &visit)
    }

    /// The context's fields that the run or lane has written, by name.
    fn touched(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        match self.finish.context.peek() {
            Some(context) => view::touched(context.bind(py)),
            None => Ok(Vec::new()),
        }
    }

    /// The value of the field `name` of a `PipelineResult`, or `usage`: all that it used.
    fn field<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        let finish = &this.finish;
        match name {
            "step_history" => Ok(children_of(py, &this.plan, &Kept::run(slf), None)?.into_any()),
            "total_cost_usd" => object(py, finish.usage.cost.dollars()),
            "total_tokens" => object(py, finish.usage.tokens),
            "usage" => Ok(usage::to_dict(py, finish.usage)?.into_any()),
            "final_pipeline_context" => finish.context.plain(py),
            "success" => object(py, matches!(finish.outcome, Outcome::Completed(_))),
            "status" => object(py, finish.outcome.name()),
            "output" => Ok(if let Outcome::Completed(output) = &finish.outcome {
                output.bind(py).clone()
            } else {
                let records = finish.history.children(None);
                let last = records
                    .filter(|(_, record)| record.status != Status::Running)
                    .last();
                let shown = last.and_then(|(place, _)| Shown::of(&this.plan, &finish.history, place));
                let output = shown.and_then(|shown| shown.output());
                output.map_or_else(|| py.None().into_bound(py), |output| output.bind(py).clone())
            }),
            "trace_tree" => trace::tree(py, &this.plan, finish, this.epoch),
            "pauses" => Ok(match &this.pauses {
                Some(pauses) => pauses.bind(py).clone().into_any(),
                None => PyList::empty(py).into_any(),
            }),
            other => Err(unknown(other)),
        }
    }
}

#[pymethods]
impl StepRecord {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let (Of::Step(kept, _) | Of::Lane(kept, _, _)) = &self.of;
        kept.tell(&visit)
    }

    /// The value of the field `name` of a `StepResult`.
    fn field<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        match &self.of {
            Of::Step(kept, place) => {
                let history = kept.history();
                match history
                    .as_deref()
                    .and_then(|history| Shown::of(&self.plan, history, *place))
                {
                    Some(shown) => self.step_field(py, kept, shown, name),
                    None => Err(unknown(name)),
                }
            }
            Of::Lane(kept, record, place) => {
                let lane = kept.lane(*record, *place).ok_or_else(|| unknown(name))?;
                if name == "step_history"
                    && let Some(inside) = kept.within(&lane)
                {
                    return Ok(children_of(py, &self.plan, &inside, None)?.into_any());
                }
                self.lane_field(py, &lane, name)
            }
        }
    }
}

impl RunRecord {
    fn history(&self) -> &History<Python3> {
        &self.finish.history
    }
}

impl StepRecord {
    /// Whether the step asks for its primary's error to be kept when the fallback succeeds.
    fn keeps_diagnostics(&self, py: Python<'_>, record: &Record<Python3>) -> bool {
        let config =
            definition_of(&self.plan, record.node).and_then(|step| step.bind(py).getattr("config").ok());
        let keeps = config.and_then(|config| config.getattr("preserve_fallback_diagnostics").ok());
        keeps.is_some_and(|keeps| keeps.is_truthy().unwrap_or(false))
    }

    #[allow(clippy::too_many_lines)] // one arm per field
    fn step_field<'py>(
        &self,
        py: Python<'py>,
        kept: &Kept,
        shown: Shown<'_>,
        name: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let record = shown.step.record;
        let body = shown.body().record;
        let fallback = record
            .details
            .as_ref()
            .and_then(|details| details.fallback.as_ref())
            .and_then(|(place, primary)| Some((shown.history.records.get(*place as usize)?, primary)));
        match name {
            "name" => {
                // A step that its fallback saved goes by the fallback's name.
                let node = match fallback {
                    Some((fallback, _)) if record.status == Status::Succeeded => fallback.node,
                    _ => record.node,
                };
                object(py, &*self.plan.plan.node(node).name)
            }
            "output" => {
                let output = shown.output();
                Ok(output.map_or_else(|| py.None().into_bound(py), |output| output.bind(py).clone()))
            }
            "success" => object(py, record.status == Status::Succeeded),
            "attempts" => {
                let more = fallback.map_or(0, |(fallback, _)| fallback.attempts);
                let made = record.attempts != 0 || saved_by(record).is_some();
                let own = if made { record.attempts } else { 1 };
                object(py, own + more)
            }
            "latency_s" => object(py, seconds(record.latency())),
            "token_counts" => object(py, record.usage.tokens),
            "cost_usd" => object(py, record.usage.cost.dollars()),
            "feedback"
                if self.keeps_diagnostics(py, record) && fallback.is_some() && record.failure.is_none() =>
            {
                let primary = fallback.map(|(_, primary)| primary.to_string());
                object(py, primary.unwrap_or_default())
            }
            "feedback" => Ok(match (&record.failure, record.status) {
                (Some(failure), _) => object(py, failure.to_string())?,
                (None, Status::Cancelled) => object(py, "cancelled")?,
                (None, Status::Running) => object(py, "paused")?,
                (None, Status::LimitExceeded) => object(py, "a usage limit was reached")?,
                (None, Status::Succeeded) if left_by_condition(body) => {
                    object(py, "loop exited by condition")?
                }
                _ => py.None().into_bound(py),
            }),
            "branch_context" => Ok(py.None().into_bound(py)),
            "metadata_" => Ok(self.metadata(py, record, body)?.into_any()),
            "step_history" => Ok(self.inside(py, kept, shown)?.into_any()),
            "items" => {
                let items = PyList::empty(py);
                if let Kind::Map(_) = &self.plan.plan.node(body.node).kind {
                    self.append_lanes(kept, shown.body(), &items)?;
                }
                Ok(items.into_any())
            }
            "error" => Ok(record
                .failure
                .as_ref()
                .and_then(|failure| failure::error_of(py, failure))
                .unwrap_or_else(|| py.None().into_bound(py))),
            "cache_hit" => object(py, saved_by(record).is_some()),
            "saved_cost_usd" => object(py, saved_by(record).unwrap_or_default().cost.dollars()),
            "saved_tokens" => object(py, saved_by(record).unwrap_or_default().tokens),
            other => Err(unknown(other)),
        }
    }

    /// The results of the steps inside.
    fn inside<'py>(&self, py: Python<'py>, kept: &Kept, shown: Shown<'_>) -> PyResult<Bound<'py, PyList>> {
        let body = shown.body();
        let results = children_of(py, &self.plan, kept, Some(body.place))?;
        match self.plan.plan.node(body.record.node).kind {
            Kind::Group(_) => {
                if let Some(inside) = body.record.lanes().first().and_then(|lane| kept.within(lane)) {
                    append_children(&self.plan, &inside, None, None, &results)?;
                }
            }
            // Those of a map are its items.
            Kind::Map(_) => {}
            _ => self.append_lanes(kept, body, &results)?,
        }
        if let Some(construct) = shown.construct {
            let construct = Some(construct.record.node);
            append_children(&self.plan, kept, Some(shown.step.place), construct, &results)?;
        }
        Ok(results)
    }

    fn append_lanes(&self, kept: &Kept, of: Placed<'_>, results: &Bound<'_, PyList>) -> PyResult<()> {
        (0u32..).zip(of.record.lanes()).try_for_each(|(lane, _)| {
            let of = Of::Lane(kept.clone(), of.place, lane);
            results.append(step_result(results.py(), &self.plan, of)?)
        })
    }

    fn lane_field<'py>(
        &self,
        py: Python<'py>,
        lane: &LaneRecord<Python3>,
        name: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let finish = lane.finish.as_ref();
        let failure = finish.and_then(|finish| match &finish.outcome {
            Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => Some(failure),
            _ => None,
        });
        let usage = finish.map_or(Usage::ZERO, |finish| finish.usage);
        let none = || py.None().into_bound(py);
        match name {
            "name" => object(py, &*lane.name),
            "output" => Ok(lane.output().map_or_else(none, |output| output.bind(py).clone())),
            "success" => object(py, lane.output().is_some()),
            "attempts" => object(py, u32::from(finish.is_some())),
            "latency_s" => {
                let records = finish.map(|finish| &finish.history.records);
                let began = records.and_then(|records| records.iter().map(|record| record.started).min());
                let ended = records.and_then(|records| records.iter().map(|record| record.ended).max());
                object(py, seconds(ended.unwrap_or(0).saturating_sub(began.unwrap_or(0))))
            }
            "token_counts" => object(py, usage.tokens),
            "cost_usd" => object(py, usage.cost.dollars()),
            "feedback" => Ok(match (failure, finish.map(|finish| finish.outcome.name())) {
                (Some(failure), _) => object(
                    py,
                    format!("Pipeline failed - step '{}': {failure}", failure.step),
                )?,
                (None, Some("completed")) => none(),
                (None, Some(status)) => object(py, status)?,
                (None, None) => object(py, "not started")?,
            }),
            // A branch that never looked at the context has none of its own.
            "branch_context" => match finish.filter(|finish| finish.context.peek().is_some()) {
                Some(finish) => finish.context.plain(py),
                None => Ok(none()),
            },
            "metadata_" => Ok(price_metadata(py, usage)?.into_any()),
            // One that never began has none.
            "step_history" | "items" => Ok(PyList::empty(py).into_any()),
            "error" => Ok(failure
                .and_then(|failure| failure::error_of(py, failure))
                .unwrap_or_else(none)),
            "cache_hit" => object(py, false),
            "saved_cost_usd" => object(py, 0.0),
            "saved_tokens" => object(py, 0),
            other => Err(unknown(other)),
        }
    }
}

/// The node whose definition a hook is told of.
pub(crate) fn definition_of(plan: &PlanWithSteps, node: NodeId) -> Option<&Py<PyAny>> {
    plan.steps.get(node.0 as usize)?.as_ref()
}
