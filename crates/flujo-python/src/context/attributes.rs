//! The descriptors of a view class. Each passes on to `state`; an instance without state behaves as a plain model.

use pyo3::exceptions::PyAttributeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::class::{self, Part, ViewClass};
use super::{raw, state};

/// One field of the model.
#[pyclass(frozen, module = "flujo._native")]
struct FieldAttribute {
    name: Py<PyString>,
    class: Py<ViewClass>,
}

/// The descriptor of a field.
pub(super) fn field<'py>(
    name: &Bound<'py, PyString>,
    class: &Bound<'py, ViewClass>,
) -> PyResult<Bound<'py, PyAny>> {
    let attribute = FieldAttribute {
        name: name.clone().unbind(),
        class: class.clone().unbind(),
    };
    Ok(Bound::new(name.py(), attribute)?.into_any())
}

#[pymethods]
impl FieldAttribute {
    fn __get__<'py>(
        &self,
        instance: Option<&Bound<'py, PyAny>>,
        owner: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = owner.py();
        let name = self.name.bind(py);
        // As on the model class itself, where a field is no class attribute.
        let Some(instance) = instance else {
            return Err(absent(owner, name));
        };
        state::field(instance, self.class.bind(py).get(), name)?.ok_or_else(|| absent(owner, name))
    }

    fn __set__(&self, instance: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, name) = (instance.py(), self.name.bind(instance.py()));
        state::note_assignment(instance, self.class.bind(py).get(), name)?;
        raw::instance_dict(instance)?.set_item(name, value)
    }

    fn __delete__(&self, instance: &Bound<'_, PyAny>) -> PyResult<()> {
        let name = self.name.bind(instance.py());
        let attributes = state::all_attributes(instance)?;
        if attributes.contains(name)? {
            attributes.del_item(name)
        } else {
            Err(absent(instance, name))
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.class)
    }
}

fn absent(of: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyErr {
    let class = match of.cast::<PyType>() {
        Ok(class) => class.clone(),
        Err(_) => of.get_type(),
    };
    match class.name() {
        Ok(class) => PyAttributeError::new_err(format!("{class:?} object has no attribute {name:?}")),
        Err(error) => error,
    }
}

/// `__dict__`: whoever asks for it can reach everything, so everything is isolated first.
#[pyclass(frozen, module = "flujo._native")]
struct AttributeDict;

#[pymethods]
#[allow(clippy::unused_self)] // a descriptor's methods take the descriptor
impl AttributeDict {
    fn __get__<'py>(
        &self,
        instance: Option<&Bound<'py, PyAny>>,
        owner: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match instance {
            Some(instance) => Ok(state::all_attributes(instance)?.into_any()),
            None => owner.getattr(intern!(owner.py(), "__dict__")),
        }
    }

    /// pydantic replaces the whole dictionary after validating an assignment.
    fn __set__(&self, instance: &Bound<'_, PyAny>, value: &Bound<'_, PyDict>) -> PyResult<()> {
        state::all_attributes(instance)?;
        raw::set_instance_dict(instance, value)
    }
}

/// `__pydantic_fields_set__`, `__pydantic_extra__`, `__pydantic_private__`.
#[pyclass(frozen, module = "flujo._native")]
struct PartAttribute {
    part: Part,
}

#[pymethods]
impl PartAttribute {
    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: Option<&Bound<'py, PyAny>>,
        owner: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let part = slf.get().part;
        let Some(instance) = instance else {
            return Ok(slf.clone().into_any());
        };
        state::part(instance, part)?.ok_or_else(|| absent(owner, part.name(owner.py())))
    }

    fn __set__(&self, instance: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
        state::set_part(instance, self.part, value)
    }
}

/// `__class__` is the user's class, so that `type(x)`-style idioms through it (`self.__class__(…)`, pydantic's
/// equality) make and meet plain models.
#[pyclass(frozen, module = "flujo._native")]
struct ClassAttribute;

#[pymethods]
#[allow(clippy::unused_self)] // a descriptor's methods take the descriptor
impl ClassAttribute {
    fn __get__<'py>(
        &self,
        instance: Option<&Bound<'py, PyAny>>,
        owner: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match instance {
            Some(instance) => Ok(class::model_of(&instance.get_type())?.into_any()),
            None => Ok(owner.get_type().into_any()),
        }
    }

    fn __set__(&self, instance: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>) -> PyResult<()> {
        Err(pyo3::exceptions::PyTypeError::new_err(format!(
            "the class of a context can't be changed (here: {})",
            instance.get_type().name()?
        )))
    }
}

/// A native function as a method: built-in functions don't bind to an instance by themselves.
#[pyclass(frozen, module = "flujo._native")]
struct Method {
    function: Py<PyAny>,
}

#[pymethods]
impl Method {
    fn __get__<'py>(
        slf: &Bound<'py, Self>,
        instance: Option<&Bound<'py, PyAny>>,
        owner: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = owner.py();
        match instance {
            Some(instance) => bind(slf.get().function.bind(py), instance),
            None => Ok(slf.get().function.bind(py).clone()),
        }
    }
}

fn bind<'py>(function: &Bound<'py, PyAny>, instance: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static METHOD_TYPE: pyo3::sync::PyOnceLock<Py<PyType>> = pyo3::sync::PyOnceLock::new();
    METHOD_TYPE
        .import(function.py(), "types", "MethodType")?
        .call1((function, instance))
}

#[pyfunction]
fn assign(context: &Bound<'_, PyAny>, name: &Bound<'_, PyString>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = context.py();
    if let Some(class) = class::view_class_of(context)? {
        let class = class.get();
        if let Some(value) = class.assignments.written(class.model(py), name, value)? {
            raw::instance_dict(context)?.set_item(name, value)?;
            return state::record_assignment(context, class, name);
        }
    }
    let model = class::model_of(&context.get_type())?;
    model
        .getattr(intern!(py, "__setattr__"))?
        .call1((context, name, value))
        .map(drop)
}

#[pyfunction]
fn copy<'py>(context: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    state::plain_model(context)?.call_method0(intern!(context.py(), "__copy__"))
}

#[pyfunction]
#[pyo3(signature = (context, memo = None))]
fn deepcopy<'py>(
    context: &Bound<'py, PyAny>,
    memo: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    state::plain_model(context)?.call_method1(intern!(context.py(), "__deepcopy__"), (memo,))
}

#[pyfunction]
fn reduce<'py>(context: &Bound<'py, PyAny>, protocol: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    state::plain_model(context)?.call_method1(intern!(context.py(), "__reduce_ex__"), (protocol,))
}

/// Stands in for the user's `__init_subclass__` while a view class is made.
#[pyfunction]
#[pyo3(signature = (*_arguments))]
fn init_subclass(_arguments: &Bound<'_, PyTuple>) {}

/// Fills the namespace of the base of all view classes.
pub(super) fn add_behaviour(namespace: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = namespace.py();
    namespace.set_item("__dict__", Bound::new(py, AttributeDict)?)?;
    namespace.set_item("__class__", Bound::new(py, ClassAttribute)?)?;
    for part in Part::ALL {
        namespace.set_item(part.name(py), Bound::new(py, PartAttribute { part })?)?;
    }
    let functions = [
        ("__setattr__", wrap_pyfunction!(assign, py)?),
        ("__copy__", wrap_pyfunction!(copy, py)?),
        ("__deepcopy__", wrap_pyfunction!(deepcopy, py)?),
        ("__reduce_ex__", wrap_pyfunction!(reduce, py)?),
        ("__init_subclass__", wrap_pyfunction!(init_subclass, py)?),
    ];
    for (name, function) in functions {
        namespace.set_item(
            name,
            Bound::new(
                py,
                Method {
                    function: function.into_any().unbind(),
                },
            )?,
        )?;
    }
    Ok(())
}
