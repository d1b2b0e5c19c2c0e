//! Values as the Python host writes them, for people: the tags are those of `flujo-python/src/cache/form.rs`. Nothing is
//! made of it again, so that what can't be told apart without the classes (a tuple, a set) is shown as what is like it.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use flujo_core::value::{Map, Value};

/// Values nested deeper aren't shown.
const DEEPEST: u32 = 500;

/// What the bytes say; `None` when they aren't of that form.
pub(super) fn shown(bytes: &[u8]) -> Option<Value> {
    let mut reader = Reader { bytes, depth: 0 };
    let value = reader.value()?;
    reader.bytes.is_empty().then_some(value)
}

struct Reader<'b> {
    bytes: &'b [u8],
    depth: u32,
}

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count)?;
        self.bytes = rest;
        Some(taken)
    }

    fn eight(&mut self) -> Option<[u8; 8]> {
        self.take(8)?.try_into().ok()
    }

    /// A count of what follows: each takes a byte at least.
    fn count(&mut self) -> Option<usize> {
        let count = usize::try_from(u64::from_le_bytes(self.eight()?)).ok()?;
        (count <= self.bytes.len()).then_some(count)
    }

    fn sized(&mut self) -> Option<&'b [u8]> {
        let count = self.count()?;
        self.take(count)
    }

    fn float(&mut self) -> Option<f64> {
        Some(f64::from_bits(u64::from_le_bytes(self.eight()?)))
    }

    fn value(&mut self) -> Option<Value> {
        if self.depth > DEEPEST {
            return None;
        }
        self.depth += 1;
        let value = self.tagged();
        self.depth -= 1;
        value
    }

    fn tagged(&mut self) -> Option<Value> {
        Some(match self.take(1)?.first()? {
            0 => Value::Null,
            1 => Value::Bool(false),
            2 => Value::Bool(true),
            3 => Value::Int(i64::from_le_bytes(self.eight()?)),
            4 => large(self.sized()?),
            5 => Value::Float(self.float()?),
            6 => Value::from(std::str::from_utf8(self.sized()?).ok()?),
            7 => Value::from(String::from_utf8_lossy(self.sized()?).as_ref()),
            8 | 9 => Value::from(format!("<{} bytes>", self.sized()?.len())),
            10 | 11 | 13 | 14 => self.items()?,
            12 => Value::map(self.entries()?),
            15 => Value::from("..."),
            16 => {
                let (real, imaginary) = (self.float()?, self.float()?);
                Value::from(format!("{real}{imaginary:+}j"))
            }
            // Members of an enum by their names, of a flag by their values, named tuples by their items, dates and the like
            // by their texts.
            20 | 21 | 24 | 26 => {
                self.class()?;
                self.value()?
            }
            22 => self.model()?,
            23 => {
                self.class()?;
                Value::map(self.entries()?)
            }
            27 | 28 => {
                let (text, _, zone) = (self.value()?, self.value()?, self.value()?);
                match zone {
                    Value::Null => text,
                    zone => Value::from(format!("{} {}", name(&text), name(&zone))),
                }
            }
            29 => self.delta()?,
            // Zones by their names, exceptions by what is told of them.
            32 | 35 => self.value()?,
            33 => {
                let (offset, named) = (self.delta()?, self.value()?);
                if matches!(named, Value::Null) {
                    offset
                } else {
                    named
                }
            }
            34 => self.collection()?,
            _ => return None,
        })
    }

    fn items(&mut self) -> Option<Value> {
        let count = self.count()?;
        let items: Option<Vec<Value>> = (0..count).map(|_| self.value()).collect();
        items.map(Value::from)
    }

    fn entries(&mut self) -> Option<Map> {
        let count = self.count()?;
        let entry = |reader: &mut Self| Some((name(&reader.value()?), reader.value()?));
        (0..count).map(|_| entry(self)).collect()
    }

    /// The name of a class that modules have.
    fn class(&mut self) -> Option<(&'b str, &'b str)> {
        if *self.take(1)?.first()? != 30 {
            return None;
        }
        let (module, class) = (self.sized()?, self.sized()?);
        Some((
            std::str::from_utf8(module).ok()?,
            std::str::from_utf8(class).ok()?,
        ))
    }

    /// A pydantic model: its fields and what else it was given; not its private attributes.
    fn model(&mut self) -> Option<Value> {
        self.class()?;
        let mut fields = self.entries()?;
        let (extra, _, _) = (self.value()?, self.value()?, self.value()?);
        if let Value::Map(extra) = extra {
            fields.extend(extra.iter().cloned());
        }
        Some(Value::map(fields))
    }

    /// A length of time, as text: days, seconds and millionths.
    fn delta(&mut self) -> Option<Value> {
        let (days, seconds, millionths) = (self.value()?, self.value()?, self.value()?);
        let (Value::Int(days), Value::Int(seconds), Value::Int(millionths)) = (days, seconds, millionths)
        else {
            return None;
        };
        let days = if days == 0 {
            String::new()
        } else {
            format!("{days} days ")
        };
        let millionths = if millionths == 0 {
            String::new()
        } else {
            format!(".{millionths:06}")
        };
        Some(Value::from(format!("{days}{seconds}{millionths} s")))
    }

    /// Collections of the standard library. What a class of the user's own adds isn't known here.
    fn collection(&mut self) -> Option<Value> {
        match self.class()? {
            ("collections", "defaultdict") => {
                if self.bytes.first() == Some(&0) {
                    self.value()?;
                } else {
                    self.class()?;
                }
                self.value()
            }
            ("collections", "deque") => {
                self.value()?;
                self.value()
            }
            ("collections", _) => self.value(),
            _ => None,
        }
    }
}

/// A key as text.
fn name(value: &Value) -> Arc<str> {
    match value {
        Value::Str(text) => Arc::clone(text),
        Value::Int(number) => Arc::from(number.to_string()),
        other => Arc::from(format!("{other:?}")),
    }
}

/// A whole number beyond 64 bits, in its digits as far as 128 bits go.
fn large(bytes: &[u8]) -> Value {
    if bytes.len() > 16 {
        return Value::from(format!("<a number of {} bytes>", bytes.len()));
    }
    let fill = if bytes.last().is_some_and(|last| last & 0x80 != 0) {
        0xff
    } else {
        0
    };
    let mut all = [fill; 16];
    for (to, from) in all.iter_mut().zip(bytes) {
        *to = *from;
    }
    Value::from(i128::from_le_bytes(all).to_string())
}
