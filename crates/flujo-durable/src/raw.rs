//! A run of any host, read without its code: values are what the host wrote, and nothing can be called.

mod contexts;
mod python;

use std::fmt;
use std::sync::Arc;

use flujo_core::machine::{Domain, Failure};
use flujo_core::plan::Plan;
use flujo_core::store::StoredRun;
use flujo_core::value::{Map, Value};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Contents, Definition, DurableError, Recorded, Replay};

pub use contexts::RawIn;

/// The types of a run that is read without its code: it can be replayed on the plan of its
/// [`Definition`](crate::Definition), and not go on. Its contexts stand as they were at the beginning, or in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raw {}

/// What stands for a callable. Unlike `()` it is written as something, so that it isn't read as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncalled {}

/// A value as its host wrote it.
#[derive(Debug, Clone, PartialEq)]
pub enum RawValue {
    /// What hosts write values as: bytes in a form of theirs.
    Bytes(Arc<[u8]>),
    /// Anything else, with values in it shown.
    Other(Value),
}

impl Domain for Raw {
    type Object = RawValue;
    type Context = RawValue;
    type Callable = Uncalled;

    fn fork(context: &RawValue) -> RawValue {
        context.clone()
    }

    fn is_unwritten(_: &RawValue, _: &RawValue) -> bool {
        false
    }

    fn commit(base: &mut RawValue, view: RawValue) -> Result<(), Failure<Self>> {
        *base = view;
        Ok(())
    }
}

impl Replay<Raw> {
    /// A stored run, replayed on the plan that was stored with it.
    ///
    /// # Errors
    /// [`DurableError::Corrupt`] when it can't be read, [`DurableError::Diverged`] when its log isn't one of that plan.
    pub fn of_stored(stored: &StoredRun) -> Result<(Arc<Plan<Uncalled>>, Self), DurableError> {
        let plan = Definition::of_stored(stored)?.plan();
        let plan = Arc::new(plan.map_err(|reason| DurableError::Corrupt {
            run: Arc::clone(&stored.info.id),
            location: "the definition".to_owned(),
            reason,
        })?);
        let replay = Contents::of(stored)?.replay(Arc::clone(&plan))?;
        Ok((plan, replay))
    }
}

impl Recorded for Raw {
    type Base = ();
    type Writes = RawValue;

    fn writes((): &(), fork: &RawValue) -> RawValue {
        fork.clone()
    }

    fn written(base: &RawValue, _: bool, _: RawValue) -> Result<RawValue, String> {
        Ok(base.clone())
    }
}

impl RawValue {
    /// The value for people: plain data as it is, objects as maps of their type's name and what was saved of them, and what
    /// can't be understood without the program that wrote it by its size.
    pub fn shown(&self) -> Value {
        match self {
            Self::Bytes(bytes) => {
                // What another host calls bytes is text in Python's form.
                let plain = Value::shown_from_bytes(bytes).filter(|value| !matches!(value, Value::Bytes(_)));
                let shown = plain.or_else(|| python::shown(bytes));
                shown.unwrap_or_else(|| Value::from(format!("<{} bytes>", bytes.len())))
            }
            Self::Other(value) => value.clone(),
        }
    }
}

impl Serialize for RawValue {
    /// Formats for people get what is [shown](Self::shown).
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return self.shown().serialize(serializer);
        }
        match self {
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
            Self::Other(value) => value.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RawValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = RawValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<RawValue, E> {
        Ok(RawValue::Bytes(bytes.into()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawValue, E> {
        Ok(RawValue::Other(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawValue, E> {
        Ok(RawValue::Other(value.into()))
    }

    #[allow(clippy::cast_precision_loss)] // as everywhere where numbers beyond 64 bits are shown
    fn visit_u64<E>(self, value: u64) -> Result<RawValue, E> {
        let value = i64::try_from(value).map_or(Value::Float(value as f64), Value::Int);
        Ok(RawValue::Other(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawValue, E> {
        Ok(RawValue::Other(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawValue, E> {
        Ok(RawValue::Other(value.into()))
    }

    fn visit_unit<E>(self) -> Result<RawValue, E> {
        Ok(RawValue::Other(Value::Null))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<RawValue, D::Error> {
        RawValue::deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<RawValue, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<RawValue>()? {
            list.push(item.shown());
        }
        Ok(RawValue::Other(list.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<RawValue, A::Error> {
        let mut map = Map::new();
        while let Some((key, value)) = entries.next_entry::<RawValue, RawValue>()? {
            let key = match key.shown() {
                Value::Str(name) => name,
                other => Arc::from(format!("{other:?}")),
            };
            map.push((key, value.shown()));
        }
        Ok(RawValue::Other(Value::map(map)))
    }
}
