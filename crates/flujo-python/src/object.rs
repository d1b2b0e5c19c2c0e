//! Python objects as the machine holds them: each holder owns its own reference.

use std::fmt;
use std::ops::Deref;

use pyo3::prelude::*;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cache::{Purpose, Unwritable, read, write};

/// An object between steps.
#[derive(Debug, Clone)]
pub(crate) struct Object(Py<PyAny>);

impl Deref for Object {
    type Target = Py<PyAny>;

    fn deref(&self) -> &Py<PyAny> {
        &self.0
    }
}

impl From<Py<PyAny>> for Object {
    fn from(object: Py<PyAny>) -> Self {
        Self(object)
    }
}

impl<T> From<Bound<'_, T>> for Object {
    fn from(object: Bound<'_, T>) -> Self {
        Self(object.into_any().unbind())
    }
}

impl Serialize for Object {
    /// As the bytes of its exact form.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let written = Python::attach(|py| write(self.bind(py), Purpose::Record));
        match written {
            Ok(written) => serializer.serialize_bytes(&written.bytes),
            Err(Unwritable::Refused(refusal)) => Err(S::Error::custom(refusal)),
            Err(Unwritable::Raised(error)) => Err(S::Error::custom(error)),
        }
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the bytes of a Python object")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Object, E> {
                Python::attach(|py| match read(py, bytes) {
                    Ok(value) => Ok(value.into()),
                    Err(why) => Err(E::custom(why)),
                })
            }

            fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Object, A::Error> {
                Err(A::Error::custom("a list of numbers stands where bytes should"))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
