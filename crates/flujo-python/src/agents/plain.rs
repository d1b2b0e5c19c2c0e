//! Python objects as plain data and back: what an agent is given, and what it gives.

use std::fmt;
use std::sync::Arc;

use flujo_core::value::{Map, Value};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
};

use super::classes;

/// Deeper data is refused, as JSON parsers do; it would be a cycle in most cases.
const DEEPEST: usize = 128;

/// Where in the data something is, for messages: `context.files[3].text`.
#[derive(Clone, Copy)]
enum Place<'a> {
    Top(&'a str),
    Key(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl Place<'_> {
    fn depth(&self) -> usize {
        let mut depth = 0;
        let mut place = self;
        while let Self::Key(above, _) | Self::Item(above, _) = place {
            depth += 1;
            place = above;
        }
        depth
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top(name) => f.write_str(name),
            Self::Key(above, key) => write!(f, "{above}.{key}"),
            Self::Item(above, index) => write!(f, "{above}[{index}]"),
        }
    }
}

/// An object as plain data. Pydantic models become what they dump, everything else that pydantic can write as JSON
/// (dates, paths, enums, dataclasses) what it writes.
///
/// # Errors
/// `TypeError` and `ValueError` naming the place of what can't be plain data, counted from `name`.
pub(crate) fn to_value(object: &Bound<'_, PyAny>, name: &str) -> PyResult<Value> {
    convert(object, Place::Top(name))
}

fn convert(object: &Bound<'_, PyAny>, place: Place<'_>) -> PyResult<Value> {
    match known(object, place)? {
        Some(value) => Ok(value),
        None => dumped(object, place),
    }
}

/// The value of an object of one of Python's own types for data.
fn known(object: &Bound<'_, PyAny>, place: Place<'_>) -> PyResult<Option<Value>> {
    Ok(Some(if object.is_none() {
        Value::Null
    } else if let Ok(text) = object.cast::<PyString>() {
        let text = text.to_str().map_err(|_| {
            PyValueError::new_err(format!(
                "{place} is text with lone surrogates, which UTF-8 can't hold"
            ))
        })?;
        Value::from(text)
    } else if let Ok(truth) = object.cast::<PyBool>() {
        Value::Bool(truth.is_true())
    } else if object.is_instance_of::<PyInt>() {
        Value::Int(object.extract().map_err(|_| {
            PyValueError::new_err(format!(
                "{place} is an integer beyond 64 bits: give it as text, which holds any number of digits"
            ))
        })?)
    } else if object.is_instance_of::<PyFloat>() {
        Value::Float(object.extract()?)
    } else if let Ok(bytes) = object.cast::<PyBytes>() {
        Value::Bytes(bytes.as_bytes().into())
    } else if let Ok(bytes) = object.cast::<PyByteArray>() {
        Value::Bytes(bytes.to_vec().into())
    } else if let Ok(entries) = object.cast::<PyDict>() {
        map(entries, place)?
    } else if let Ok(items) = object.cast::<PyList>() {
        list(items.iter(), place)?
    } else if let Ok(items) = object.cast::<PyTuple>() {
        list(items.iter(), place)?
    } else if object.is_instance_of::<PySet>() || object.is_instance_of::<PyFrozenSet>() {
        list(object.try_iter()?.collect::<PyResult<Vec<_>>>()?, place)?
    } else {
        return Ok(None);
    }))
}

fn list<'py>(items: impl IntoIterator<Item = Bound<'py, PyAny>>, place: Place<'_>) -> PyResult<Value> {
    check_depth(place)?;
    let items = items.into_iter().enumerate();
    let values: PyResult<Vec<Value>> = items
        .map(|(index, item)| convert(&item, Place::Item(&place, index)))
        .collect();
    values.map(Value::from)
}

fn map(entries: &Bound<'_, PyDict>, place: Place<'_>) -> PyResult<Value> {
    check_depth(place)?;
    let mut map = Map::with_capacity(entries.len());
    for (key, value) in entries.iter() {
        let key: Arc<str> = if let Ok(text) = key.cast::<PyString>() {
            Arc::from(text.to_str()?)
        } else if key.is_instance_of::<PyInt>() && !key.is_instance_of::<PyBool>() {
            Arc::from(&*key.str()?.to_cow()?)
        } else {
            return Err(PyTypeError::new_err(format!(
                "{place} has the key {key:?} of type {}: an agent takes maps with text as keys",
                key.get_type().name()?
            )));
        };
        let value = convert(&value, Place::Key(&place, &key))?;
        map.push((key, value));
    }
    Ok(Value::Map(Arc::new(map)))
}

fn check_depth(place: Place<'_>) -> PyResult<()> {
    if place.depth() < DEEPEST {
        return Ok(());
    }
    let mut top = place;
    while let Place::Key(above, _) | Place::Item(above, _) = top {
        top = *above;
    }
    Err(PyValueError::new_err(format!(
        "{top} is nested more than {DEEPEST} levels deep, or holds itself: give an agent flat data"
    )))
}

/// The value of an object that pydantic knows how to write.
fn dumped(object: &Bound<'_, PyAny>, place: Place<'_>) -> PyResult<Value> {
    let py = object.py();
    check_depth(place)?;
    if object.is_instance(classes::base_model(py)?)? {
        let model = crate::context::plain(py, object)?;
        let options = PyDict::new(py);
        options.set_item(intern!(py, "warnings"), false)?;
        let dump = model
            .bind(py)
            .call_method(intern!(py, "model_dump"), (), Some(&options))?;
        return match known(&dump, place)? {
            Some(value) => Ok(value),
            None => Err(refused(object, place)?),
        };
    }
    let written = py
        .import(intern!(py, "pydantic_core"))?
        .call_method1(intern!(py, "to_jsonable_python"), (object,))
        .ok();
    match written {
        Some(written) => known(&written, place)?.map_or_else(|| Err(refused(object, place)?), Ok),
        None => Err(refused(object, place)?),
    }
}

fn refused(object: &Bound<'_, PyAny>, place: Place<'_>) -> PyResult<PyErr> {
    Ok(PyTypeError::new_err(format!(
        "{place} is of type {}, which can't be given to this agent: it takes text, numbers, bytes, lists, maps with \
         text as keys, pydantic models and dataclasses of those",
        object.get_type().fully_qualified_name()?
    )))
}

/// Plain data as a Python object.
pub(crate) fn to_object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(truth) => PyBool::new(py, *truth).to_owned().into_any(),
        Value::Int(number) => number.into_pyobject(py)?.into_any(),
        Value::Float(number) => PyFloat::new(py, *number).into_any(),
        Value::Str(text) => PyString::new(py, text).into_any(),
        Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::List(items) => {
            let list = PyList::empty(py);
            for item in items.iter() {
                list.append(to_object(py, item)?)?;
            }
            list.into_any()
        }
        Value::Map(entries) => {
            let map = PyDict::new(py);
            for (key, value) in entries.iter() {
                map.set_item(&**key, to_object(py, value)?)?;
            }
            map.into_any()
        }
        Value::Opaque(object) => {
            return Err(PyTypeError::new_err(format!(
                "the agent gave an object of type {}, which has no form in Python",
                object.type_name()
            )));
        }
    })
}
