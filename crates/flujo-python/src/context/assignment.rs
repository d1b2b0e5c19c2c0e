//! What an assignment to a field of a view needs. pydantic validates one by replacing the model's whole dictionary,
//! which would clone every field of the context; where a field's validation looks at nothing but the value, the value is
//! validated on an empty instance instead.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrozenSet, PyList, PySet, PyString, PyTuple, PyType};

use super::class::Part;
use super::{kind, raw};

/// How the fields of a model class are assigned. Those in neither set are left to the model's own `__setattr__`.
pub(super) struct Assignments {
    /// A plain write: no validation, no freezing, no `__setattr__` of the user's.
    plain: Py<PyFrozenSet>,
    /// A write of the value that the field's own validation gives.
    validated: Py<PyFrozenSet>,
    /// Fields whose assignment is validated.
    checked: Py<PyFrozenSet>,
    /// Those of them that may refuse what is made of values which they accept.
    guarded: Py<PyFrozenSet>,
    /// Something looks at the model as a whole.
    whole: bool,
}

impl Assignments {
    pub(super) fn of(model: &Bound<'_, PyType>, fields: &Bound<'_, PyDict>) -> PyResult<Self> {
        let py = model.py();
        let config = model.getattr("model_config")?;
        let enabled = |name: &str| config.call_method1("get", (name, false))?.is_truthy();
        let ordinary = kind::base_model(py)?.getattr("__setattr__")?;
        let (mut plain, mut validated, mut checked, mut guarded) = (vec![], vec![], vec![], vec![]);
        let mut whole = false;
        if model.getattr("__setattr__")?.is(&ordinary) && !enabled("frozen")? {
            let validates = enabled("validate_assignment")?;
            let schemas = if validates { field_schemas(model)? } else { None };
            whole = validates && schemas.is_none();
            for (name, field) in fields.iter() {
                if field.getattr("frozen")?.is_truthy()? {
                    continue;
                }
                if !validates {
                    plain.push(name);
                    continue;
                }
                checked.push(name.clone());
                if let Some(schemas) = &schemas
                    && let Some(schema) = schemas.get_item(&name)?
                {
                    if !accepts_mixtures(schema.clone())? {
                        guarded.push(name.clone());
                    }
                    if stands_alone(schema)? {
                        validated.push(name);
                    }
                }
            }
        }
        Ok(Self {
            plain: PyFrozenSet::new(py, plain)?.unbind(),
            validated: PyFrozenSet::new(py, validated)?.unbind(),
            checked: PyFrozenSet::new(py, checked)?.unbind(),
            guarded: PyFrozenSet::new(py, guarded)?.unbind(),
            whole,
        })
    }

    /// Whether assignments are validated by something that looks at the model as a whole.
    pub(super) fn validates_whole(&self) -> bool {
        self.whole
    }

    /// Whether an assignment to the field is validated.
    pub(super) fn validates(&self, name: &Bound<'_, PyString>) -> PyResult<bool> {
        self.checked.bind(name.py()).contains(name)
    }

    /// Whether validation of the field may refuse what is made of parts of values that it accepts.
    pub(super) fn guards(&self, name: &Bound<'_, PyString>) -> PyResult<bool> {
        self.guarded.bind(name.py()).contains(name)
    }

    /// What is to be written for this value; `None`: the model itself must assign it.
    pub(super) fn written<'py>(
        &self,
        model: &Bound<'py, PyType>,
        name: &Bound<'py, PyString>,
        value: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = model.py();
        if self.plain.bind(py).contains(name)? {
            return Ok(Some(value.clone()));
        }
        if !self.validated.bind(py).contains(name)? {
            return Ok(None);
        }
        let empty = raw::bare_instance(model)?;
        raw::set_slot(Part::Extra.slot(py)?, &empty, Some(&py.None().into_bound(py)))?;
        raw::set_slot(
            Part::FieldsSet.slot(py)?,
            &empty,
            Some(PySet::empty(py)?.as_any()),
        )?;
        model
            .getattr(intern!(py, "__pydantic_validator__"))?
            .call_method1(intern!(py, "validate_assignment"), (&empty, name, value))?;
        raw::instance_dict(&empty)?.get_item(name)
    }
}

/// The schemas of the fields, where nothing validates the model as a whole.
fn field_schemas<'py>(model: &Bound<'py, PyType>) -> PyResult<Option<Bound<'py, PyDict>>> {
    let py = model.py();
    if !model.getattr(intern!(py, "__pydantic_complete__"))?.is_truthy()? {
        return Ok(None);
    }
    let Ok(mut schema) = model
        .getattr(intern!(py, "__pydantic_core_schema__"))?
        .cast_into::<PyDict>()
    else {
        return Ok(None);
    };
    for expected in ["definitions", "model", "model-fields"] {
        let found = schema.get_item(intern!(py, "type"))?;
        let found: Option<String> = found.map(|found| found.extract()).transpose()?;
        match found.as_deref() {
            Some("model-fields") if expected == "model-fields" => break,
            Some(found) if found == expected => {}
            Some("model") if expected == "definitions" => continue,
            _ => return Ok(None),
        }
        match schema
            .get_item(intern!(py, "schema"))?
            .map(Bound::cast_into::<PyDict>)
        {
            Some(Ok(inner)) => schema = inner,
            _ => return Ok(None),
        }
    }
    match schema
        .get_item(intern!(py, "fields"))?
        .map(Bound::cast_into::<PyDict>)
    {
        Some(Ok(fields)) => Ok(Some(fields)),
        _ => Ok(None),
    }
}

/// Whether no part of the schema can look at other fields. What is defined elsewhere isn't looked up.
fn stands_alone(schema: Bound<'_, PyAny>) -> PyResult<bool> {
    let mut pending = vec![schema];
    while let Some(part) = pending.pop() {
        if let Ok(dict) = part.cast::<PyDict>() {
            for (key, value) in dict.iter() {
                if key.eq("type")? && (value.eq("with-info")? || value.eq("definition-ref")?) {
                    return Ok(false);
                }
                if !key.eq("metadata")? {
                    pending.push(value);
                }
            }
        } else if let Ok(list) = part.cast::<PyList>() {
            pending.extend(list.iter());
        } else if let Ok(tuple) = part.cast::<PyTuple>() {
            pending.extend(tuple.iter());
        }
    }
    Ok(true)
}

/// Schemas that accept a value whose parts come from several values which they accept, unless they limit its length.
/// A model inside is validated by itself.
const OF_PARTS: [&str; 34] = [
    "any",
    "bool",
    "bytes",
    "callable",
    "complex",
    "dataclass",
    "date",
    "datetime",
    "decimal",
    "default",
    "dict",
    "enum",
    "float",
    "frozenset",
    "int",
    "is-instance",
    "is-subclass",
    "json-or-python",
    "lax-or-strict",
    "list",
    "literal",
    "model",
    "none",
    "nullable",
    "set",
    "str",
    "tagged-union",
    "time",
    "timedelta",
    "tuple",
    "typed-dict",
    "typed-dict-field",
    "union",
    "uuid",
];

/// Whether a value made of parts of accepted values is surely accepted.
fn accepts_mixtures(schema: Bound<'_, PyAny>) -> PyResult<bool> {
    let py = schema.py();
    let mut pending = vec![schema];
    while let Some(part) = pending.pop() {
        if let Ok(list) = part.cast::<PyList>() {
            pending.extend(list.iter());
            continue;
        }
        let Ok(schema) = part.cast::<PyDict>() else {
            continue;
        };
        let kind = schema.get_item(intern!(py, "type"))?;
        let kind: Option<String> = kind.and_then(|kind| kind.extract().ok());
        match kind.as_deref() {
            None | Some("model-field") => {}
            Some("model" | "dataclass") => continue,
            Some(known) if OF_PARTS.contains(&known) => {}
            Some(_) => return Ok(false),
        }
        let holds_items = matches!(
            kind.as_deref(),
            Some("list" | "dict" | "set" | "frozenset" | "tuple")
        );
        if holds_items && (schema.contains("min_length")? || schema.contains("max_length")?) {
            return Ok(false);
        }
        for (key, value) in schema.iter() {
            let key: String = key.extract()?;
            if !["default", "expected", "members", "metadata", "serialization"].contains(&key.as_str()) {
                pending.push(value);
            }
        }
    }
    Ok(true)
}
