//! The plain way to isolate: at every fork every field is copied, with all that is in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Context;

/// What was copied, over all contexts that count here.
#[derive(Debug, Default)]
pub struct CopyCounts {
    fields: AtomicU64,
    bytes: AtomicU64,
}

impl CopyCounts {
    /// Fields copied.
    pub fn fields(&self) -> u64 {
        self.fields.load(Ordering::Relaxed)
    }

    /// Bytes copied with them, about: text, bytes, and a machine word or two for each value.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Starts anew.
    pub fn reset(&self) {
        self.fields.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }
}

impl Context {
    /// The same fields, in a context that is isolated by copying: the plain twin of sharing.
    #[must_use]
    pub fn copying(mut self, counts: Arc<CopyCounts>) -> Self {
        let beside = self.beside.get_or_insert_default();
        Arc::make_mut(beside).copies = Some(counts);
        self
    }

    /// A context that starts equal to this one and whose writes this one does not see.
    #[must_use]
    pub fn fork(&self) -> Self {
        match self.copies() {
            Some(counts) => self.copied(counts),
            None => self.clone(),
        }
    }

    /// A copy of every field, which shares nothing with this context but its objects: these are of the host's language
    /// and stay what they are.
    #[must_use]
    pub fn copied(&self, counts: &CopyCounts) -> Self {
        let mut bytes = 0;
        let fields = self.fields.iter();
        let fields = fields.map(|(name, value)| (Arc::clone(name), value.copied(&mut bytes)));
        let copied = Self {
            fields: fields.collect(),
            beside: self.beside.clone(),
        };
        counts
            .fields
            .fetch_add(self.fields.len() as u64, Ordering::Relaxed);
        counts.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        copied
    }
}
