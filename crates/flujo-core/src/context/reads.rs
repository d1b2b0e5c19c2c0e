//! What is read of a context, for steps whose results depend on it.

use std::sync::{Arc, Mutex, PoisonError};

use super::Context;
use crate::cache::{CacheKey, Fields, KeyBuilder, ReadSet};

/// Notes what is read of a context and of all its forks.
#[derive(Debug)]
pub struct Reads {
    seen: Mutex<ReadSet>,
    /// Whoever notes what is read around.
    around: Option<Arc<Reads>>,
}

impl Reads {
    pub(super) fn new(around: Option<Arc<Self>>) -> Self {
        Self {
            seen: Mutex::default(),
            around,
        }
    }

    /// What was read so far.
    pub fn seen(&self) -> ReadSet {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn read(&self, field: &str) {
        self.note(|seen| seen.read(field));
    }

    pub(super) fn read_whole(&self) {
        self.note(ReadSet::read_whole);
    }

    fn note(&self, note: impl Fn(&mut ReadSet)) {
        let mut next = Some(self);
        while let Some(reads) = next {
            note(&mut reads.seen.lock().unwrap_or_else(PoisonError::into_inner));
            next = reads.around.as_deref();
        }
    }
}

impl Fields for Context {
    fn digest(&self, field: &str) -> Option<CacheKey> {
        match self.get_path(field) {
            Some(value) => CacheKey::of(value).ok(),
            None => Some(KeyBuilder::new("no such field").finish()),
        }
    }

    fn whole(&self) -> Option<CacheKey> {
        let mut key = KeyBuilder::new("context");
        for (name, value) in self.iter() {
            key.text(name).value(value).ok()?;
        }
        Some(key.finish())
    }
}

#[cfg(test)]
mod tests;
