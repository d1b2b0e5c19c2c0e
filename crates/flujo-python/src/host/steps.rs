//! The outputs of earlier steps by name, for templates. Nobody keeps them until something in the process reads them.

use std::sync::atomic::{AtomicBool, Ordering};

use flujo_core::machine::{History, Status};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::domain::Python3;
use super::names;
use super::place::Place;
use super::planning::PlanWithSteps;

static KEPT: AtomicBool = AtomicBool::new(false);

/// Something reads the outputs of earlier steps, in any run from now on.
pub(crate) fn keep() {
    KEPT.store(true, Ordering::Relaxed);
}

#[inline]
pub(super) fn are_kept() -> bool {
    KEPT.load(Ordering::Relaxed)
}

/// The outputs as they are known where the code that asks runs.
pub(crate) fn here(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let place = names::place_variable(py)?.call_method0(intern!(py, "get"))?;
    match place.cast::<Place>() {
        Ok(place) => Ok(place.get().state.steps(py)),
        Err(_) => Ok(PyDict::new(py)),
    }
}

/// The outputs that one run or lane knows. Grows with the history: each record is looked at when it appears and again
/// while it runs.
#[derive(Default)]
pub(crate) struct Outputs {
    by_name: Option<Py<PyDict>>,
    /// Lanes read it as well; it is copied before it grows.
    shared: bool,
    seen: usize,
    running: Vec<usize>,
}

impl Outputs {
    /// What a lane starts with.
    pub(super) fn for_lane(&mut self, py: Python<'_>) -> Self {
        self.shared = true;
        Self {
            by_name: self.by_name.as_ref().map(|outputs| outputs.clone_ref(py)),
            shared: true,
            ..Self::default()
        }
    }

    /// Takes in what has ended since the last time. A later step of the same name hides an earlier one.
    pub(super) fn take_in(
        &mut self,
        py: Python<'_>,
        history: &History<Python3>,
        plan: &PlanWithSteps,
    ) -> PyResult<()> {
        let mut waiting = std::mem::take(&mut self.running);
        waiting.extend(self.seen..history.records.len());
        self.seen = history.records.len();
        for place in waiting {
            let Some(record) = history.records.get(place) else {
                continue;
            };
            match (&record.status, &record.output) {
                (Status::Running, _) => self.running.push(place),
                (Status::Succeeded, Some(output)) => {
                    if let Some(name) = plan.names.get(record.node.0 as usize) {
                        self.own(py)?.set_item(name, &**output)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn own<'py>(&mut self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let own = match &self.by_name {
            Some(outputs) if !self.shared => return Ok(outputs.bind(py).clone()),
            Some(outputs) => outputs.bind(py).copy()?,
            None => PyDict::new(py),
        };
        self.shared = false;
        self.by_name = Some(own.clone().unbind());
        Ok(own)
    }

    /// The dictionary, for reading.
    pub(super) fn by_name(&self) -> Option<&Py<PyDict>> {
        self.by_name.as_ref()
    }
}
