//! What Python's garbage collector is told about runs, lanes and their results: every reference exactly once. What two
//! Rust owners share is left out while they do, since a reference told of twice would be taken for two; what one owner
//! holds in several places is told of when all of these have come.

use std::sync::Arc;

use flujo_core::machine::{Held, History, Holders, Kept, LaneRecord};
use pyo3::PyTraverseError;
use pyo3::pyclass::PyVisit;

use super::context::ContextCell;
use super::domain::{Finish, Machine, Python3};

/// Tells of everything a machine holds.
pub(crate) fn machine(machine: &Machine, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    told(visit, |show| machine.visit(show))
}

/// Tells of everything a run that was stopped goes on from.
pub(crate) fn kept(kept: &Kept<Python3>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    told(visit, |show| kept.visit(show))
}

/// Tells of everything the end of a run holds, unless somebody shares it.
pub(crate) fn finish(finish: &Arc<Finish>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    if Arc::strong_count(finish) == 1 {
        lane_finish(finish, visit)?;
    }
    Ok(())
}

/// Tells of everything the end of a lane holds that its parent has not taken in yet.
pub(crate) fn lane_finish(finish: &Finish, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    told(visit, |show| finish.visit(show))
}

/// Tells of everything in a history.
pub(crate) fn history(history: &History<Python3>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    told(visit, |show| history.visit(show))
}

/// Tells of everything that lanes hold, unless somebody shares them.
pub(crate) fn lanes(
    lanes: &Arc<Vec<LaneRecord<Python3>>>,
    visit: &PyVisit<'_>,
) -> Result<(), PyTraverseError> {
    told(visit, |show| LaneRecord::visit(lanes, show))
}

fn told(
    visit: &PyVisit<'_>,
    walk: impl FnOnce(&mut dyn FnMut(Held<'_, Python3>)),
) -> Result<(), PyTraverseError> {
    let (mut told, mut contexts) = (Ok(()), Holders::default());
    walk(&mut |held| {
        if told.is_ok() {
            told = match held {
                Held::Object(object) => visit.call(&**object),
                Held::Context(context) => context_of(context, &mut contexts, visit),
            };
        }
    });
    told
}

pub(crate) fn context_cell(cell: &Arc<ContextCell>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    context_of(cell, &mut Holders::default(), visit)
}

fn context_of(
    cell: &Arc<ContextCell>,
    contexts: &mut Holders,
    visit: &PyVisit<'_>,
) -> Result<(), PyTraverseError> {
    let mut cell = Some(cell);
    while let Some(own) = cell.filter(|cell| contexts.are_all(cell)) {
        cell = own.tell(visit)?;
    }
    Ok(())
}
