//! What of a run that stands still is shown.

use std::sync::Arc;

use flujo_core::machine::{History, LaneRecord, Record, Status};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::super::domain::{Finish, Python3};
use super::super::names;
use super::super::paused::PausedRun;
use super::super::shared::Shared;
use super::{RunRecord, on_record};
use crate::vectorcall;

/// The result of a run that stands still.
pub(crate) fn paused_result<'py>(
    paused: &Bound<'py, PausedRun>,
    shared: &Shared,
    mut finish: Finish,
    pauses: Bound<'py, PyList>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = paused.py();
    finish.history.set_apart();
    let record = RunRecord {
        plan: Arc::clone(&paused.get().plan),
        finish: Arc::new(finish),
        pauses: Some(pauses.unbind()),
        epoch: shared.epoch(py),
    };
    let result = on_record(names::pipeline_result(py)?, Bound::new(py, record)?.into_any())?;
    vectorcall::set_plainly(&result, intern!(py, "__flujo_paused__"), paused)?;
    Ok(result)
}

/// Whether a result has this record: a step under way has one when something in it has ended.
pub(super) fn is_shown(history: &History<Python3>, place: u32, record: &Record<Python3>) -> bool {
    if record.status != Status::Running {
        return true;
    }
    let below = history.records.iter().skip(place as usize + 1);
    let mut below = below.take_while(|entry| entry.parent.is_some_and(|parent| parent >= place));
    let mut lanes: Vec<&LaneRecord<Python3>> = record.lanes().iter().collect();
    below.any(|entry| {
        lanes.extend(entry.lanes());
        entry.status != Status::Running
    }) || any_ended(lanes)
}

/// Whether a step in these lanes, or in lanes within them, has ended.
fn any_ended(mut lanes: Vec<&LaneRecord<Python3>>) -> bool {
    while let Some(lane) = lanes.pop() {
        for record in lane.finish.iter().flat_map(|finish| &finish.history.records) {
            if record.status != Status::Running {
                return true;
            }
            lanes.extend(record.lanes());
        }
    }
    false
}
