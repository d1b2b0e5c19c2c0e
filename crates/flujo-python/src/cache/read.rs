//! From stored bytes back to the value. Nothing is imported for it: a class is found in a module that is imported already,
//! and a value whose class has other fields by now isn't given.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyByteArray, PyBytes, PyComplex, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple,
    PyType,
};

use super::form::{self, Form, tag};
use super::write::MAX_DEPTH;
use crate::context;

/// Why bytes give no value.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// They aren't what `write` made.
    Damaged,
    /// The class they name isn't imported, or isn't what it was.
    Changed(String),
    /// What it raised.
    Raised(PyErr),
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Damaged => out.write_str("the stored bytes are damaged"),
            Self::Changed(class) => write!(out, "{class} isn't imported, or has changed since"),
            Self::Raised(error) => write!(out, "the stored value can't be made: {error}"),
        }
    }
}

impl From<PyErr> for Unreadable {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<pyo3::CastIntoError<'_>> for Unreadable {
    fn from(_: pyo3::CastIntoError<'_>) -> Self {
        Self::Damaged
    }
}

type Read<'py> = Result<Bound<'py, PyAny>, Unreadable>;

/// The value that was stored.
pub(crate) fn read<'py>(py: Python<'py>, bytes: &[u8]) -> Read<'py> {
    let mut reader = Reader { py, bytes, depth: 0 };
    let value = reader.value()?;
    if reader.bytes.is_empty() {
        Ok(value)
    } else {
        Err(Unreadable::Damaged)
    }
}

struct Reader<'b, 'py> {
    py: Python<'py>,
    bytes: &'b [u8],
    depth: u32,
}

impl<'b, 'py> Reader<'b, 'py> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], Unreadable> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Unreadable::Damaged)?;
        self.bytes = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        self.take(1)?.first().copied().ok_or(Unreadable::Damaged)
    }

    fn eight(&mut self) -> Result<[u8; 8], Unreadable> {
        self.take(8)?.try_into().map_err(|_| Unreadable::Damaged)
    }

    /// A count of what follows: each takes a byte at least.
    fn count(&mut self) -> Result<usize, Unreadable> {
        let count = usize::try_from(u64::from_le_bytes(self.eight()?)).map_err(|_| Unreadable::Damaged)?;
        if count > self.bytes.len() {
            return Err(Unreadable::Damaged);
        }
        Ok(count)
    }

    fn sized(&mut self) -> Result<&'b [u8], Unreadable> {
        let count = self.count()?;
        self.take(count)
    }

    fn utf8(&mut self) -> Result<&'b str, Unreadable> {
        std::str::from_utf8(self.sized()?).map_err(|_| Unreadable::Damaged)
    }

    fn float(&mut self) -> Result<f64, Unreadable> {
        Ok(f64::from_bits(u64::from_le_bytes(self.eight()?)))
    }

    fn value(&mut self) -> Read<'py> {
        if self.depth > MAX_DEPTH {
            return Err(Unreadable::Damaged);
        }
        self.depth += 1;
        let value = self.tagged();
        self.depth -= 1;
        value
    }

    fn items(&mut self) -> Result<Vec<Bound<'py, PyAny>>, Unreadable> {
        let count = self.count()?;
        (0..count).map(|_| self.value()).collect()
    }

    fn tagged(&mut self) -> Read<'py> {
        let py = self.py;
        Ok(match self.byte()? {
            tag::NONE => py.None().into_bound(py),
            tag::FALSE => false
                .into_pyobject(py)
                .map_err(PyErr::from)?
                .to_owned()
                .into_any(),
            tag::TRUE => true.into_pyobject(py).map_err(PyErr::from)?.to_owned().into_any(),
            tag::INT => PyInt::new(py, i64::from_le_bytes(self.eight()?)).into_any(),
            tag::BIG_INT => {
                let signed = PyDict::new(py);
                signed.set_item(intern!(py, "signed"), true)?;
                let bytes = PyBytes::new(py, self.sized()?);
                py.get_type::<PyInt>().call_method(
                    intern!(py, "from_bytes"),
                    (bytes, intern!(py, "little")),
                    Some(&signed),
                )?
            }
            tag::FLOAT => PyFloat::new(py, self.float()?).into_any(),
            tag::STR => PyString::new(py, self.utf8()?).into_any(),
            tag::ODD_STR => PyBytes::new(py, self.sized()?)
                .call_method1(intern!(py, "decode"), ("utf-8", "surrogatepass"))?,
            tag::BYTES => PyBytes::new(py, self.sized()?).into_any(),
            tag::BYTE_ARRAY => PyByteArray::new(py, self.sized()?).into_any(),
            tag::TUPLE => PyTuple::new(py, self.items()?)?.into_any(),
            tag::LIST => PyList::new(py, self.items()?)?.into_any(),
            tag::DICT => self.dict()?.into_any(),
            tag::SET => PySet::new(py, self.items()?)?.into_any(),
            tag::FROZEN_SET => PyFrozenSet::new(py, self.items()?)?.into_any(),
            tag::ELLIPSIS => py.Ellipsis().into_bound(py),
            tag::COMPLEX => {
                let (real, imaginary) = (self.float()?, self.float()?);
                PyComplex::from_doubles(py, real, imaginary).into_any()
            }
            tag::TEXT => {
                let class = self.class()?;
                let text = self.value()?;
                if class.is(py.import("datetime")?.getattr("date")?) {
                    class.call_method1(intern!(py, "fromisoformat"), (text,))?
                } else {
                    self.expect(&class, |form| matches!(form, Form::Text))?;
                    class.call1((text,))?
                }
            }
            tag::DATE_TIME => self.moment("datetime")?,
            tag::TIME => self.moment("time")?,
            tag::TIME_DELTA => self.delta()?,
            tag::OFFSET => {
                let (offset, name) = (self.delta()?, self.value()?);
                let class = py.import("datetime")?.getattr("timezone")?;
                if name.is_none() {
                    class.call1((offset,))?
                } else {
                    class.call1((offset, name))?
                }
            }
            tag::ZONE => py
                .import("zoneinfo")?
                .getattr("ZoneInfo")?
                .call1((self.value()?,))?,
            tag::COLLECTION => self.collection()?,
            tag::ERROR => form::told_error(py)?.call1((self.value()?,))?,
            tag @ (tag::ENUM | tag::FLAG | tag::MODEL | tag::DATACLASS | tag::NAMED_TUPLE) => {
                self.instance(tag)?
            }
            _ => return Err(Unreadable::Damaged),
        })
    }

    fn dict(&mut self) -> Result<Bound<'py, PyDict>, Unreadable> {
        let count = self.count()?;
        let dict = PyDict::new(self.py);
        for _ in 0..count {
            let (key, value) = (self.value()?, self.value()?);
            dict.set_item(key, value)?;
        }
        Ok(dict)
    }

    fn class(&mut self) -> Result<Bound<'py, PyType>, Unreadable> {
        if self.byte()? != tag::NAMED_CLASS {
            return Err(Unreadable::Damaged);
        }
        let (module, qualified) = (self.utf8()?, self.utf8()?);
        form::resolve_or_registered(self.py, module, qualified)?
            .and_then(|found| found.cast_into::<PyType>().ok())
            .ok_or_else(|| Unreadable::Changed(format!("{module}.{qualified}")))
    }

    fn expect(&self, class: &Bound<'py, PyType>, fits: impl FnOnce(&Form) -> bool) -> Result<(), Unreadable> {
        if fits(&form::of(class)?.form) {
            Ok(())
        } else {
            Err(Unreadable::Changed(class.fully_qualified_name()?.to_string()))
        }
    }

    fn moment(&mut self, class: &str) -> Read<'py> {
        let py = self.py;
        let (text, fold, zone) = (self.value()?, self.value()?, self.value()?);
        let naive = py
            .import("datetime")?
            .getattr(class)?
            .call_method1(intern!(py, "fromisoformat"), (text,))?;
        let more = PyDict::new(py);
        more.set_item(intern!(py, "fold"), fold)?;
        more.set_item(intern!(py, "tzinfo"), zone)?;
        Ok(naive.call_method(intern!(py, "replace"), (), Some(&more))?)
    }

    fn delta(&mut self) -> Read<'py> {
        let parts = (self.value()?, self.value()?, self.value()?);
        Ok(self.py.import("datetime")?.getattr("timedelta")?.call1(parts)?)
    }

    fn collection(&mut self) -> Read<'py> {
        let class = self.class()?;
        match form::of(&class)?.form {
            Form::Ordered | Form::Counting => Ok(class.call1((self.value()?,))?),
            Form::Defaulting => {
                let factory = if self.bytes.first() == Some(&tag::NONE) {
                    self.value()?
                } else {
                    self.class()?.into_any()
                };
                Ok(class.call1((factory, self.value()?))?)
            }
            Form::Deque => {
                let longest = self.value()?;
                Ok(class.call1((self.value()?, longest))?)
            }
            _ => Err(Unreadable::Changed(class.to_string())),
        }
    }

    fn instance(&mut self, tag: u8) -> Read<'py> {
        let py = self.py;
        let class = self.class()?;
        let known = form::of(&class)?;
        let changed = || Unreadable::Changed(class.to_string());
        match (tag, &known.form) {
            (tag::ENUM, Form::Enum) => {
                let members = class.getattr(intern!(py, "__members__"))?;
                members.get_item(self.value()?).map_err(|_| changed())
            }
            (tag::FLAG, Form::Flag) => Ok(class.call1((self.value()?,))?),
            (tag::NAMED_TUPLE, Form::NamedTuple) => {
                let items = self.value()?;
                class
                    .call_method1(intern!(py, "_make"), (items,))
                    .map_err(|_| changed())
            }
            (tag::MODEL, Form::Model(fields)) => {
                let attributes = self.dict()?;
                let (extra, private, fields_set) = (self.value()?, self.value()?, self.value()?);
                if !same_names(&attributes, fields.bind(py))? {
                    return Err(changed());
                }
                Ok(context::made_model(
                    &class,
                    &attributes,
                    [&fields_set, &extra, &private],
                )?)
            }
            (tag::DATACLASS, Form::Dataclass(fields)) => {
                let attributes = self.dict()?;
                if !same_names(&attributes, fields.bind(py))? {
                    return Err(changed());
                }
                Ok(context::made_instance(&class, &attributes)?)
            }
            _ => Err(changed()),
        }
    }
}

fn same_names(attributes: &Bound<'_, PyDict>, fields: &Bound<'_, PyTuple>) -> PyResult<bool> {
    if attributes.len() != fields.len() {
        return Ok(false);
    }
    for name in fields.iter() {
        if !attributes.contains(name)? {
            return Ok(false);
        }
    }
    Ok(true)
}
