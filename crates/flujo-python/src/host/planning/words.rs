//! The words by which the compiler in Python names a choice.

use flujo_core::plan::{LaneFailure, Rejection};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

pub(super) fn lane_failure(name: &str) -> PyResult<LaneFailure> {
    match name {
        "propagate" => Ok(LaneFailure::Propagate),
        "ignore" => Ok(LaneFailure::Ignore),
        "tolerate" => Ok(LaneFailure::Tolerate),
        other => Err(PyValueError::new_err(format!(
            "unknown failure strategy {other:?}"
        ))),
    }
}

pub(super) fn rejection(name: &str) -> PyResult<Rejection> {
    match name {
        "fail" => Ok(Rejection::Fail),
        "discard" => Ok(Rejection::Discard),
        "pass_on" => Ok(Rejection::PassOn),
        other => Err(PyValueError::new_err(format!("unknown rejection {other:?}"))),
    }
}
