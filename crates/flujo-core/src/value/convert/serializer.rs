//! Typed objects to plain data.

use std::sync::Arc;

use serde::ser::{
    Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::Reason;
use crate::value::Value;

pub(super) struct ToValue;

/// The items or entries of a value under construction, and the variant around it.
pub(super) struct Items(Vec<Value>, Option<&'static str>);
pub(super) struct Entries(Vec<(Arc<str>, Value)>, Option<Arc<str>>, Option<&'static str>);

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
