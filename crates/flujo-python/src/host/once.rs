//! What steps do once however often they begin anew: each part of a step's work under a name of its own. How parts are
//! waited for is written in Python (`flujo.application._once`); here is what is kept of them.

use std::sync::Arc;

use flujo_core::machine::CallId;
use flujo_durable::{DurableError, Once};
use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::pyclass::PyVisit;
use pyo3::types::{PyDict, PyTuple};

use super::keeping::WriteOn;
use super::place::PlaceState;
use crate::object::Object;
use crate::store::awaited;

/// What the latest step of a run or lane has recorded.
pub(super) struct Parts {
    step: Arc<str>,
    iterations: Vec<u32>,
    /// By name: a value in a tuple, or the future of who is making it.
    by_name: Py<PyDict>,
}

impl Parts {
    pub(super) fn new(py: Python<'_>, step: Arc<str>, iterations: Vec<u32>) -> Self {
        Self {
            step,
            iterations,
            by_name: PyDict::new(py).unbind(),
        }
    }

    /// What was recorded before this process.
    pub(super) fn recorded(py: Python<'_>, once: Once<Object>) -> PyResult<Self> {
        let parts = Self::new(py, once.step, once.iterations);
        let by_name = parts.by_name.bind(py);
        for (name, value) in once.values {
            by_name.set_item(&*name, (&*value,))?;
        }
        Ok(parts)
    }

    pub(super) fn are_of(&self, step: &str, iterations: &[u32]) -> bool {
        &*self.step == step && self.iterations == iterations
    }

    /// The same, to be written down.
    pub(super) fn to_once(&self, py: Python<'_>) -> Once<Object> {
        let mut once = Once::new(Arc::clone(&self.step), self.iterations.clone());
        for (name, part) in self.by_name.bind(py) {
            // Others are being made.
            if let Ok(made) = part.cast::<PyTuple>()
                && let (Ok(name), Ok(value)) = (name.extract::<&str>(), made.get_item(0))
            {
                once.record(name.into(), value.into());
            }
        }
        once
    }

    /// The same parts.
    pub(super) fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            step: Arc::clone(&self.step),
            iterations: self.iterations.clone(),
            by_name: self.by_name.clone_ref(py),
        }
    }

    pub(super) fn tell(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.by_name)
    }
}

/// What a step does once, for as long as one of its calls is under way.
#[pyclass(module = "flujo._native", frozen)]
pub(crate) struct StepParts {
    place: Arc<PlaceState>,
    step: Arc<str>,
    call: CallId,
    by_name: Py<PyDict>,
}

impl StepParts {
    pub(super) fn of(py: Python<'_>, place: &Arc<PlaceState>, call: CallId, parts: &Parts) -> Self {
        Self {
            place: Arc::clone(place),
            step: Arc::clone(&parts.step),
            call,
            by_name: parts.by_name.clone_ref(py),
        }
    }
}

#[pymethods]
impl StepParts {
    /// By name: the value in a tuple, or a future of who is making it.
    #[getter]
    fn by_name(&self, py: Python<'_>) -> Py<PyDict> {
        self.by_name.clone_ref(py)
    }

    /// Writes down what a part gave, of a run that is kept.
    fn record(&self, py: Python<'_>, name: &str, value: Py<PyAny>) -> PyResult<()> {
        let shared = self.place.shared();
        let Some(journal) = &shared.journal else {
            return Ok(());
        };
        let machine = self.place.machine();
        let recorded = journal.record_once(machine, &self.step, self.call, name.into(), value.into());
        match recorded {
            // It is on its way, whoever waits for it.
            Ok(_) => Ok(()),
            Err(mut error) => {
                if let DurableError::Unsavable { what, .. } = &mut error {
                    *what = format!("what step `{}` did once as `{name}`", self.step);
                }
                Err(shared.store_error(py, &error))
            }
        }
    }

    /// What is to be awaited until all that was recorded is in the store, if anything.
    fn written(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
        let py = event_loop.py();
        let shared = self.place.shared();
        let Some(journal) = &shared.journal else {
            return Ok(None);
        };
        let written = journal.flush();
        WriteOn::begin(py, journal, shared.event_loop(py))?;
        written
            .map(|written| {
                awaited(event_loop, Box::pin(written), |py, ()| {
                    Ok(py.None().into_bound(py))
                })
            })
            .transpose()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.by_name)
    }
}
