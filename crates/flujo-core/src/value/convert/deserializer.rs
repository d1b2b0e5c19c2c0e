//! Plain data to typed objects.

use std::sync::Arc;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor};

use super::Reason;
use crate::value::Value;

pub(super) struct FromValue(pub(super) Value);

impl IntoDeserializer<'_, Reason> for FromValue {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// A map key: text, which stands for a number or truth value where one is wanted.
pub(super) struct Key(Arc<str>);

impl IntoDeserializer<'_, Reason> for Key {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for FromValue {
    type Error = Reason;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Int(value) => visitor.visit_i64(value),
            Value::Float(value) => visitor.visit_f64(value),
            Value::Str(value) => visitor.visit_str(&value),
            Value::Bytes(value) => visitor.visit_bytes(&value),
            Value::List(items) => {
                let items = Arc::unwrap_or_clone(items);
                let mut sequence = SeqDeserializer::new(items.into_iter().map(FromValue));
                let object = visitor.visit_seq(&mut sequence)?;
                sequence.end()?;
                Ok(object)
            }
            Value::Map(entries) => {
                let entries = Arc::unwrap_or_clone(entries).into_iter();
                let mut map = MapDeserializer::new(entries.map(|(key, value)| (Key(key), FromValue(value))));
                let object = visitor.visit_map(&mut map)?;
                map.end()?;
                Ok(object)
            }
            Value::Opaque(object) => match object.codec() {
                Some(codec) => {
                    let plain = (codec.save)(object.as_any()).map_err(|error| Reason(error.to_string()))?;
                    FromValue(plain).deserialize_any(visitor)
                }
                None => Err(Reason(format!(
                    "a value of type `{}` has no codec and cannot be read as data",
                    object.type_name()
                ))),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Reason> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Reason> {
        match self.0 {
            Value::Str(variant) => visitor.visit_enum(Variant(variant, None)),
            Value::Map(entries) if entries.len() == 1 => {
                let (variant, content) = Arc::unwrap_or_clone(entries).swap_remove(0);
                visitor.visit_enum(Variant(variant, Some(content)))
            }
            other => Err(Reason(format!(
                "a variant is its name, or a map from its name to its content, not {}",
                other.kind()
            ))),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

macro_rules! parsed {
    ($($method:ident: $visit:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
            match self.0.parse() {
                Ok(key) => visitor.$visit(key),
                Err(_) => visitor.visit_str(&self.0),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Key {
    type Error = Reason;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Reason> {
        visitor.visit_str(&self.0)
    }

    parsed!(
        deserialize_bool: visit_bool,
        deserialize_i8: visit_i8, deserialize_i16: visit_i16, deserialize_i32: visit_i32, deserialize_i64: visit_i64,
        deserialize_u8: visit_u8, deserialize_u16: visit_u16, deserialize_u32: visit_u32, deserialize_u64: visit_u64
    );

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Reason> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Reason> {
        visitor.visit_enum(Variant(self.0, None))
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

pub(super) struct Variant(Arc<str>, Option<Value>);

impl<'de> EnumAccess<'de> for Variant {
    type Error = Reason;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Reason> {
        let name = seed.deserialize(Key(Arc::clone(&self.0)))?;
        Ok((name, self))
    }
}

impl Variant {
    fn content(self) -> Result<FromValue, Reason> {
        match self.1 {
            Some(content) => Ok(FromValue(content)),
            None => Err(Reason(format!("the variant `{}` needs content", self.0))),
        }
    }
}

impl<'de> VariantAccess<'de> for Variant {
    type Error = Reason;

    fn unit_variant(self) -> Result<(), Reason> {
        match self.1 {
            None | Some(Value::Null) => Ok(()),
            Some(_) => Err(Reason(format!("the variant `{}` has no content", self.0))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Reason> {
        seed.deserialize(self.content()?)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Reason> {
        self.content()?.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Reason> {
        self.content()?.deserialize_any(visitor)
    }
}
