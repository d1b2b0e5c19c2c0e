//! The state of a run: an ordered, persistent map from field names to values.
//!
//! Isolation costs nothing: a [fork](Context::fork) shares everything with its origin, and a write copies only the way to the field that
//! was written. Branches are [merged](Context::merge) three-way against the context at the fork, at a cost that grows
//! with what they wrote, not with what there is.

mod copying;
mod edits;
mod merge;
mod path;
mod reads;
#[cfg(test)]
mod tests;
mod writes;

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;
use serde::de::Error;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use copying::CopyCounts;
pub use edits::{Edit, Edits, edits};
pub use merge::{FieldCheck, MergeConflict, MergeFunction, MergeRule, MergeRules, MergeStrategy};
pub use path::{PathError, PathErrorKind};
pub use reads::Reads;
pub use writes::Writes;

use crate::value::Value;

/// The fields of a run's state. Cloning shares them; a write to a clone is not seen by the original.
///
/// ```
/// use flujo_core::context::Context;
/// use flujo_core::value::Value;
///
/// let mut context = Context::new();
/// context.set("seen", Value::from(1));
/// let fork = context.clone();
/// context.set("seen", Value::from(2));
/// assert_eq!(fork.get("seen"), Some(&Value::from(1)));
/// ```
#[derive(Clone, Default)]
pub struct Context {
    fields: OrdMap<Arc<str>, Value>,
    beside: Option<Arc<Beside>>,
}

/// What few contexts have.
#[derive(Clone, Default)]
struct Beside {
    rules: Option<Arc<MergeRules>>,
    /// Where copies are counted, in a context that is isolated by copying.
    copies: Option<Arc<CopyCounts>>,
    reads: Option<Arc<Reads>>,
}

impl Context {
    /// No fields, no merge rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same fields, whose concurrent writes combine as `rules` say.
    #[must_use]
    pub fn with_rules(mut self, rules: impl Into<Arc<MergeRules>>) -> Self {
        let beside = self.beside.get_or_insert_default();
        Arc::make_mut(beside).rules = Some(rules.into());
        self
    }

    /// No fields, the same merge rules.
    #[must_use]
    pub fn emptied(&self) -> Self {
        Self {
            fields: OrdMap::new(),
            beside: self.beside.clone(),
        }
    }

    fn rules(&self) -> Option<&Arc<MergeRules>> {
        self.beside.as_ref()?.rules.as_ref()
    }

    fn copies(&self) -> Option<&Arc<CopyCounts>> {
        self.beside.as_ref()?.copies.as_ref()
    }

    fn reads(&self) -> Option<&Arc<Reads>> {
        self.beside.as_ref()?.reads.as_ref()
    }

    /// The same context, of which and of whose forks it is noted from now on what is read.
    pub fn watched(&self) -> (Self, Arc<Reads>) {
        let reads = Arc::new(Reads::new(self.reads().cloned()));
        let beside = Beside {
            rules: self.rules().cloned(),
            copies: self.copies().cloned(),
            reads: Some(Arc::clone(&reads)),
        };
        let watched = Self {
            fields: self.fields.clone(),
            beside: Some(Arc::new(beside)),
        };
        (watched, reads)
    }

    /// Takes the fields of a fork in place of its own.
    pub fn take_over(&mut self, fork: Self) {
        self.fields = fork.fields;
    }

    fn note_whole(&self) {
        if let Some(reads) = self.reads() {
            reads.read_whole();
        }
    }

    /// A field's value.
    pub fn get(&self, field: &str) -> Option<&Value> {
        if let Some(reads) = self.reads() {
            reads.read(field);
        }
        self.fields.get(field)
    }

    /// Writes a field. Whether that makes a difference depends on what it held, so it is noted as read, too.
    pub fn set(&mut self, field: impl Into<Arc<str>>, value: Value) {
        let field = field.into();
        if let Some(reads) = self.reads() {
            reads.read(&field);
        }
        self.fields.insert(field, value);
    }

    /// Removes a field and gives what it held.
    pub fn remove(&mut self, field: &str) -> Option<Value> {
        if let Some(reads) = self.reads() {
            reads.read(field);
        }
        self.fields.remove(field)
    }

    /// All fields in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Value)> {
        self.note_whole();
        self.fields.iter()
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.note_whole();
        self.fields.len()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.note_whole();
        self.fields.is_empty()
    }

    /// Whether both share the very same fields, so that neither has been written since they were one.
    pub fn same(&self, other: &Self) -> bool {
        self.fields.ptr_eq(&other.fields)
    }

    /// Whether both have equal fields. It is not taken for reading them.
    pub fn has_fields_of(&self, other: &Self) -> bool {
        self.same(other) || self.fields == other.fields
    }

    /// The fields as one map value.
    pub fn to_value(&self) -> Value {
        let entries = self.iter();
        Value::Map(Arc::new(
            entries
                .map(|(name, value)| (Arc::clone(name), value.clone()))
                .collect(),
        ))
    }

    /// Writes every entry of a map value into the field of that name; `None` when `update` is not a map, and nothing
    /// is written.
    pub fn update(&mut self, update: &Value) -> Option<()> {
        for (name, value) in update.as_map()? {
            self.set(Arc::clone(name), value.clone());
        }
        Some(())
    }
}

impl FromIterator<(Arc<str>, Value)> for Context {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Value)>>(fields: I) -> Self {
        Self {
            fields: fields.into_iter().collect(),
            beside: None,
        }
    }
}

impl PartialEq for Context {
    /// Contexts are equal when their fields are.
    fn eq(&self, other: &Self) -> bool {
        self.note_whole();
        other.note_whole();
        self.has_fields_of(other)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Context {
    /// The fields; merge rules belong to the pipeline's definition and are not saved. To be saved is not to be read.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            let fields = self.fields.iter();
            let fields = fields.map(|(name, value)| (Arc::clone(name), value.clone()));
            return Value::Map(Arc::new(fields.collect())).serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(self.fields.len()))?;
        for (name, value) in &self.fields {
            map.serialize_entry(&**name, value)?;
        }
        map.end()
    }
}

thread_local! {
    static RULES: RefCell<Option<Arc<MergeRules>>> = const { RefCell::new(None) };
}

/// Does `work`, during which contexts that are read get these merge rules, which aren't saved with them.
pub fn with_merge_rules<R>(rules: Option<Arc<MergeRules>>, work: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<MergeRules>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            RULES.replace(self.0.take());
        }
    }
    let _before = Restore(RULES.replace(rules));
    work()
}

impl<'de> Deserialize<'de> for Context {
    /// With the merge rules of [`with_merge_rules`].
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Map(entries) => {
                let context: Self = Arc::unwrap_or_clone(entries).into_iter().collect();
                Ok(match RULES.with_borrow(Clone::clone) {
                    Some(rules) => context.with_rules(rules),
                    None => context,
                })
            }
            other => Err(D::Error::custom(format!(
                "a context must be a map, not {}",
                other.kind()
            ))),
        }
    }
}
