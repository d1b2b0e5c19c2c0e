//! Times, and the zones they are in.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::super::form::{self, Form, tag};
use super::{Done, Writer, unknown};

impl Writer<'_> {
    /// A time of day, or of a day, with its zone.
    pub(super) fn moment(&mut self, tag: u8, value: &Bound<'_, PyAny>) -> Done {
        let py = value.py();
        let zone = value.getattr(intern!(py, "tzinfo"))?;
        let without = PyDict::new(py);
        without.set_item(intern!(py, "tzinfo"), py.None())?;
        let naive = value.call_method(intern!(py, "replace"), (), Some(&without))?;
        self.bytes.push(tag);
        self.value(&naive.call_method0(intern!(py, "isoformat"))?)?;
        self.value(&value.getattr(intern!(py, "fold"))?)?;
        if zone.is_none() {
            self.bytes.push(tag::NONE);
            return Ok(());
        }
        let class = zone.get_type();
        match form::of(&class)?.form {
            Form::Offset | Form::Zone => self.instance(&zone),
            _ => Err(unknown(&class)),
        }
    }

    pub(super) fn offset(&mut self, zone: &Bound<'_, PyAny>) -> Done {
        let py = zone.py();
        self.bytes.push(tag::OFFSET);
        // The offset, and the name where it was given one.
        let arguments = zone
            .call_method0(intern!(py, "__getinitargs__"))?
            .cast_into::<PyTuple>()?;
        self.delta(&arguments.get_item(0)?)?;
        if let Ok(name) = arguments.get_item(1) {
            return self.value(&name);
        }
        self.bytes.push(tag::NONE);
        Ok(())
    }

    pub(super) fn delta(&mut self, delta: &Bound<'_, PyAny>) -> Done {
        for part in ["days", "seconds", "microseconds"] {
            self.int(delta.getattr(part)?.cast()?)?;
        }
        Ok(())
    }
}
