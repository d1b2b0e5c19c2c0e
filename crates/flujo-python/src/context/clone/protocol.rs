//! Values that bring a copy protocol of their own: `__deepcopy__`, `__reduce_ex__`, reducers registered with `copyreg`.

use pyo3::exceptions::{PyException, PyMemoryError, PyRecursionError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::super::kind;
use super::{Cloned, Cloner, Failure};

impl<'py> Cloner<'_, 'py> {
    /// The protocol of `copy.deepcopy`, with our own clone for the parts.
    pub(super) fn rebuild(&mut self, value: &Bound<'py, PyAny>, unique: bool) -> Cloned<'py> {
        let Some(parts) = self.attempt(reduce(value))? else {
            return Ok(value.clone());
        };
        let part = |index: usize| parts.get_item(index).ok().filter(|part| !part.is_none());
        let original = parts.get_item(1)?;
        let arguments = self.clone(&original, 0)?.cast_into::<PyTuple>()?;
        let (state, items, pairs) = (part(2), part(3), part(4));
        if arguments.is(&original)
            && state.is_none()
            && items.is_none()
            && pairs.is_none()
            && value.is_instance_of::<PyTuple>()
        {
            return Ok(value.clone());
        }
        let made = parts.get_item(0)?.call1(&arguments);
        let cloned = self.attempt(made.map(Some))?.ok_or(Failure::Uncopyable)?;
        self.remember(value, &cloned, unique);
        if let Some(state) = state {
            let state = self.clone(&state, 0)?;
            let restored = match part(5) {
                Some(setter) => setter.call1((&cloned, &state)).map(drop),
                None => restore(&cloned, &state),
            };
            self.attempt(restored.map(Some))?;
        }
        if let Some(items) = items {
            for item in items.try_iter()? {
                // The item may have any number of holders that this walk can't tell.
                let item = self.clone(&item?, 0)?;
                cloned.call_method1(intern!(self.py, "append"), (item,))?;
            }
        }
        if let Some(pairs) = pairs {
            for pair in pairs.try_iter()? {
                let (key, item) = pair?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
                let item = self.clone(&item, 0)?;
                cloned.set_item(key, item)?;
            }
        }
        Ok(cloned)
    }

    pub(super) fn copy_by_itself(&mut self, value: &Bound<'py, PyAny>, unique: bool) -> Cloned<'py> {
        let memo = self
            .deepcopy_memo
            .get_or_insert_with(|| PyDict::new(self.py))
            .clone();
        let copied = value.call_method1(intern!(self.py, "__deepcopy__"), (memo,));
        let cloned = self.attempt(copied.map(Some))?.ok_or(Failure::Uncopyable)?;
        self.remember(value, &cloned, unique);
        Ok(cloned)
    }

    /// An error of a class's own copy protocol means "can't be copied"; what isn't about the class goes up.
    fn attempt<T>(&self, result: PyResult<Option<T>>) -> Result<Option<T>, Failure> {
        match result {
            Ok(value) => Ok(value),
            Err(error)
                if error.is_instance_of::<PyException>(self.py)
                    && !error.is_instance_of::<PyMemoryError>(self.py)
                    && !error.is_instance_of::<PyRecursionError>(self.py) =>
            {
                Err(Failure::Uncopyable)
            }
            Err(error) => Err(Failure::Raised(error)),
        }
    }
}

/// The object's own description of how to rebuild it; `None` where it stands for itself (a global singleton).
pub(in crate::context) fn reduce<'py>(value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyTuple>>> {
    let py = value.py();
    let parts = match kind::registered_reducer(&value.get_type())? {
        Some(reducer) => reducer.call1((value,))?,
        None => value.call_method1(intern!(py, "__reduce_ex__"), (4,))?,
    };
    if parts.is_instance_of::<PyString>() {
        Ok(None)
    } else {
        Ok(Some(parts.cast_into::<PyTuple>()?))
    }
}

/// Puts a reduced state back, as `copy` and `pickle` do.
fn restore(object: &Bound<'_, PyAny>, state: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    if let Some(setter) = object.getattr_opt(intern!(py, "__setstate__"))? {
        return setter.call1((state,)).map(drop);
    }
    let (attributes, slots) = match state.cast::<PyTuple>() {
        Ok(pair) if pair.len() == 2 => (pair.get_item(0)?, Some(pair.get_item(1)?)),
        _ => (state.clone(), None),
    };
    if !attributes.is_none() {
        object
            .getattr(intern!(py, "__dict__"))?
            .call_method1(intern!(py, "update"), (attributes,))?;
    }
    if let Some(slots) = slots
        && let Ok(slots) = slots.cast_into::<PyDict>()
    {
        for (name, value) in slots.iter() {
            object.setattr(name.cast_into::<PyString>()?, value)?;
        }
    }
    Ok(())
}
