//! Keys: digests of all that a result depends on.
//!
//! A key is the first half of a BLAKE3 digest. Inputs come from outside, and whoever could make two inputs of one key
//! would be handed another's result, so a faster hash that nobody guards against that won't do.

use std::cell::Cell;

use super::CacheKey;
use crate::value::{Unhashable, Value};

/// So many bytes are digested at once: BLAKE3 takes up to 16 chunks of 1 KB side by side, where they come together.
const BLOCK: usize = 16 * 1024;
/// So many buffers a thread keeps: a field's digest is made while its key is, and its object's plain form while that is.
const MOST_BUFFERS: usize = 4;

thread_local! {
    /// What earlier keys of this thread were written to, for the next ones: making a key asks nobody for memory.
    static BUFFERS: Cell<Vec<Vec<u8>>> = const { Cell::new(Vec::new()) };
}

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
        let buffer = with_buffers(Vec::pop).flatten();
        let mut builder = Self {
            buffer: buffer.unwrap_or_else(|| Vec::with_capacity(BLOCK)),
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

    #[inline]
    fn write(&mut self, piece: &[u8]) {
        if piece.len() > self.buffer.capacity() - self.buffer.len() {
            self.digest(piece);
        } else {
            self.buffer.extend_from_slice(piece);
        }
    }

    #[cold]
    fn digest(&mut self, piece: &[u8]) {
        let hasher = self.hasher.get_or_insert_default();
        hasher.update(&self.buffer);
        self.buffer.clear();
        if piece.len() >= BLOCK {
            hasher.update(piece);
        } else {
            self.buffer.extend_from_slice(piece);
        }
    }

    /// The key.
    pub fn finish(mut self) -> CacheKey {
        let digest = match self.hasher.take() {
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

impl Drop for KeyBuilder {
    fn drop(&mut self) {
        self.buffer.clear();
        let buffer = std::mem::take(&mut self.buffer);
        with_buffers(|buffers| {
            if buffers.len() < MOST_BUFFERS {
                buffers.push(buffer);
            }
        });
    }
}

/// Nothing in a thread that ends.
fn with_buffers<R>(change: impl FnOnce(&mut Vec<Vec<u8>>) -> R) -> Option<R> {
    let changed = BUFFERS.try_with(|buffers| {
        let mut free = buffers.take();
        let changed = change(&mut free);
        buffers.set(free);
        changed
    });
    changed.ok()
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
mod tests;
