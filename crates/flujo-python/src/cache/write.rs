//! From a value to bytes: typed, so that `1`, `True`, `1.0`, `(1,)` and `[1]` differ.
//!
//! A key's form says nothing of the order of dictionaries and sets; a stored form keeps it.

mod collections;
mod place;
mod times;

use pyo3::exceptions::PyException;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
    PyType,
};

pub(crate) use self::place::placed;
use self::place::{at_index, at_key, at_name};
use super::form::{self, ClassName, Form, Known, tag};
use crate::context::{self, CONTAINER, Pace};

/// Containers nested deeper than this are refused: the walk uses the thread's stack, and a cycle has no end.
pub(super) const MAX_DEPTH: u32 = 500;

/// A value with more containers than this is refused: one that refers to a part again and again has no end either.
const MAX_CONTAINERS: u32 = 5_000_000;

/// What the bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Part of a key.
    Key,
    /// To be read again, perhaps by another process, as it was.
    Store,
    /// The same for the record of a run: of exceptions what can be told of them.
    Record,
}

/// A value as bytes.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    /// It names a class that only this process knows.
    pub(crate) is_local: bool,
}

/// Why a value has no form.
#[derive(Debug)]
pub(crate) enum Unwritable {
    /// What it is or holds, and where; see [`placed`].
    Refused(String),
    /// What goes up in any case: an interrupt, for instance.
    Raised(PyErr),
}

impl From<PyErr> for Unwritable {
    fn from(error: PyErr) -> Self {
        Python::attach(|py| {
            if error.is_instance_of::<PyException>(py) {
                Self::Refused(format!("an attribute of it raised {error}"))
            } else {
                Self::Raised(error)
            }
        })
    }
}

impl From<pyo3::CastError<'_, '_>> for Unwritable {
    fn from(error: pyo3::CastError<'_, '_>) -> Self {
        Self::from(PyErr::from(error))
    }
}

impl From<pyo3::CastIntoError<'_>> for Unwritable {
    fn from(error: pyo3::CastIntoError<'_>) -> Self {
        Self::from(PyErr::from(error))
    }
}

/// The bytes of a value.
///
/// Errors: the value, or something in it, has no form; what a signal handler raised.
pub(crate) fn write(value: &Bound<'_, PyAny>, purpose: Purpose) -> Result<Written, Unwritable> {
    let pace = Pace::attended();
    let mut writer = Writer {
        bytes: Vec::with_capacity(256),
        purpose,
        is_local: false,
        depth: 0,
        containers: 0,
        pace: &pace,
    };
    writer.value(value)?;
    Ok(Written {
        bytes: writer.bytes,
        is_local: writer.is_local,
    })
}

struct Writer<'p> {
    bytes: Vec<u8>,
    purpose: Purpose,
    is_local: bool,
    depth: u32,
    containers: u32,
    pace: &'p Pace<'p>,
}

type Done = Result<(), Unwritable>;

impl Writer<'_> {
    fn number(&mut self, number: usize) {
        self.bytes.extend_from_slice(&(number as u64).to_le_bytes());
    }

    fn sized(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    #[allow(unsafe_code)]
    fn value(&mut self, value: &Bound<'_, PyAny>) -> Done {
        // SAFETY: the value is alive; only addresses of static types are taken.
        let class = unsafe { ffi::Py_TYPE(value.as_ptr()) };
        let is = |other: *mut ffi::PyTypeObject| class == other;
        if is(&raw mut ffi::PyUnicode_Type) {
            return self.text(value.cast()?);
        }
        if value.is_none() {
            self.bytes.push(tag::NONE);
        } else if is(&raw mut ffi::PyBool_Type) {
            let truth = value.cast::<PyBool>()?.is_true();
            self.bytes.push(if truth { tag::TRUE } else { tag::FALSE });
        } else if is(&raw mut ffi::PyLong_Type) {
            self.int(value.cast()?)?;
        } else if is(&raw mut ffi::PyFloat_Type) {
            self.bytes.push(tag::FLOAT);
            self.float(value.cast::<PyFloat>()?.value());
        } else if is(&raw mut ffi::PyBytes_Type) {
            self.bytes.push(tag::BYTES);
            self.sized(value.cast::<PyBytes>()?.as_bytes());
        } else {
            return self.container(value, class);
        }
        Ok(())
    }

    fn container(&mut self, value: &Bound<'_, PyAny>, class: *mut ffi::PyTypeObject) -> Done {
        self.containers += 1;
        self.pace.spend(value.py(), CONTAINER)?;
        if self.depth >= MAX_DEPTH || self.containers > MAX_CONTAINERS {
            return Err(Unwritable::Refused(format!(
                "it contains itself, or is nested deeper than {MAX_DEPTH} levels, or has more than {MAX_CONTAINERS} parts"
            )));
        }
        self.depth += 1;
        let is = |other: *mut ffi::PyTypeObject| class == other;
        let done = if is(&raw mut ffi::PyList_Type) {
            self.items(tag::LIST, value.cast::<PyList>()?.iter())
        } else if is(&raw mut ffi::PyTuple_Type) {
            self.items(tag::TUPLE, value.cast::<PyTuple>()?.iter())
        } else if is(&raw mut ffi::PyDict_Type) {
            self.dict(value.cast()?)
        } else if is(&raw mut ffi::PySet_Type) {
            self.set(tag::SET, value.cast::<PySet>()?.iter().collect())
        } else if is(&raw mut ffi::PyFrozenSet_Type) {
            self.set(tag::FROZEN_SET, value.cast::<PyFrozenSet>()?.iter().collect())
        } else if is(&raw mut ffi::PyByteArray_Type) {
            self.bytes.push(tag::BYTE_ARRAY);
            self.sized(&value.cast::<PyByteArray>()?.to_vec());
            Ok(())
        } else {
            self.instance(value)
        };
        self.depth -= 1;
        done
    }

    fn text(&mut self, text: &Bound<'_, PyString>) -> Done {
        if let Ok(text) = text.to_str() {
            self.bytes.push(tag::STR);
            self.sized(text.as_bytes());
            return Ok(());
        }
        let encoded = text.call_method1(intern!(text.py(), "encode"), ("utf-8", "surrogatepass"))?;
        self.bytes.push(tag::ODD_STR);
        self.sized(encoded.cast::<PyBytes>()?.as_bytes());
        Ok(())
    }

    fn int(&mut self, int: &Bound<'_, PyInt>) -> Done {
        if let Ok(small) = int.extract::<i64>() {
            self.bytes.push(tag::INT);
            self.bytes.extend_from_slice(&small.to_le_bytes());
            return Ok(());
        }
        let py = int.py();
        let bits: usize = int.call_method0(intern!(py, "bit_length"))?.extract()?;
        let signed = PyDict::new(py);
        signed.set_item(intern!(py, "signed"), true)?;
        let bytes = int.call_method(
            intern!(py, "to_bytes"),
            (bits / 8 + 1, intern!(py, "little")),
            Some(&signed),
        )?;
        self.bytes.push(tag::BIG_INT);
        self.sized(bytes.cast::<PyBytes>()?.as_bytes());
        Ok(())
    }

    fn float(&mut self, number: f64) {
        // All that is no number is the same in keys.
        let number = if number.is_nan() && self.purpose == Purpose::Key {
            f64::NAN
        } else {
            number
        };
        self.bytes.extend_from_slice(&number.to_bits().to_le_bytes());
    }

    fn items<'py>(&mut self, tag: u8, items: impl ExactSizeIterator<Item = Bound<'py, PyAny>>) -> Done {
        self.bytes.push(tag);
        self.number(items.len());
        for (index, item) in items.enumerate() {
            at_index(index, self.value(&item))?;
        }
        Ok(())
    }

    fn dict(&mut self, dict: &Bound<'_, PyDict>) -> Done {
        // What attributes of values do may change the dictionary.
        let entries: Vec<(Bound<'_, PyAny>, Bound<'_, PyAny>)> = dict.iter().collect();
        self.bytes.push(tag::DICT);
        self.entries(entries)
    }

    fn entries<'py>(&mut self, mut entries: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>) -> Done {
        self.number(entries.len());
        if self.purpose == Purpose::Key {
            let is_text = |key: &Bound<'py, PyAny>| utf8(key).is_some();
            if !entries.iter().all(|(key, _)| is_text(key)) {
                return self.any_entries(&entries);
            }
            entries.sort_by(|(one, _), (other, _)| utf8(one).cmp(&utf8(other)));
        }
        for (key, value) in &entries {
            at_key(key, self.value(key))?;
            at_key(key, self.value(value))?;
        }
        Ok(())
    }

    /// Entries in the order of their keys' forms.
    fn any_entries(&mut self, entries: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)]) -> Done {
        let mut formed = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let form = self.apart(|writer| at_key(key, writer.value(key)))?;
            formed.push((form, key, value));
        }
        formed.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        for (form, key, value) in formed {
            self.bytes.extend_from_slice(&form);
            at_key(key, self.value(value))?;
        }
        Ok(())
    }

    fn set(&mut self, tag: u8, elements: Vec<Bound<'_, PyAny>>) -> Done {
        if self.purpose != Purpose::Key {
            return self.items(tag, elements.into_iter());
        }
        self.bytes.push(tag);
        self.number(elements.len());
        let mut formed = Vec::with_capacity(elements.len());
        for element in &elements {
            formed.push(self.apart(|writer| writer.value(element))?);
        }
        formed.sort();
        for element in formed {
            self.bytes.extend_from_slice(&element);
        }
        Ok(())
    }

    /// What is written meanwhile, by itself.
    fn apart(&mut self, write: impl FnOnce(&mut Self) -> Done) -> Result<Vec<u8>, Unwritable> {
        let outer = std::mem::take(&mut self.bytes);
        let done = write(self);
        let own = std::mem::replace(&mut self.bytes, outer);
        done.map(|()| own)
    }

    fn class(&mut self, known: &Known, class: &Bound<'_, PyType>) -> Done {
        match &known.name {
            ClassName::Named(module, qualified) => {
                self.bytes.push(tag::NAMED_CLASS);
                self.sized(module.as_bytes());
                self.sized(qualified.as_bytes());
            }
            ClassName::Local(number) => {
                if self.purpose == Purpose::Record && form::is_registered(class)? {
                    let (module, qualified) = form::own_name(class)?;
                    self.bytes.push(tag::NAMED_CLASS);
                    self.sized(module.as_bytes());
                    self.sized(qualified.as_bytes());
                    return Ok(());
                }
                if self.purpose != Purpose::Key {
                    return Err(Unwritable::Refused(format!(
                        "no other process finds {}: define it at the top level of a module",
                        shown(class)
                    )));
                }
                self.is_local = true;
                self.bytes.push(tag::LOCAL_CLASS);
                self.bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        Ok(())
    }

    fn instance(&mut self, value: &Bound<'_, PyAny>) -> Done {
        let py = value.py();
        let class = context::model_class(&value.get_type())?;
        let known = form::of(&class)?;
        match &known.form {
            Form::Ellipsis => self.bytes.push(tag::ELLIPSIS),
            Form::Complex => {
                self.bytes.push(tag::COMPLEX);
                for part in ["real", "imag"] {
                    self.float(value.getattr(part)?.extract()?);
                }
            }
            Form::Enum => {
                self.bytes.push(tag::ENUM);
                self.class(&known, &class)?;
                self.value(&value.getattr(intern!(py, "_name_"))?)?;
            }
            Form::Flag => {
                self.bytes.push(tag::FLAG);
                self.class(&known, &class)?;
                self.value(&value.getattr(intern!(py, "_value_"))?)?;
            }
            Form::Model(fields) => {
                self.bytes.push(tag::MODEL);
                self.class(&known, &class)?;
                self.model(value, fields.bind(py))?;
            }
            Form::Dataclass(fields) => {
                self.bytes.push(tag::DATACLASS);
                self.class(&known, &class)?;
                self.number(fields.bind(py).len());
                for name in fields.bind(py).iter() {
                    self.value(&name)?;
                    at_name(&name, self.value(&value.getattr(name.cast::<PyString>()?)?))?;
                }
            }
            Form::NamedTuple => {
                self.bytes.push(tag::NAMED_TUPLE);
                self.class(&known, &class)?;
                self.items(tag::TUPLE, value.cast::<PyTuple>()?.iter())?;
            }
            Form::Secret if self.purpose != Purpose::Key => {
                return Err(Unwritable::Refused(format!(
                    "it holds a {}, which is never written anywhere",
                    shown(&class)
                )));
            }
            Form::Secret => {
                self.bytes.push(tag::SECRET);
                self.class(&known, &class)?;
                self.value(&value.call_method0(intern!(py, "get_secret_value"))?)?;
            }
            Form::Text => {
                self.bytes.push(tag::TEXT);
                self.class(&known, &class)?;
                self.text(&value.str()?)?;
            }
            Form::DateTime => self.moment(tag::DATE_TIME, value)?,
            Form::Time => self.moment(tag::TIME, value)?,
            Form::TimeDelta => {
                self.bytes.push(tag::TIME_DELTA);
                self.delta(value)?;
            }
            Form::Offset => self.offset(value)?,
            Form::Zone => {
                let key = value.getattr(intern!(py, "key"))?;
                if key.is_none() {
                    return Err(unknown(&class));
                }
                self.bytes.push(tag::ZONE);
                self.value(&key)?;
            }
            Form::Ordered | Form::Counting | Form::Defaulting | Form::Deque => {
                self.bytes.push(tag::COLLECTION);
                self.class(&known, &class)?;
                self.collection(value, &known.form)?;
            }
            Form::Error if self.purpose == Purpose::Record => {
                self.bytes.push(tag::ERROR);
                self.value(&form::error_told(py)?.call1((value,))?)?;
            }
            Form::Error | Form::Unknown => return Err(unknown(&class)),
        }
        Ok(())
    }

    fn model(&mut self, value: &Bound<'_, PyAny>, fields: &Bound<'_, PyTuple>) -> Done {
        let py = value.py();
        let attributes = value.getattr(intern!(py, "__dict__"))?.cast_into::<PyDict>()?;
        self.number(fields.len());
        for name in fields.iter() {
            let Some(field) = attributes.get_item(&name)? else {
                return Err(Unwritable::Refused(format!("its field {name} isn't set")));
            };
            self.value(&name)?;
            at_name(&name, self.value(&field))?;
        }
        self.value(&value.getattr(intern!(py, "__pydantic_extra__"))?)?;
        self.value(&value.getattr(intern!(py, "__pydantic_private__"))?)?;
        if self.purpose != Purpose::Key {
            self.value(&value.getattr(intern!(py, "__pydantic_fields_set__"))?)?;
        }
        Ok(())
    }
}

/// The text of a key that is exactly one, without lone surrogates.
fn utf8<'a>(key: &'a Bound<'_, PyAny>) -> Option<&'a str> {
    let text = key.cast_exact::<PyString>().ok()?;
    text.to_str().ok()
}

fn unknown(class: &Bound<'_, PyType>) -> Unwritable {
    Unwritable::Refused(format!(
        "values of {} have no canonical form; those of the built-in types, collections, enums, dates, paths, dataclasses and \
         pydantic models have",
        shown(class)
    ))
}

fn shown(class: &Bound<'_, PyType>) -> String {
    match class.fully_qualified_name() {
        Ok(name) => name.to_string(),
        Err(_) => "a class".to_owned(),
    }
}
