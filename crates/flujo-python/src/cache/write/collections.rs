//! The collections of the standard library that are more than what they are derived from.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use super::super::form::{self, Form, tag};
use super::{Done, Unwritable, Writer, shown};

impl Writer<'_> {
    /// What is in one, behind its class.
    pub(super) fn collection(&mut self, value: &Bound<'_, PyAny>, form: &Form) -> Done {
        let py = value.py();
        match form {
            Form::Deque => {
                self.value(&value.getattr(intern!(py, "maxlen"))?)?;
                let items: Vec<Bound<'_, PyAny>> = value.try_iter()?.collect::<PyResult<_>>()?;
                self.items(tag::LIST, items.into_iter())
            }
            // Their order is part of what they are, in keys, too.
            Form::Ordered => {
                let entries = value.call_method0(intern!(py, "items"))?;
                let entries: Vec<Bound<'_, PyAny>> = entries.try_iter()?.collect::<PyResult<_>>()?;
                self.items(tag::LIST, entries.into_iter())
            }
            Form::Defaulting => {
                let factory = value.getattr(intern!(py, "default_factory"))?;
                if factory.is_none() {
                    self.bytes.push(tag::NONE);
                } else if let Ok(class) = factory.cast::<PyType>() {
                    self.class(&*form::of(class)?, class)?;
                } else {
                    return Err(Unwritable::Refused(format!(
                        "a {} whose default is made by a function can't be written; a class such as list or int can",
                        shown(&value.get_type())
                    )));
                }
                self.dict(value.cast::<PyDict>()?)
            }
            _ => self.dict(value.cast::<PyDict>()?),
        }
    }
}
