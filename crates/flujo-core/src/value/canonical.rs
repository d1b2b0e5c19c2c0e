//! One way to write a value as bytes, for digests: equal for values that are the same in content and types, different for
//! any others, and the same in every process. `1`, `true`, `1.0` and `[1]` differ; the order of a map's entries says
//! nothing. All floats that aren't a number are written as one; `0.0` and `-0.0` differ, since a step can tell them apart.

use std::sync::Arc;

use super::{Opaque, Value};

/// A value holds an object that has no plain form, and can't be part of a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a value of type `{type_name}` has no plain form{reason}: it can't be part of a cache key")]
pub struct Unhashable {
    /// The type's name.
    pub type_name: String,
    /// What its codec said, after a colon; empty without one.
    pub reason: String,
}

/// What is left to be written.
enum Left<'v> {
    Values(&'v [Value]),
    Entry(&'v (Arc<str>, Value)),
}

impl Left<'_> {
    fn key(&self) -> &str {
        match self {
            Self::Values(_) => "",
            Self::Entry((key, _)) => key,
        }
    }
}

impl Value {
    /// Hands the value's canonical form to `write`, piece by piece. A loop, so that depth costs no call stack; the plain
    /// form of an object is one level of it.
    ///
    /// # Errors
    /// [`Unhashable`] names the type of an object without a codec; what was written by then stands for nothing.
    pub fn canonical(&self, write: &mut impl FnMut(&[u8])) -> Result<(), Unhashable> {
        let mut left = vec![Left::Values(std::slice::from_ref(self))];
        while let Some(next) = left.pop() {
            let mut values = match next {
                Left::Values(values) => values,
                Left::Entry((key, value)) => {
                    sized(5, key.as_bytes(), write);
                    std::slice::from_ref(value)
                }
            };
            while let Some((value, rest)) = values.split_first() {
                values = rest;
                match value {
                    Self::Null => write(&[0]),
                    Self::Bool(value) => write(&[1 + u8::from(*value)]),
                    // Its sign last, so that small ones are short.
                    Self::Int(number) => {
                        number_of(3, ((number << 1) ^ (number >> 63)).cast_unsigned(), write);
                    }
                    Self::Float(number) => {
                        let number = if number.is_nan() { f64::NAN } else { *number };
                        let mut piece = [4; 9];
                        piece[1..].copy_from_slice(&number.to_bits().to_le_bytes());
                        write(&piece);
                    }
                    Self::Str(text) => sized(5, text.as_bytes(), write),
                    Self::Bytes(bytes) => sized(6, bytes, write),
                    Self::List(items) => {
                        number_of(7, items.len() as u64, write);
                        left.push(Left::Values(rest));
                        values = items;
                    }
                    Self::Map(entries) => {
                        number_of(8, entries.len() as u64, write);
                        left.push(Left::Values(rest));
                        let first = left.len();
                        left.extend(entries.iter().map(Left::Entry));
                        if let Some(entries) = left.get_mut(first..) {
                            entries.sort_unstable_by(|one, other| other.key().cmp(one.key()));
                        }
                        break;
                    }
                    Self::Opaque(object) => saved(object, write)?,
                }
            }
        }
        Ok(())
    }
}

/// A tag and a number of as few bytes as it needs, seven bits in each. Most need one, written as one word.
#[inline]
fn number_of(tag: u8, number: u64, write: &mut impl FnMut(&[u8])) {
    match u8::try_from(number) {
        Ok(small @ 0..0x80) => write(&(u16::from(small) << 8 | u16::from(tag)).to_le_bytes()),
        _ => large_number_of(tag, number, write),
    }
}

#[inline(never)]
fn large_number_of(tag: u8, mut number: u64, write: &mut impl FnMut(&[u8])) {
    let mut piece = [tag; 11];
    let mut length = 1;
    for byte in &mut piece[1..] {
        let [lowest, ..] = number.to_le_bytes();
        number >>= 7;
        length += 1;
        *byte = lowest & 0x7f;
        if number == 0 {
            break;
        }
        *byte |= 0x80;
    }
    write(&piece[..length]);
}

fn sized(tag: u8, bytes: &[u8], write: &mut impl FnMut(&[u8])) {
    number_of(tag, bytes.len() as u64, write);
    write(bytes);
}

fn saved(object: &Opaque, write: &mut impl FnMut(&[u8])) -> Result<(), Unhashable> {
    let unhashable = |reason| Unhashable {
        type_name: object.type_name().to_owned(),
        reason,
    };
    let codec = object.codec().ok_or_else(|| unhashable(String::new()))?;
    let plain = (codec.save)(object.as_any()).map_err(|error| unhashable(format!(": {error}")))?;
    sized(9, codec.type_name.as_bytes(), write);
    write(&codec.schema_version.to_le_bytes());
    plain.canonical(write)
}

#[cfg(test)]
mod tests;
