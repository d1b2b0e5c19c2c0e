//! The view class of a model class: a subclass of the same name whose every attribute that could reach the model's
//! state is a native data descriptor. Made once per model class without running any hook of the user's
//! (`__init_subclass__`, `__pydantic_init_subclass__`, the metaclass's `__new__`), and kept in the model class's own
//! namespace, so it dies with it.

use std::sync::OnceLock;

use pyo3::exceptions::PyTypeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyFrozenSet, PyString, PyTuple, PyType};

use super::assignment::Assignments;
use super::attributes;
use super::{kind, raw, rules};

/// The parts of a pydantic model that aren't fields: set fields, extra values, private attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    FieldsSet,
    Extra,
    Private,
}

impl Part {
    pub(super) const ALL: [Self; 3] = [Self::FieldsSet, Self::Extra, Self::Private];

    /// The attribute's name, which is also its key in a snapshot: no field can be called so.
    pub(super) fn name(self, py: Python<'_>) -> &Bound<'_, PyString> {
        match self {
            Self::FieldsSet => intern!(py, "__pydantic_fields_set__"),
            Self::Extra => intern!(py, "__pydantic_extra__"),
            Self::Private => intern!(py, "__pydantic_private__"),
        }
    }

    /// `BaseModel`'s slot for it.
    pub(super) fn slot(self, py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
        static SLOTS: PyOnceLock<[Py<PyAny>; 3]> = PyOnceLock::new();
        let slots = SLOTS.get_or_try_init(py, || -> PyResult<_> {
            let namespace = kind::base_model(py)?.getattr("__dict__")?;
            let slot = |part: Self| namespace.get_item(part.name(py)).map(Bound::unbind);
            Ok([slot(Self::FieldsSet)?, slot(Self::Extra)?, slot(Self::Private)?])
        })?;
        Ok(slots[self as usize].bind(py))
    }

    /// The part that a snapshot's key stands for. Snapshots hold the very string that `name` gives.
    pub(super) fn of_key(key: &Bound<'_, PyString>) -> Option<Self> {
        Self::ALL.into_iter().find(|part| key.is(part.name(key.py())))
    }
}

/// What is known about a model class and its view class.
#[pyclass(frozen, module = "flujo._native")]
pub(super) struct ViewClass {
    model: Py<PyType>,
    fields: Py<PyFrozenSet>,
    /// Set once, right after the class was made from this very object.
    made: OnceLock<Made>,
    pub(super) assignments: Assignments,
}

struct Made {
    class: Py<PyType>,
    state: Py<PyAny>,
}

#[pymethods]
impl ViewClass {
    #[allow(clippy::needless_pass_by_value)]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.model)?;
        if let Some(made) = self.made.get() {
            visit.call(&made.class)?;
            visit.call(&made.state)?;
        }
        Ok(())
    }
}

impl ViewClass {
    pub(super) fn model<'py>(&self, py: Python<'py>) -> &Bound<'py, PyType> {
        self.model.bind(py)
    }

    /// Whether the name is one of the model's fields.
    pub(super) fn is_field(&self, name: &Bound<'_, PyString>) -> PyResult<bool> {
        self.fields.bind(name.py()).contains(name)
    }

    pub(super) fn field_count(&self, py: Python<'_>) -> usize {
        self.fields.bind(py).len()
    }

    fn made(&self) -> PyResult<&Made> {
        self.made
            .get()
            .ok_or_else(|| PyTypeError::new_err("the context view's class isn't complete yet"))
    }

    /// The class of the views.
    pub(super) fn class<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyType>> {
        Ok(self.made()?.class.bind(py))
    }

    /// The slot that holds a view's state. An instance without one was made by user code (`type(context)(…)`) and
    /// behaves as an ordinary model.
    pub(super) fn state_slot<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        Ok(self.made()?.state.bind(py))
    }
}

fn key(py: Python<'_>) -> &Bound<'_, PyString> {
    intern!(py, "__flujo_view__")
}

/// What is known about the class if it is a view class, or a model class that has one already.
fn recorded<'py>(class: &Bound<'py, PyType>) -> PyResult<Option<Bound<'py, ViewClass>>> {
    let py = class.py();
    let Some(found) = raw::class_attribute(class, key(py))? else {
        return Ok(None);
    };
    let found = found.cast_into::<ViewClass>()?;
    let about_this = {
        let known = found.get();
        class.is(known.model(py)) || known.made.get().is_some_and(|made| class.is(made.class.bind(py)))
    };
    Ok(about_this.then_some(found))
}

/// Whether the class is a view class.
pub(super) fn is_view_class(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let behaviour = behaviour(class.py())?;
    Ok(class.mro().get_item(1).is_ok_and(|second| second.is(behaviour)))
}

/// The view class's record where the object's class is one.
pub(super) fn view_class_of<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, ViewClass>>> {
    let class = object.get_type();
    if is_view_class(&class)? {
        recorded(&class)
    } else {
        Ok(None)
    }
}

/// The user's class: the model of a view class, any other class itself.
pub(super) fn model_of<'py>(class: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    if is_view_class(class)?
        && let Some(known) = recorded(class)?
    {
        return Ok(known.get().model(class.py()).clone());
    }
    Ok(class.clone())
}

/// The record of the model class, with its view class made on first use; `None` where that isn't possible.
pub(super) fn view_class<'py>(class: &Bound<'py, PyType>) -> PyResult<Option<Bound<'py, ViewClass>>> {
    if let Some(known) = recorded(class)? {
        return Ok(Some(known));
    }
    let py = class.py();
    let base_model = kind::base_model(py)?;
    if !class.mro().contains(base_model)? || class.is(base_model) {
        return Ok(None);
    }
    // Slots of the user's own can't be intercepted: such a model is copied the plain way.
    if kind::slot_names(class)?.map_or(0, |names| names.len()) != Part::ALL.len() {
        return Ok(None);
    }
    match make(class) {
        Ok(made) => Ok(Some(made)),
        // A layout or a metaclass that admits no further subclass: such a context is copied the plain way.
        Err(error) if error.is_instance_of::<PyTypeError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

fn make<'py>(model: &Bound<'py, PyType>) -> PyResult<Bound<'py, ViewClass>> {
    rules::check(model)?;
    let py = model.py();
    let fields = model
        .getattr(intern!(py, "__pydantic_fields__"))?
        .cast_into::<PyDict>()?;
    let record = Bound::new(
        py,
        ViewClass {
            model: model.clone().unbind(),
            fields: PyFrozenSet::new(py, fields.keys().iter())?.unbind(),
            made: OnceLock::new(),
            assignments: Assignments::of(model, &fields)?,
        },
    )?;
    let namespace = PyDict::new(py);
    let slot_name = intern!(py, "__flujo_state__");
    namespace.set_item("__slots__", (slot_name,))?;
    for name in ["__module__", "__qualname__", "__doc__"] {
        namespace.set_item(name, model.getattr(name)?)?;
    }
    if model.getattr("__pydantic_complete__")?.is_truthy()? {
        // pydantic looks for these in the class's own namespace only, where a `TypeAdapter` is made of `type(context)`.
        for name in ["core_schema", "validator", "serializer", "complete"] {
            let name = format!("__pydantic_{name}__");
            namespace.set_item(&name, model.getattr(&name)?)?;
        }
    }
    namespace.set_item(key(py), &record)?;
    for name in fields.keys() {
        let name = name.cast_into::<PyString>()?;
        namespace.set_item(&name, attributes::field(&name, &record)?)?;
    }
    let arguments = (model.getattr("__name__")?, (behaviour(py)?, model), namespace).into_pyobject(py)?;
    let class = raw::bare_class(&model.get_type(), &arguments)?;
    // An ABC keeps a registry per class: shared with the model's it would answer for the wrong one.
    py.import("abc")?
        .getattr("_abc_init")
        .and_then(|init| init.call1((&class,)))?;
    let state = class.getattr("__dict__")?.get_item(slot_name)?.unbind();
    let made = Made {
        class: class.unbind(),
        state,
    };
    record
        .get()
        .made
        .set(made)
        .map_err(|_| PyTypeError::new_err("the view class was made twice"))?;
    raw::set_class_attribute(model, key(py), record.as_any())?;
    Ok(record)
}

/// The first base of every view class. It carries what is the same for all of them, and by coming before the model in
/// the method resolution order its `__init_subclass__` keeps the user's from running.
fn behaviour(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static BEHAVIOUR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = BEHAVIOUR.get_or_try_init(py, || -> PyResult<_> {
        let namespace = PyDict::new(py);
        namespace.set_item("__slots__", PyTuple::empty(py))?;
        namespace.set_item("__module__", "flujo")?;
        attributes::add_behaviour(&namespace)?;
        let metaclass = py.get_type::<PyType>();
        let arguments = ("ContextView", PyTuple::empty(py), namespace).into_pyobject(py)?;
        Ok(raw::bare_class(&metaclass, &arguments)?.unbind())
    })?;
    Ok(class.bind(py))
}
