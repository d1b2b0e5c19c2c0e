//! A run of any host, read without its code: values are the bytes that the host wrote, and nothing can be called.

use std::fmt;
use std::sync::Arc;

use flujo_core::machine::{Domain, Failure};
use serde::de::{self, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Recorded;

/// The types of a run that is read without its code: it can be replayed on the plan of its
/// [`Definition`](crate::Definition), and not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raw {}

/// What stands for a callable. Unlike `()` it is written as something, so that it isn't read as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncalled {}

/// A value as its host wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawBytes {
    /// What all hosts write: bytes in a form of their own.
    Bytes(Arc<[u8]>),
    /// Anything else.
    Other,
}

/// What was written and isn't looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread;

impl Domain for Raw {
    type Object = RawBytes;
    type Context = RawBytes;
    type Callable = Uncalled;

    fn fork(context: &RawBytes) -> RawBytes {
        context.clone()
    }

    fn is_unwritten(_: &RawBytes, _: &RawBytes) -> bool {
        false
    }

    fn commit(base: &mut RawBytes, view: RawBytes) -> Result<(), Failure<Self>> {
        *base = view;
        Ok(())
    }
}

impl Recorded for Raw {
    type Base = ();
    type Writes = Unread;

    fn writes((): &(), _: &RawBytes) -> Unread {
        Unread
    }

    /// Contexts stand as they were at the beginning.
    fn written(base: &RawBytes, _: Unread) -> Result<RawBytes, String> {
        Ok(base.clone())
    }
}

impl RawBytes {
    /// The bytes, where they are what was written.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Other => None,
        }
    }
}

impl Serialize for RawBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::Other => serializer.serialize_unit(),
        }
    }
}

impl<'de> Deserialize<'de> for RawBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> de::Visitor<'de> for BytesVisitor {
    type Value = RawBytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<RawBytes, E> {
        Ok(RawBytes::Bytes(bytes.into()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<RawBytes, E> {
        Ok(RawBytes::Bytes(bytes.into()))
    }

    fn visit_bool<E>(self, _: bool) -> Result<RawBytes, E> {
        Ok(RawBytes::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<RawBytes, E> {
        Ok(RawBytes::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<RawBytes, E> {
        Ok(RawBytes::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<RawBytes, E> {
        Ok(RawBytes::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<RawBytes, E> {
        Ok(RawBytes::Other)
    }

    fn visit_unit<E>(self) -> Result<RawBytes, E> {
        Ok(RawBytes::Other)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<RawBytes, D::Error> {
        IgnoredAny::deserialize(inner).map(|_| RawBytes::Other)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<RawBytes, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(RawBytes::Other)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut entries: A) -> Result<RawBytes, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(RawBytes::Other)
    }
}

impl Serialize for Unread {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Self)
    }
}
