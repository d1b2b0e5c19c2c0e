//! What views read of the context that they were forked from.

use std::sync::{Arc, Mutex, PoisonError};

use flujo_core::cache::ReadSet;

/// Notes what was read. Whoever is around whoever notes here is told too.
#[derive(Debug, Default)]
pub(crate) struct ReadLog {
    reads: Mutex<ReadSet>,
    outer: Option<Arc<ReadLog>>,
}

impl ReadLog {
    /// A log inside another one.
    pub(crate) fn within(outer: Option<Arc<Self>>) -> Self {
        Self {
            reads: Mutex::default(),
            outer,
        }
    }

    fn each(&self, note: impl Fn(&mut ReadSet)) {
        let mut log = Some(self);
        while let Some(own) = log {
            note(&mut own.reads.lock().unwrap_or_else(PoisonError::into_inner));
            log = own.outer.as_deref();
        }
    }

    /// A field, or a part of the model, was read.
    pub(crate) fn read(&self, name: &str) {
        self.each(|reads| reads.read(name));
    }

    /// All was read at once.
    pub(crate) fn read_whole(&self) {
        self.each(ReadSet::read_whole);
    }

    /// All of a set was read.
    pub(crate) fn read_all(&self, set: &ReadSet) {
        match set {
            ReadSet::Fields(names) => names.iter().for_each(|name| self.read(name)),
            ReadSet::Whole => self.read_whole(),
        }
    }

    /// What was read so far.
    pub(crate) fn reads(&self) -> ReadSet {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
