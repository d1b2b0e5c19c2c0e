//! The values between steps: small, comparable, and the same in every language.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A value. As JSON it is tagged (`{"int": 1}`), so that nothing is lost on the way to another host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Object {
    /// Nothing.
    #[default]
    Null,
    /// A number.
    Int(i64),
    /// A text.
    Text(Arc<str>),
    /// Values in order.
    List(Vec<Object>),
    /// Named values in the order in which they were put in.
    Record(Vec<(Arc<str>, Object)>),
}

impl From<i64> for Object {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Object {
    fn from(value: &str) -> Self {
        Self::Text(Arc::from(value))
    }
}

impl From<String> for Object {
    fn from(value: String) -> Self {
        Self::Text(Arc::from(value))
    }
}

impl<T: Into<Object>> From<Vec<T>> for Object {
    fn from(values: Vec<T>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Object>, const N: usize> From<[T; N]> for Object {
    fn from(values: [T; N]) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Object>, const N: usize> From<[(&str, T); N]> for Object {
    fn from(values: [(&str, T); N]) -> Self {
        Self::Record(
            values
                .into_iter()
                .map(|(name, value)| (Arc::from(name), value.into()))
                .collect(),
        )
    }
}

impl Object {
    /// The number, `None` for anything else.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::List(values) => f
                .debug_list()
                .entries(values.iter().map(ToString::to_string))
                .finish(),
            Self::Record(fields) => f
                .debug_map()
                .entries(fields.iter().map(|(name, value)| (name, value.to_string())))
                .finish(),
        }
    }
}
