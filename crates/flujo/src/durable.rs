//! How typed outputs are saved: through serde, under the name that serde knows the type by.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{LazyLock, Mutex, PoisonError};

use flujo_core::value::{CodecError, Opaque, TypeCodec, Value, from_value, to_value};
use serde::de::{Deserializer, Visitor};
use serde::{Serialize, de::DeserializeOwned};

/// One codec for each type, for the life of the process.
static CODECS: LazyLock<Mutex<HashMap<TypeId, &'static TypeCodec>>> = LazyLock::new(Mutex::default);

/// The codecs of all types that were made savable so far.
pub(crate) fn codecs() -> Vec<&'static TypeCodec> {
    let codecs = CODECS.lock().unwrap_or_else(PoisonError::into_inner);
    codecs.values().copied().collect()
}

/// The codec of a type.
pub(crate) fn codec<T: Serialize + DeserializeOwned + Any + Send + Sync>() -> &'static TypeCodec {
    let mut codecs = CODECS.lock().unwrap_or_else(PoisonError::into_inner);
    codecs.entry(TypeId::of::<T>()).or_insert_with(|| {
        Box::leak(Box::new(TypeCodec {
            type_name: serde_name::<T>(),
            schema_version: 1,
            save: save::<T>,
            load: load::<T>,
            eq: equal::<T>,
        }))
    })
}

fn save<T: Serialize + Any>(object: &(dyn Any + Send + Sync)) -> Result<Value, CodecError> {
    match object.downcast_ref::<T>() {
        Some(object) => to_value(object),
        None => Err(CodecError {
            type_name: std::any::type_name::<T>().to_owned(),
            path: String::new(),
            reason: "the object is of another type".to_owned(),
        }),
    }
}

fn load<T: Serialize + DeserializeOwned + Any + Send + Sync>(
    value: Value,
    _: u32,
) -> Result<Opaque, CodecError> {
    let object: T = from_value(value)?;
    Ok(Opaque::with_codec(object, codec::<T>()))
}

/// Objects are equal when they are saved as equal values.
fn equal<T: Serialize + Any>(a: &(dyn Any + Send + Sync), b: &(dyn Any + Send + Sync)) -> bool {
    matches!((save::<T>(a), save::<T>(b)), (Ok(a), Ok(b)) if a == b)
}

/// The name under which a type asks to be deserialised: a struct's or enum's own name (or its `#[serde(rename)]`), the
/// kind of data for anything else. Unlike `std::any::type_name` it is the author's to keep stable.
fn serde_name<T: DeserializeOwned>() -> &'static str {
    match T::deserialize(Probe) {
        Err(Named(name)) => name,
        Ok(_) => "unit",
    }
}

/// Refuses whatever it is asked for, with its name.
struct Probe;

#[derive(Debug)]
struct Named(&'static str);

impl Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Named {}

impl serde::de::Error for Named {
    fn custom<M: Display>(_: M) -> Self {
        Self("any")
    }
}

macro_rules! kinds {
    ($($method:ident: $kind:literal),*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Named> {
            Err(Named($kind))
        }
    )*};
}

impl<'de> Deserializer<'de> for Probe {
    type Error = Named;

    kinds!(
        deserialize_any: "any", deserialize_bool: "bool", deserialize_i8: "i8", deserialize_i16: "i16",
        deserialize_i32: "i32", deserialize_i64: "i64", deserialize_i128: "i128", deserialize_u8: "u8",
        deserialize_u16: "u16", deserialize_u32: "u32", deserialize_u64: "u64", deserialize_u128: "u128",
        deserialize_f32: "f32", deserialize_f64: "f64", deserialize_char: "char", deserialize_str: "str",
        deserialize_string: "str", deserialize_bytes: "bytes", deserialize_byte_buf: "bytes",
        deserialize_option: "option", deserialize_unit: "unit", deserialize_seq: "seq", deserialize_map: "map",
        deserialize_identifier: "identifier", deserialize_ignored_any: "any"
    );

    fn deserialize_unit_struct<V: Visitor<'de>>(self, name: &'static str, _: V) -> Result<V::Value, Named> {
        Err(Named(name))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: V,
    ) -> Result<V::Value, Named> {
        Err(Named(name))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Named> {
        Err(Named("tuple"))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: usize,
        _: V,
    ) -> Result<V::Value, Named> {
        Err(Named(name))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Named> {
        Err(Named(name))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Named> {
        Err(Named(name))
    }
}
