//! Results of plain steps that went well: most of all results. They are made in one go, with the fields that people read
//! in place; what such a step has none of is filled in when somebody looks.

use flujo_core::machine::{History, Record, Status};
use flujo_core::plan::{Kind, Rejection};
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyAttributeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};

use super::clock::seconds;
use super::domain::Python3;
use super::names;
use super::planning::PlanWithSteps;
use crate::vectorcall::{self, SlottedClass};

/// Whether the record is that of a step which succeeded at its first attempt and has nothing below it.
pub(super) fn is_one(
    plan: &PlanWithSteps,
    history: &History<Python3>,
    place: u32,
    record: &Record<Python3>,
) -> bool {
    let next = history.records.get(place as usize + 1);
    record.status == Status::Succeeded
        && record.attempts == 1
        && record.details.is_none()
        && record.failure.is_none()
        && !record.usage.unpriced
        && next.is_none_or(|next| next.parent != Some(place))
        && matches!(&plan.plan.node(record.node).kind, Kind::Step(step) if step.on_rejection == Rejection::Fail)
}

/// The `StepResult` of such a record.
pub(super) fn result<'py>(
    py: Python<'py>,
    plan: &PlanWithSteps,
    record: &Record<Python3>,
) -> PyResult<Bound<'py, PyAny>> {
    let fields = template(py)?.copy()?;
    if let Some(name) = plan.names.get(record.node.0 as usize) {
        fields.set_item(intern!(py, "name"), name)?;
    }
    if let Some(output) = &record.output {
        fields.set_item(intern!(py, "output"), &**output)?;
    }
    fields.set_item(intern!(py, "latency_s"), seconds(record.latency()))?;
    if !record.usage.is_zero() {
        fields.set_item(intern!(py, "token_counts"), record.usage.tokens)?;
        fields.set_item(intern!(py, "cost_usd"), record.usage.cost.dollars())?;
    }
    let result = class(py)?.instance(py, [rest(py)?])?;
    vectorcall::give_attributes(&result, &fields)?;
    Ok(result)
}

/// The class of such results, which stand on a record.
fn class(py: Python<'_>) -> PyResult<&SlottedClass> {
    static CLASS: PyOnceLock<SlottedClass> = PyOnceLock::new();
    CLASS.get_or_try_init(py, || {
        let record = intern!(py, "__flujo_record__").clone();
        SlottedClass::new(names::step_result(py)?.cast()?, [record])
    })
}

/// The fields that are in place from the beginning, with the values most of them have.
fn template(py: Python<'_>) -> PyResult<&Bound<'_, PyDict>> {
    static TEMPLATE: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let template = TEMPLATE.get_or_try_init(py, || -> PyResult<_> {
        let fields = PyDict::new(py);
        fields.set_item(intern!(py, "name"), "")?;
        fields.set_item(intern!(py, "output"), py.None())?;
        fields.set_item(intern!(py, "success"), true)?;
        fields.set_item(intern!(py, "attempts"), 1)?;
        fields.set_item(intern!(py, "latency_s"), 0.0)?;
        fields.set_item(intern!(py, "token_counts"), 0)?;
        fields.set_item(intern!(py, "cost_usd"), 0.0)?;
        fields.set_item(intern!(py, "feedback"), py.None())?;
        Ok(fields.unbind())
    })?;
    Ok(template.bind(py))
}

/// The one record that all of these results stand on.
fn rest(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static REST: PyOnceLock<Py<LeafRecord>> = PyOnceLock::new();
    let rest = REST.get_or_try_init(py, || Py::new(py, LeafRecord))?;
    Ok(rest.bind(py).clone().into_any())
}

/// What a plain step that went well has none of.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct LeafRecord;

#[pymethods]
impl LeafRecord {
    /// The value of the field `name` of a `StepResult`, where it isn't in place.
    #[allow(clippy::unused_self)] // the same shape as the other records
    fn field<'py>(&self, py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        match name {
            "metadata_" => Ok(PyDict::new(py).into_any()),
            "step_history" | "items" => Ok(PyList::empty(py).into_any()),
            "branch_context" | "error" => Ok(py.None().into_bound(py)),
            "cache_hit" => false.into_bound_py_any(py),
            "saved_cost_usd" => 0.0.into_bound_py_any(py),
            "saved_tokens" => 0.into_bound_py_any(py),
            other => Err(PyAttributeError::new_err(other.to_owned())),
        }
    }
}
