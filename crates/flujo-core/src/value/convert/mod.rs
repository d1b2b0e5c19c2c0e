//! Typed Rust objects to and from values, through serde.

mod deserializer;
mod serializer;
#[cfg(test)]
mod tests;

use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde::ser::Serialize;

use super::{CodecError, Value};
use deserializer::FromValue;
use serializer::ToValue;

/// An object as plain data: structs and maps become maps, sequences lists, a unit variant its name, any other variant a
/// map from its name to its content.
///
/// # Errors
/// [`CodecError`] when the object cannot be said in plain data: a map key that is not text, an integer beyond 64 bits,
/// an error of its own `Serialize`.
pub fn to_value<T: Serialize + ?Sized>(object: &T) -> Result<Value, CodecError> {
    object
        .serialize(ToValue)
        .map_err(|error| error.about(std::any::type_name::<T>()))
}

/// An object from plain data.
///
/// # Errors
/// [`CodecError`] when the data doesn't fit the type.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, CodecError> {
    T::deserialize(FromValue(value)).map_err(|error| error.about(std::any::type_name::<T>()))
}

/// What went wrong on the way.
#[derive(Debug)]
struct Reason(String);

impl Reason {
    fn about(self, type_name: &str) -> CodecError {
        CodecError {
            type_name: type_name.to_owned(),
            path: String::new(),
            reason: self.0,
        }
    }
}

impl Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Reason {}

impl serde::ser::Error for Reason {
    fn custom<M: Display>(message: M) -> Self {
        Self(message.to_string())
    }
}

impl serde::de::Error for Reason {
    fn custom<M: Display>(message: M) -> Self {
        Self(message.to_string())
    }
}
