//! The cache of results: values in their canonical form for keys, in an exact form for stores outside the process, and as
//! clones that nobody else holds; caches as Python holds them; where others wait for a result.

mod form;
mod held;
mod read;
mod results;
mod seat;
mod second;
mod stored;
mod write;

use pyo3::prelude::*;

pub(crate) use form::{own_name, register as register_class, resolve_or_registered as class_named};
pub(crate) use held::{Held, Value};
pub(crate) use read::{Unreadable, read};
pub(crate) use results::{Cache, ResultCache, Results, duration, nanoseconds, now};
pub(crate) use seat::{Seat, Told, Waiting};
pub(crate) use second::Answer as TierAnswer;
pub(crate) use stored::{read_result, read_sets, result as stored_result, sets as stored_sets, sets_key};
pub(crate) use write::{Purpose, Unwritable, placed, write};

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
    module.add_class::<results::ResultCache>()?;
    module.add_class::<results::NamedLead>()?;
    module.add_class::<results::NamedSeat>()?;
    module.add_function(wrap_pyfunction!(exposed::cache_form, module)?)?;
    module.add_function(wrap_pyfunction!(exposed::cache_stored, module)?)?;
    module.add_function(wrap_pyfunction!(exposed::cache_restored, module)?)?;
    module.add_function(wrap_pyfunction!(exposed::isolated_value, module)?)?;
    Ok(())
}
