//! Values of steps that are cached: their canonical form for keys, an exact form for stores outside the process, and clones
//! that nobody else holds.

mod form;
mod read;
mod write;

use pyo3::prelude::*;

use read::read;
use write::{Purpose, Unwritable, write};

/// The same functions under private names of the native module, for tests and measurements.
mod exposed {
    use pyo3::exceptions::{PyTypeError, PyValueError};
    use pyo3::prelude::*;
    use pyo3::types::PyBytes;

    use super::{Purpose, Unwritable};

    fn written<'py>(value: &Bound<'py, PyAny>, purpose: Purpose) -> PyResult<(Bound<'py, PyBytes>, bool)> {
        match super::write(value, purpose) {
            Ok(written) => Ok((PyBytes::new(value.py(), &written.bytes), written.is_local)),
            Err(Unwritable::Raised(error)) => Err(error),
            Err(Unwritable::Refused(reason)) => Err(PyTypeError::new_err(reason)),
        }
    }

    /// The canonical form of a value, and whether it holds only in this process.
    #[pyfunction]
    pub(super) fn cache_form<'py>(value: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyBytes>, bool)> {
        written(value, Purpose::Key)
    }

    /// A value as it is stored outside the process.
    #[pyfunction]
    pub(super) fn cache_stored<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(written(value, Purpose::Store)?.0)
    }

    /// The value that was stored.
    #[pyfunction]
    pub(super) fn cache_restored<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        super::read(py, bytes).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    /// A clone that shares nothing with the value that can change; None where there can't be one.
    #[pyfunction]
    pub(super) fn isolated_value<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
        crate::context::isolated(value)
    }
}

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(exposed::cache_form, module)?)?;
    module.add_function(wrap_pyfunction!(exposed::cache_stored, module)?)?;
    module.add_function(wrap_pyfunction!(exposed::cache_restored, module)?)?;
    module.add_function(wrap_pyfunction!(exposed::isolated_value, module)?)?;
    Ok(())
}
