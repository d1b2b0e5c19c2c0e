//! JSON schemas that values from Python are checked against.

use flujo_agents::chat;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyTuple};

use super::plain::to_value;

/// A compiled JSON schema.
#[pyclass(module = "flujo._native", frozen)]
pub(super) struct JsonSchema {
    schema: chat::JsonSchema,
}

#[pymethods]
impl JsonSchema {
    #[new]
    fn new(schema: &Bound<'_, PyDict>) -> PyResult<Self> {
        let source = to_value(schema, "schema")?;
        let schema = chat::JsonSchema::compile(&source).map_err(PyValueError::new_err)?;
        Ok(Self { schema })
    }

    /// Where a value doesn't fit, each place as a tuple of keys and indexes, and what is wrong there.
    fn check<'py>(&self, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyList>> {
        let py = value.py();
        let plain = to_value(value, "answer")?;
        let wrong = PyList::empty(py);
        for (pointer, rule) in self.schema.mismatches(&plain).map_err(PyValueError::new_err)? {
            let mut place = Vec::new();
            for part in pointer.split('/').skip(1) {
                place.push(match part.parse::<usize>() {
                    Ok(index) => index.into_pyobject(py)?.into_any(),
                    Err(_) => part
                        .replace("~1", "/")
                        .replace("~0", "~")
                        .into_pyobject(py)?
                        .into_any(),
                });
            }
            wrong.append((PyTuple::new(py, place)?, rule))?;
        }
        Ok(wrong)
    }
}
