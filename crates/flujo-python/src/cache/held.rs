//! A value that the cache holds and nobody else: it goes in and out as a clone. The optimised twin clones natively, the plain
//! one by `copy.deepcopy`.

use std::sync::Arc;

use flujo_core::config::Twin;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use crate::context::isolated;

/// A value as the cache holds it.
#[derive(Debug)]
pub(crate) struct Held {
    value: Py<PyAny>,
    twin: Twin,
}

/// What results are of.
pub(crate) type Value = Arc<Held>;

impl Held {
    /// Takes in a clone of a value; `None` where there can't be one that shares nothing.
    pub(crate) fn of(value: &Bound<'_, PyAny>, twin: Twin) -> PyResult<Option<Value>> {
        Ok(cloned(value, twin)?.map(|own| Self::fresh(own, twin)))
    }

    /// Takes over a value that was just made.
    pub(crate) fn fresh(value: Bound<'_, PyAny>, twin: Twin) -> Value {
        let value = value.unbind();
        Arc::new(Self { value, twin })
    }

    /// A clone for somebody else.
    pub(crate) fn hand_out<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        cloned(self.value.bind(py), self.twin)
    }

    /// The value itself, to be read.
    pub(crate) fn look<'py>(&self, py: Python<'py>) -> &Bound<'py, PyAny> {
        self.value.bind(py)
    }
}

fn cloned<'py>(value: &Bound<'py, PyAny>, twin: Twin) -> PyResult<Option<Bound<'py, PyAny>>> {
    static DEEP_COPY: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    if twin == Twin::Optimized {
        return isolated(value);
    }
    match DEEP_COPY.import(value.py(), "copy", "deepcopy")?.call1((value,)) {
        Ok(copy) => Ok(Some(copy)),
        // What its class doesn't let copy can't be isolated.
        Err(error) if error.is_instance_of::<PyException>(value.py()) => Ok(None),
        Err(error) => Err(error),
    }
}
