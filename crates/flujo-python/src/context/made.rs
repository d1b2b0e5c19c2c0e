//! Instances made of their parts, without running any code of their class: what was valid once is valid again.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use super::class::{self, Part};
use super::raw;

/// A pydantic model of these attributes and parts, the latter in the order set fields, extra values, private attributes.
pub(crate) fn made_model<'py>(
    class: &Bound<'py, PyType>,
    attributes: &Bound<'py, PyDict>,
    parts: [&Bound<'py, PyAny>; 3],
) -> PyResult<Bound<'py, PyAny>> {
    let model = raw::bare_instance(class)?;
    raw::set_instance_dict(&model, attributes)?;
    for (part, value) in Part::ALL.into_iter().zip(parts) {
        raw::set_slot(part.slot(class.py())?, &model, Some(value))?;
    }
    Ok(model)
}

/// An instance of a class in Python with these attributes.
pub(crate) fn made_instance<'py>(
    class: &Bound<'py, PyType>,
    attributes: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let instance = raw::bare_instance(class)?;
    for (name, value) in attributes.iter() {
        raw::set_attribute(&instance, name.cast::<PyString>()?, Some(&value))?;
    }
    Ok(instance)
}

/// The user's class: the model of a view's class, any other class itself.
pub(crate) fn model_class<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    class::model_of(class)
}
