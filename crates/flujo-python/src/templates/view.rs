//! Python objects as templates read them: entries of dictionaries, items of lists, fields of models and dataclasses. No
//! method of an object is called but the `__str__` of one that is printed.

use std::any::Any;
use std::sync::Arc;

use flujo_agents::template::{HostObject, Shape, host_object, host_value};
use flujo_core::value::Value;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
    PyType,
};

/// What is read of an object.
enum Reading {
    Dict,
    /// A list or tuple; a tuple with named fields has them as well.
    Items {
        named: bool,
    },
    /// The items of a set, in the order it gave them.
    Snapshot(Py<PyList>),
    /// The fields of a pydantic model or dataclass.
    Fields,
    /// `name` and `value` of an enum's member.
    Member,
    Nothing,
}

/// An object and how it is read.
pub(super) struct PyView {
    object: Py<PyAny>,
    reading: Reading,
}

/// An object for a template: plain values as they are, all else looked into on demand.
pub(crate) fn to_value(object: &Bound<'_, PyAny>) -> Value {
    scalar(object).unwrap_or_else(|| host_value(PyView::of(object)))
}

/// The object that a value of a template stands for.
pub(crate) fn picked<'py>(py: Python<'py>, value: &Value) -> Option<Bound<'py, PyAny>> {
    let view: &PyView = host_object(value)?.as_any().downcast_ref()?;
    Some(view.object.bind(py).clone())
}

fn scalar(object: &Bound<'_, PyAny>) -> Option<Value> {
    if object.is_none() {
        Some(Value::Null)
    } else if let Ok(text) = object.cast::<PyString>() {
        // Lone surrogates have no place in text.
        Some(Value::from(&*text.to_string_lossy()))
    } else if let Ok(truth) = object.cast::<PyBool>() {
        Some(Value::Bool(truth.is_true()))
    } else if object.is_instance_of::<PyInt>() {
        object.extract().ok().map(Value::Int)
    } else if object.is_instance_of::<PyFloat>() {
        object.extract().ok().map(Value::Float)
    } else if let Ok(bytes) = object.cast::<PyBytes>() {
        Some(Value::Bytes(bytes.as_bytes().into()))
    } else if let Ok(bytes) = object.cast::<PyByteArray>() {
        Some(Value::Bytes(bytes.to_vec().into()))
    } else {
        None
    }
}

impl PyView {
    fn of(object: &Bound<'_, PyAny>) -> Self {
        Self {
            reading: reading(object).unwrap_or(Reading::Nothing),
            object: object.clone().unbind(),
        }
    }

    /// Asks Python; `default` once the interpreter is shutting down.
    fn ask<R>(&self, default: R, question: impl FnOnce(&Bound<'_, PyAny>) -> R) -> R {
        Python::try_attach(|py| question(self.object.bind(py))).unwrap_or(default)
    }

    /// The list or tuple whose items it has.
    fn items<'a, 'py>(&'a self, object: &'a Bound<'py, PyAny>) -> &'a Bound<'py, PyAny> {
        match &self.reading {
            Reading::Snapshot(items) => items.bind(object.py()).as_any(),
            _ => object,
        }
    }
}

fn reading(object: &Bound<'_, PyAny>) -> PyResult<Reading> {
    let py = object.py();
    Ok(if object.is_instance_of::<PyDict>() {
        Reading::Dict
    } else if object.is_instance_of::<PyTuple>() {
        let named = object.get_type().hasattr(intern!(py, "_fields"))?;
        Reading::Items { named }
    } else if object.is_instance_of::<PyList>() {
        Reading::Items { named: false }
    } else if object.is_instance_of::<PySet>() || object.is_instance_of::<PyFrozenSet>() {
        let items = object.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        Reading::Snapshot(PyList::new(py, items)?.unbind())
    } else if object.is_instance(enum_class(py)?)? {
        Reading::Member
    } else if fields(object).is_some() {
        Reading::Fields
    } else {
        Reading::Nothing
    })
}

fn enum_class(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static CELL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    CELL.import(py, "enum", "Enum")
}

/// The names of a model's or dataclass's fields, where it is one.
fn fields<'py>(object: &Bound<'py, PyAny>) -> Option<Vec<Bound<'py, PyString>>> {
    let py = object.py();
    let class = object.get_type();
    let declared = |name| class.getattr_opt(name).ok().flatten()?.cast_into::<PyDict>().ok();
    let names = |dict: Bound<'py, PyDict>| -> Vec<Bound<'py, PyString>> {
        dict.keys()
            .iter()
            .filter_map(|key| key.cast_into().ok())
            .collect()
    };
    if let Some(fields) = declared(intern!(py, "__pydantic_fields__")) {
        let mut all = names(fields);
        let more = object.getattr_opt(intern!(py, "__pydantic_extra__"));
        if let Some(extra) = more.ok().flatten().and_then(|extra| extra.cast_into().ok()) {
            all.extend(names(extra));
        }
        return Some(all);
    }
    declared(intern!(py, "__dataclass_fields__")).map(names)
}

fn has_field(object: &Bound<'_, PyAny>, name: &str) -> bool {
    fields(object).is_some_and(|fields| {
        fields
            .iter()
            .any(|field| field.to_str().is_ok_and(|field| field == name))
    })
}

type Found = Result<Value, String>;

fn found(result: PyResult<Bound<'_, PyAny>>, name: &str, py: Python<'_>) -> Found {
    match result {
        Ok(object) => Ok(to_value(&object)),
        Err(error) => Err(format!("`{name}` can't be read: {}", in_words(py, &error))),
    }
}

fn in_words(py: Python<'_>, error: &PyErr) -> String {
    let class = error.get_type(py);
    class
        .name()
        .map_or_else(|_| "an error".to_owned(), |name| name.to_string())
}

impl HostObject for PyView {
    fn shape(&self) -> Shape {
        match self.reading {
            Reading::Dict | Reading::Fields => Shape::Map,
            Reading::Items { .. } | Reading::Snapshot(_) => Shape::List,
            Reading::Member | Reading::Nothing => Shape::Plain,
        }
    }

    fn type_name(&self) -> String {
        self.ask("object".to_owned(), |object| {
            let name = object.get_type().fully_qualified_name();
            name.map_or_else(
                |_| "object".to_owned(),
                |name| name.to_string_lossy().replace("builtins.", ""),
            )
        })
    }

    fn len(&self) -> usize {
        self.ask(0, |object| match self.reading {
            Reading::Fields => fields(object).map_or(0, |fields| fields.len()),
            Reading::Member | Reading::Nothing => 0,
            _ => self.items(object).len().unwrap_or(0),
        })
    }

    fn entry(&self, name: &str) -> Option<Found> {
        self.ask(None, |object| {
            let py = object.py();
            let reads = match &self.reading {
                Reading::Dict => {
                    let dict = object.cast::<PyDict>().ok()?;
                    return match dict.get_item(name) {
                        Ok(value) => value.map(|value| Ok(to_value(&value))),
                        Err(error) => Some(found(Err(error), name, py)),
                    };
                }
                Reading::Fields => has_field(object, name),
                Reading::Items { named: true } => {
                    let names = object.getattr(intern!(py, "_fields")).ok()?;
                    names.contains(name).unwrap_or(false)
                }
                Reading::Member => ["name", "value"].contains(&name),
                _ => false,
            };
            reads.then(|| found(object.getattr(name), name, py))
        })
    }

    fn at(&self, index: i64) -> Option<Found> {
        self.ask(None, |object| {
            let py = object.py();
            match &self.reading {
                Reading::Dict => {
                    let value = object.cast::<PyDict>().ok()?.get_item(index).ok()??;
                    Some(Ok(to_value(&value)))
                }
                Reading::Items { .. } | Reading::Snapshot(_) => {
                    let items = self.items(object);
                    let index = usize::try_from(index).ok()?;
                    if index >= items.len().ok()? {
                        return None;
                    }
                    Some(found(items.get_item(index), &format!("[{index}]"), py))
                }
                _ => None,
            }
        })
    }

    fn entries(&self) -> Vec<(Value, Found)> {
        self.ask(Vec::new(), |object| {
            let py = object.py();
            if let (Reading::Dict, Ok(dict)) = (&self.reading, object.cast::<PyDict>()) {
                let key = |key: &Bound<'_, PyAny>| {
                    scalar(key).unwrap_or_else(|| {
                        let text = key.str().map(|text| text.to_string_lossy().into_owned());
                        Value::from(text.unwrap_or_default())
                    })
                };
                return dict
                    .iter()
                    .map(|(name, value)| (key(&name), Ok(to_value(&value))))
                    .collect();
            }
            let fields = match self.reading {
                Reading::Fields => fields(object).unwrap_or_default(),
                _ => Vec::new(),
            };
            let read = |field: Bound<'_, PyString>| {
                let name = field.to_string_lossy().into_owned();
                let value = found(object.getattr(&field), &name, py);
                (Value::from(name), value)
            };
            fields.into_iter().map(read).collect()
        })
    }

    fn text(&self) -> Option<String> {
        self.ask(None, |object| {
            let py = object.py();
            if matches!(self.reading, Reading::Member) {
                let value = object.getattr(intern!(py, "value")).ok()?;
                return Some(value.str().ok()?.to_string_lossy().into_owned());
            }
            // Without a `__str__` of its own it has no text but its address.
            let own = object.get_type().getattr(intern!(py, "__str__")).ok()?;
            let bare = py.get_type::<PyAny>().getattr(intern!(py, "__str__")).ok()?;
            let printable = object.is_instance_of::<PyInt>() || !own.is(&bare);
            printable
                .then(|| object.str().ok().map(|text| text.to_string_lossy().into_owned()))
                .flatten()
        })
    }

    fn is_true(&self) -> bool {
        match self.reading {
            Reading::Dict | Reading::Items { .. } | Reading::Snapshot(_) => self.len() > 0,
            Reading::Nothing => self.ask(false, |object| {
                // Numbers and dates know; any other object is there, and so true.
                let number = object.is_instance_of::<PyInt>();
                !number || object.is_truthy().unwrap_or(true)
            }),
            Reading::Fields | Reading::Member => true,
        }
    }

    fn is(&self, other: &dyn HostObject) -> bool {
        let other: Option<&Self> = other.as_any().downcast_ref();
        other.is_some_and(|other| self.object.as_ptr() == other.object.as_ptr())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Templates' data as Python objects; what was picked out of a scope is the object itself.
pub(crate) fn to_object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    match value {
        Value::List(items) => {
            let list = PyList::empty(py);
            for item in items.iter() {
                list.append(to_object(py, item)?)?;
            }
            Ok(list.into_any())
        }
        Value::Map(entries) => {
            let map = PyDict::new(py);
            for (key, value) in entries.iter() {
                map.set_item(&**key, to_object(py, value)?)?;
            }
            Ok(map.into_any())
        }
        other => match picked(py, other) {
            Some(object) => Ok(object),
            None => crate::agents::to_object(py, other),
        },
    }
}

/// The names of a template that Python gives it.
pub(super) fn name(text: &Bound<'_, PyAny>) -> PyResult<Arc<str>> {
    Ok(Arc::from(text.cast::<PyString>()?.to_str()?))
}
