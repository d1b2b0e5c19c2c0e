//! Contexts that aren't views: the user's own models before a run, dictionaries, and any other object with attributes.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

use super::class::{self, Part};
use super::{Change, kind, raw};

/// The attributes of a plain model, under the names that snapshots use.
pub(super) fn model_snapshot<'py>(model: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = model.py();
    let snapshot = raw::instance_dict(model)?.copy()?;
    for part in Part::ALL {
        if let Some(value) = raw::slot(part.slot(py)?, model)? {
            snapshot.set_item(part.name(py), value)?;
        }
    }
    Ok(snapshot)
}

/// The attributes of any other object that can serve as a context: a dictionary itself, else `__dict__`, else slots.
pub(super) fn snapshot<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let py = object.py();
    if let Ok(entries) = object.cast::<PyDict>() {
        return entries.copy();
    }
    let snapshot = if object.is_instance(kind::base_model(py)?)? {
        model_snapshot(object)?
    } else {
        match object.getattr_opt(intern!(py, "__dict__"))? {
            Some(attributes) => attributes.cast_into::<PyDict>()?.copy()?,
            None => PyDict::new(py),
        }
    };
    if let Some(names) = kind::slot_names(&class::model_of(&object.get_type())?)? {
        for name in names.iter() {
            let name = name.cast_into::<PyString>()?;
            if !snapshot.contains(&name)?
                && let Some(value) = raw::get_attribute(object, &name)?
            {
                snapshot.set_item(&name, value)?;
            }
        }
    }
    Ok(snapshot)
}

/// Writes to a context that isn't a view. `None` deletes.
pub(super) fn write<'py>(object: &Bound<'py, PyAny>, changes: &[Change<'py>]) -> PyResult<()> {
    let py = object.py();
    let entries = object.cast::<PyDict>().ok();
    let is_model = object.is_instance(kind::base_model(py)?)?;
    let slots = kind::slot_names(&object.get_type())?;
    for (name, value) in changes {
        match (entries, value) {
            (Some(entries), Some(value)) => entries.set_item(name, value)?,
            (Some(entries), None) => entries.del_item(name)?,
            (None, value) if is_model && !contained(slots.as_ref(), name)? => {
                let attributes = raw::instance_dict(object)?;
                match value {
                    Some(value) => attributes.set_item(name, value)?,
                    None => attributes.del_item(name)?,
                }
            }
            (None, value) => raw::set_attribute(object, name, value.as_ref())?,
        }
    }
    Ok(())
}

fn contained(names: Option<&Bound<'_, PyList>>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    names.map_or(Ok(false), |names| names.contains(name))
}
