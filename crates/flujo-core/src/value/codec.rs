//! How a typed object is saved and loaded again.

use std::any::Any;

use std::cell::RefCell;

use super::{Opaque, Value};

/// Saving, loading and comparing objects of one type, known by a stable name.
#[derive(Debug)]
pub struct TypeCodec {
    /// The stable name under which saved objects are found again. Never `std::any::type_name`, which may change.
    pub type_name: &'static str,
    /// The version of the saved form; a load gets the version that was saved.
    pub schema_version: u32,
    /// The object as plain data.
    pub save: fn(&(dyn Any + Send + Sync)) -> Result<Value, CodecError>,
    /// The object from plain data saved under the given version.
    pub load: fn(Value, u32) -> Result<Opaque, CodecError>,
    /// Whether two objects of this type are equal.
    pub eq: fn(&(dyn Any + Send + Sync), &(dyn Any + Send + Sync)) -> bool,
}

/// Why an object could not be saved or loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot convert a value of type `{type_name}`{}: {reason}", if path.is_empty() { String::new() } else { format!(" at `{path}`") })]
pub struct CodecError {
    /// The type in question.
    pub type_name: String,
    /// Where in the value, as a dotted path; empty at the top.
    pub path: String,
    /// What is wrong.
    pub reason: String,
}

thread_local! {
    static CODECS: RefCell<Vec<&'static TypeCodec>> = const { RefCell::new(Vec::new()) };
}

/// Does `work`, during which values read from formats that aren't for people load their objects by these codecs.
pub fn with_codecs<R>(codecs: &[&'static TypeCodec], work: impl FnOnce() -> R) -> R {
    struct Restore(Vec<&'static TypeCodec>);
    impl Drop for Restore {
        fn drop(&mut self) {
            CODECS.replace(std::mem::take(&mut self.0));
        }
    }
    let _before = Restore(CODECS.replace(codecs.to_vec()));
    work()
}

/// The codecs that are in use.
pub(super) fn current<R>(work: impl FnOnce(&[&'static TypeCodec]) -> R) -> R {
    let codecs = CODECS.with_borrow(Clone::clone);
    work(&codecs)
}
