//! Typed Rust objects to and from values, through serde.

mod deserializer;
mod serializer;

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::{from_value, to_value};
    use crate::value::{Map, Value};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Point,
        Circle(f64),
        Box { width: u32, height: u32 },
        Pair(i8, i8),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Wrapper(u16);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Everything {
        name: String,
        shapes: Vec<Shape>,
        by_number: BTreeMap<u32, bool>,
        wrapped: Wrapper,
        nothing: Option<u8>,
        something: Option<char>,
        unit: (),
    }

    #[test]
    fn an_object_comes_back_from_its_value_unchanged() {
        let object = Everything {
            name: "n".into(),
            shapes: vec![
                Shape::Point,
                Shape::Circle(1.5),
                Shape::Box { width: 1, height: 2 },
                Shape::Pair(-1, 1),
            ],
            by_number: [(7, true)].into(),
            wrapped: Wrapper(3),
            nothing: None,
            something: Some('c'),
            unit: (),
        };
        let value = to_value(&object).unwrap();
        assert_eq!(value.get("name"), Some(&Value::from("n")));
        assert_eq!(from_value::<Everything>(value).unwrap(), object);
    }

    #[test]
    fn an_integer_beyond_the_range_is_refused() {
        let error = to_value(&u64::MAX).unwrap_err();
        assert!(error.reason.contains("does not fit"), "{error}");
    }

    #[test]
    fn data_that_does_not_fit_the_type_is_refused() {
        assert!(from_value::<u8>(Value::from(256)).is_err());
        assert!(from_value::<Vec<u8>>(Value::Map(Map::new().into())).is_err());
        assert!(from_value::<Shape>(Value::from("Square")).is_err());
    }
}
