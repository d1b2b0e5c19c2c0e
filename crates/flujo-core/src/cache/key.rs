//! Keys: digests of all that a result depends on.
//!
//! A key is the first half of a BLAKE3 digest. Inputs come from outside, and whoever could make two inputs of one key
//! would be handed another's result, so a faster hash that nobody guards against that won't do.

use super::CacheKey;
use crate::value::{Unhashable, Value};

/// Pieces from this size on go to the digest by themselves.
const LARGE: usize = 1024;

/// Makes a key of several things, each told apart from its neighbours.
///
/// ```
/// use flujo_core::cache::KeyBuilder;
/// use flujo_core::value::Value;
///
/// let key = |number| {
///     let mut key = KeyBuilder::new("example");
///     key.text("summarise").value(&Value::Int(number))?;
///     Ok::<_, flujo_core::value::Unhashable>(key.finish())
/// };
/// assert_eq!(key(1), key(1));
/// assert_ne!(key(1), key(2));
/// ```
#[derive(Debug)]
pub struct KeyBuilder {
    buffer: Vec<u8>,
    /// Once something large has come.
    hasher: Option<Box<blake3::Hasher>>,
}

impl KeyBuilder {
    /// The key of a kind of thing; those of other kinds differ.
    pub fn new(kind: &str) -> Self {
        let mut builder = Self {
            buffer: Vec::with_capacity(256),
            hasher: None,
        };
        builder.text(kind);
        builder
    }

    /// Adds a text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    /// Adds a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.write(&number.to_le_bytes());
        self
    }

    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.number(bytes.len() as u64);
        self.write(bytes);
        self
    }

    /// Adds a key, or another digest.
    pub fn key(&mut self, key: CacheKey) -> &mut Self {
        self.write(&key.0.to_le_bytes());
        self
    }

    /// Adds a value, in its [canonical form](Value::canonical).
    ///
    /// # Errors
    /// [`Unhashable`] when the value holds an object that has no plain form; the key is good for nothing then.
    pub fn value(&mut self, value: &Value) -> Result<&mut Self, Unhashable> {
        value.canonical(&mut |piece| self.write(piece))?;
        Ok(self)
    }

    fn write(&mut self, piece: &[u8]) {
        if piece.len() >= LARGE || self.buffer.len() >= LARGE {
            let hasher = self.hasher.get_or_insert_default();
            hasher.update(&self.buffer);
            self.buffer.clear();
            if piece.len() >= LARGE {
                hasher.update(piece);
                return;
            }
        }
        self.buffer.extend_from_slice(piece);
    }

    /// The key.
    pub fn finish(self) -> CacheKey {
        let digest = match self.hasher {
            None => blake3::hash(&self.buffer),
            Some(mut hasher) => hasher.update(&self.buffer).finalize(),
        };
        let (half, _) = digest.as_bytes().split_at(16);
        CacheKey(
            half.iter()
                .rev()
                .fold(0, |key, byte| key << 8 | u128::from(*byte)),
        )
    }
}

impl CacheKey {
    /// The digest of a value by itself.
    ///
    /// # Errors
    /// [`Unhashable`] when the value holds an object that has no plain form.
    pub fn of(value: &Value) -> Result<Self, Unhashable> {
        let mut key = KeyBuilder::new("value");
        key.value(value)?;
        Ok(key.finish())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_the_same_in_every_process() {
        let value = Value::map([
            ("prompt", Value::from("Grüße")),
            (
                "numbers",
                Value::list([Value::Int(1), Value::Float(1.0), Value::Bool(true), Value::Null]),
            ),
        ]);
        assert_eq!(
            CacheKey::of(&value).unwrap().to_string(),
            "2dacc3b5e23412f8b4655e5efa292c72"
        );
    }

    #[test]
    fn what_is_added_in_other_pieces_makes_another_key() {
        let key = |texts: &[&str]| {
            let mut key = KeyBuilder::new("test");
            for text in texts {
                key.text(text).number(0);
            }
            key.finish()
        };
        let keys = [
            key(&[]),
            key(&["ab"]),
            key(&["a", "b"]),
            key(&["", "ab"]),
            key(&["b", "a"]),
        ];
        assert_eq!(HashSet::from(keys).len(), keys.len());
    }

    #[test]
    fn large_values_are_told_apart_wherever_they_differ() {
        let text = |place: usize| {
            let mut bytes = vec![0_u8; 5_000];
            bytes[place] = 1;
            Value::list([
                Value::from("head"),
                Value::Bytes(bytes.into()),
                Value::from("tail"),
            ])
        };
        let keys: HashSet<_> = (0..5_000)
            .map(|place| CacheKey::of(&text(place)).unwrap())
            .collect();
        assert_eq!(keys.len(), 5_000);
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (-2..3_i64).prop_map(Value::Int),
            (-2..3_i32).prop_map(|number| Value::Float(f64::from(number))),
            "[a-c]{0,3}".prop_map(Value::from),
            proptest::collection::vec(0..3_u8, 0..3).prop_map(|bytes| Value::Bytes(Arc::from(bytes))),
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::list),
                proptest::collection::vec(("[a-c]{0,2}", inner), 0..3).prop_map(Value::map),
            ]
        })
    }

    proptest! {
        /// Values of one digest are equal, and equal values have one digest.
        #[test]
        fn digests_are_equal_as_values_are(one in value(), other in value()) {
            let digests = CacheKey::of(&one).unwrap() == CacheKey::of(&other).unwrap();
            prop_assert_eq!(digests, one == other);
        }
    }
}
