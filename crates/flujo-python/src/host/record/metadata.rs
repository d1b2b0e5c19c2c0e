//! The metadata of a step's result: what its history tells beyond the fields that every result has.

use flujo_core::machine::{Record, Status};
use flujo_core::plan::{Kind, Rejection};
use flujo_core::usage::Usage;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::StepRecord;
use crate::host::domain::Python3;

impl StepRecord {
    pub(super) fn metadata<'py>(
        &self,
        py: Python<'py>,
        record: &Record<Python3>,
        body: &Record<Python3>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let metadata = price_metadata(py, record.usage)?;
        if let Kind::Step(step) = &self.plan.plan.node(record.node).kind
            && step.on_rejection != Rejection::Fail
        {
            let details = record.details.as_deref();
            let saved = details.is_some_and(|details| details.fallback.is_some());
            let rejected = details.is_some_and(|details| !details.rejections.is_empty());
            let passed = record.status == Status::Succeeded && !rejected && !saved;
            metadata.set_item("validation_passed", passed)?;
        }
        if let Some(details) = &record.details {
            if details.saved.is_some() {
                metadata.set_item("cache_hit", true)?;
            }
            if let Some((_, primary)) = &details.fallback {
                metadata.set_item("fallback_triggered", true)?;
                metadata.set_item("original_error", primary.to_string())?;
            }
            if !details.attempt_failures.is_empty() {
                let failures: Vec<String> =
                    details.attempt_failures.iter().map(ToString::to_string).collect();
                metadata.set_item("attempt_failures", failures)?;
            }
        }
        let Some(details) = &body.details else {
            return Ok(metadata);
        };
        let kind = &self.plan.plan.node(body.node).kind;
        if let Some(branch) = &details.branch {
            let key = match kind {
                Kind::States(_) => "final_state",
                _ => "executed_branch_key",
            };
            metadata.set_item(key, &**branch)?;
        }
        if let Some(end) = details.loop_end {
            metadata.set_item("iterations", end.iterations)?;
            metadata.set_item("exit_reason", end.reason.as_str())?;
        }
        if matches!(kind, Kind::Parallel(_)) {
            let executed: Vec<&str> = details
                .lanes
                .iter()
                .filter(|lane| lane.finish.is_some())
                .map(|lane| &*lane.name)
                .collect();
            metadata.set_item("executed_branches", executed)?;
        }
        Ok(metadata)
    }
}

/// Metadata of what was used: that some of it has no known price, where that is so.
pub(super) fn price_metadata(py: Python<'_>, usage: Usage) -> PyResult<Bound<'_, PyDict>> {
    let metadata = PyDict::new(py);
    if usage.unpriced {
        metadata.set_item("price_unknown", true)?;
    }
    Ok(metadata)
}
