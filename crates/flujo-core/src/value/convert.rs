//! Typed Rust objects to and from values, through serde.

use std::fmt::Display;
use std::sync::Arc;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
};
use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{CodecError, Value};

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

struct ToValue;

/// The items or entries of a value under construction, and the variant around it.
struct Items(Vec<Value>, Option<&'static str>);
struct Entries(Vec<(Arc<str>, Value)>, Option<Arc<str>>, Option<&'static str>);

fn in_variant(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(variant) => Value::map([(variant, value)]),
        None => value,
    }
}

macro_rules! integers {
    ($($method:ident: $type:ty),*) => {$(
        fn $method(self, value: $type) -> Result<Value, Reason> {
            i64::try_from(value)
                .map(Value::Int)
                .map_err(|_| Reason(format!("the integer {value} does not fit 64 bits with a sign")))
        }
    )*};
}

impl Serializer for ToValue {
    type Ok = Value;
    type Error = Reason;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Entries;

    integers!(
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    );

    fn serialize_bool(self, value: bool) -> Result<Value, Reason> {
        Ok(Value::Bool(value))
    }

    fn serialize_f32(self, value: f32) -> Result<Value, Reason> {
        Ok(Value::Float(f64::from(value)))
    }

    fn serialize_f64(self, value: f64) -> Result<Value, Reason> {
        Ok(Value::Float(value))
    }

    fn serialize_char(self, value: char) -> Result<Value, Reason> {
        Ok(Value::from(value.to_string()))
    }

    fn serialize_str(self, value: &str) -> Result<Value, Reason> {
        Ok(Value::from(value))
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<Value, Reason> {
        Ok(Value::Bytes(value.into()))
    }

    fn serialize_none(self) -> Result<Value, Reason> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Reason> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, Reason> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value, Reason> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, Reason> {
        Ok(Value::from(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value, Reason> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, Reason> {
        Ok(in_variant(Some(variant), value.serialize(ToValue)?))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Items, Reason> {
        Ok(Items(Vec::with_capacity(len.unwrap_or(0).min(4096)), None))
    }

    fn serialize_tuple(self, len: usize) -> Result<Items, Reason> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Items, Reason> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items, Reason> {
        Ok(Items(Vec::with_capacity(len), Some(variant)))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Entries, Reason> {
        Ok(Entries(
            Vec::with_capacity(len.unwrap_or(0).min(4096)),
            None,
            None,
        ))
    }

    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Entries, Reason> {
        self.serialize_map(Some(len))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Entries, Reason> {
        Ok(Entries(Vec::with_capacity(len), None, Some(variant)))
    }
}

impl Items {
    fn push<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Reason> {
        self.0.push(item.serialize(ToValue)?);
        Ok(())
    }

    fn finish(self) -> Value {
        in_variant(self.1, Value::List(Arc::new(self.0)))
    }
}

macro_rules! items {
    ($($trait:ident: $method:ident),*) => {$(
        impl $trait for Items {
            type Ok = Value;
            type Error = Reason;

            fn $method<T: Serialize + ?Sized>(&mut self, item: &T) -> Result<(), Reason> {
                self.push(item)
            }

            fn end(self) -> Result<Value, Reason> {
                Ok(self.finish())
            }
        }
    )*};
}

items!(
    SerializeSeq: serialize_element, SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field
);

impl Entries {
    fn finish(self) -> Value {
        in_variant(self.2, Value::map(self.0))
    }
}

impl SerializeMap for Entries {
    type Ok = Value;
    type Error = Reason;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Reason> {
        self.1 = Some(match key.serialize(ToValue)? {
            Value::Str(key) => key,
            Value::Int(key) => key.to_string().into(),
            Value::Bool(key) => key.to_string().into(),
            other => return Err(Reason(format!("a map key must be text, not {}", other.kind()))),
        });
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Reason> {
        let key = self.1.take().unwrap_or_default();
        self.0.push((key, value.serialize(ToValue)?));
        Ok(())
    }

    fn end(self) -> Result<Value, Reason> {
        Ok(self.finish())
    }
}

macro_rules! fields {
    ($($trait:ident),*) => {$(
        impl $trait for Entries {
            type Ok = Value;
            type Error = Reason;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Reason> {
                self.0.push((Arc::from(name), value.serialize(ToValue)?));
                Ok(())
            }

            fn end(self) -> Result<Value, Reason> {
                Ok(self.finish())
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);

struct FromValue(Value);

impl IntoDeserializer<'_, Reason> for FromValue {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// A map key: text, which stands for a number or truth value where one is wanted.
struct Key(Arc<str>);

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

struct Variant(Arc<str>, Option<Value>);

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
