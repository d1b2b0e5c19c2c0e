//! What Python's garbage collector is told about runs, lanes and their results: every reference exactly once. What two
//! Rust owners share is left out while they do, since a reference told of twice would be taken for two.

use std::sync::Arc;

use flujo_core::machine::{Held, Kept};
use pyo3::PyTraverseError;
use pyo3::pyclass::PyVisit;

use super::context::ContextCell;
use super::domain::{Finish, Machine, Python3};

/// Tells of everything a machine holds.
pub(crate) fn machine(machine: &Machine, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut told = Ok(());
    machine.visit(&mut |held| tell(&held, visit, &mut told));
    told
}

/// Tells of everything a run that was stopped goes on from.
pub(crate) fn kept(kept: &Kept<Python3>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut told = Ok(());
    kept.visit(&mut |held| tell(&held, visit, &mut told));
    told
}

/// Tells of everything the end of a run or lane holds, unless somebody shares it.
pub(crate) fn finish(finish: &Arc<Finish>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut told = Ok(());
    if Arc::strong_count(finish) == 1 {
        finish.visit(&mut |held| tell(&held, visit, &mut told));
    }
    told
}

/// Tells of everything the end of a lane holds that its parent has not taken in yet.
pub(crate) fn lane_finish(finish: &Finish, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut told = Ok(());
    finish.visit(&mut |held| tell(&held, visit, &mut told));
    told
}

fn tell(held: &Held<'_, Python3>, visit: &PyVisit<'_>, told: &mut Result<(), PyTraverseError>) {
    if told.is_ok() {
        *told = match held {
            Held::Object(object) => visit.call(&***object),
            Held::Context(context) => context_cell(context, visit),
        };
    }
}

pub(crate) fn context_cell(cell: &Arc<ContextCell>, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
    let mut cell = Some(cell);
    while let Some(own) = cell.filter(|cell| Arc::strong_count(cell) == 1) {
        cell = own.tell(visit)?;
    }
    Ok(())
}
