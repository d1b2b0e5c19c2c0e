//! An exact form of values for stores: every type and the order of maps is kept, unlike in JSON. Read again only by what
//! wrote it or knows better: what can't be read is nothing.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::{CodecError, Map, Opaque, TypeCodec, Value};

/// Room for a number or a short text.
const SMALL: usize = 48;
/// Values nested deeper aren't stored.
const DEEPEST: usize = 128;

impl Value {
    /// The value as bytes, an object through its codec.
    ///
    /// # Errors
    /// [`CodecError`] for an object that can't be saved, and for values nested deeper than 128 levels.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        let mut bytes = Vec::with_capacity(SMALL);
        write(self, &mut bytes, 0)?;
        Ok(bytes)
    }

    /// The value that [`to_bytes`](Self::to_bytes) wrote; objects are loaded by the codec of their type's name, among
    /// `codecs`. `None` when the bytes are anything else.
    pub fn from_bytes(bytes: &[u8], codecs: &[&'static TypeCodec]) -> Option<Self> {
        Reader {
            bytes,
            codecs: Some(codecs),
        }
        .whole()
    }

    /// The same for who only looks at it: objects are shown as maps, of their type's name and the data that was saved.
    pub fn shown_from_bytes(bytes: &[u8]) -> Option<Self> {
        Reader { bytes, codecs: None }.whole()
    }
}

fn write(value: &Value, bytes: &mut Vec<u8>, depth: usize) -> Result<(), CodecError> {
    if depth > DEEPEST {
        return Err(CodecError {
            type_name: value.kind().to_owned(),
            path: String::new(),
            reason: format!("it is nested deeper than {DEEPEST} levels"),
        });
    }
    let mut tagged = |tag: u8, number: [u8; 8]| {
        bytes.push(tag);
        bytes.extend_from_slice(&number);
    };
    let length = |length: usize| (length as u64).to_le_bytes();
    match value {
        Value::Null => bytes.push(0),
        Value::Bool(value) => bytes.push(1 + u8::from(*value)),
        Value::Int(number) => tagged(3, number.to_le_bytes()),
        Value::Float(number) => tagged(4, number.to_bits().to_le_bytes()),
        Value::Str(text) => {
            tagged(5, length(text.len()));
            bytes.extend_from_slice(text.as_bytes());
        }
        Value::Bytes(data) => {
            tagged(6, length(data.len()));
            bytes.extend_from_slice(data);
        }
        Value::List(items) => {
            tagged(7, length(items.len()));
            items.iter().try_for_each(|item| write(item, bytes, depth + 1))?;
        }
        Value::Map(entries) => {
            tagged(8, length(entries.len()));
            for (key, value) in entries.iter() {
                bytes.extend_from_slice(&length(key.len()));
                bytes.extend_from_slice(key.as_bytes());
                write(value, bytes, depth + 1)?;
            }
        }
        Value::Opaque(object) => {
            let codec = object.codec().ok_or_else(|| CodecError {
                type_name: object.type_name().to_owned(),
                path: String::new(),
                reason: "it has no codec".to_owned(),
            })?;
            tagged(9, u64::from(codec.schema_version).to_le_bytes());
            bytes.extend_from_slice(&length(codec.type_name.len()));
            bytes.extend_from_slice(codec.type_name.as_bytes());
            write(&(codec.save)(object.as_any())?, bytes, depth + 1)?;
        }
    }
    Ok(())
}

struct Reader<'b> {
    bytes: &'b [u8],
    /// `None`: objects are not loaded.
    codecs: Option<&'b [&'static TypeCodec]>,
}

impl<'b> Reader<'b> {
    fn whole(mut self) -> Option<Value> {
        let value = self.value(0)?;
        self.bytes.is_empty().then_some(value)
    }

    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn eight(&mut self) -> Option<[u8; 8]> {
        self.take(8)?.try_into().ok()
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(self.eight()?)).ok()
    }

    fn text(&mut self) -> Option<&'b str> {
        let length = self.length()?;
        std::str::from_utf8(self.take(length)?).ok()
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > DEEPEST + 1 {
            return None;
        }
        Some(match self.take(1)?.first()? {
            0 => Value::Null,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => Value::Int(i64::from_le_bytes(self.eight()?)),
            4 => Value::Float(f64::from_bits(u64::from_le_bytes(self.eight()?))),
            5 => Value::Str(Arc::from(self.text()?)),
            6 => {
                let length = self.length()?;
                Value::Bytes(Arc::from(self.take(length)?))
            }
            7 => {
                let length = self.length()?;
                let items: Option<Vec<_>> = (0..length).map(|_| self.value(depth + 1)).collect();
                Value::List(Arc::new(items?))
            }
            8 => {
                let length = self.length()?;
                let entry = |reader: &mut Self| {
                    let key: Arc<str> = Arc::from(reader.text()?);
                    Some((key, reader.value(depth + 1)?))
                };
                let entries: Option<Map> = (0..length).map(|_| entry(self)).collect();
                Value::Map(Arc::new(entries?))
            }
            9 => {
                let version = u32::try_from(u64::from_le_bytes(self.eight()?)).ok()?;
                let type_name = self.text()?;
                let plain = self.value(depth + 1)?;
                let Some(codecs) = self.codecs else {
                    return Some(Value::map([("type", Value::from(type_name)), ("value", plain)]));
                };
                let mut named = codecs.iter().filter(|codec| codec.type_name == type_name);
                let object: Opaque = named.find_map(|codec| (codec.load)(plain.clone(), version).ok())?;
                Value::Opaque(object)
            }
            _ => return None,
        })
    }
}
