//! Typed contexts: the state of a run as a struct, each field under its name.

use flujo_core::context::{Context as Fields, MergeRules};
use flujo_core::value::{CodecError, Value, from_value, to_value};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The state of a run. Derive it: `#[derive(Default, Context)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the context of a run",
    label = "this isn't a context",
    note = "add `#[derive(flujo::Context)]` to `{Self}`, or leave the `Scope` out"
)]
pub trait Context: Sized + Send + Sync + 'static {
    /// How concurrent writes to the fields combine, by field name.
    fn merge_rules() -> MergeRules;

    /// The struct from the run's fields.
    ///
    /// # Errors
    /// [`ContextError`] names the field that is missing or holds something else.
    fn load(fields: &Fields) -> Result<Self, ContextError>;

    /// Writes the struct into the run's fields; fields that hold the same already are left alone.
    ///
    /// # Errors
    /// [`ContextError`] names the field that can't be kept as data.
    fn store(&self, fields: &mut Fields) -> Result<(), ContextError>;
}

/// A field of the context can't be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextError {
    /// There is no such field.
    #[error("the context has no field `{field}`: some step removed it, or the run began without it")]
    Missing {
        /// The field.
        field: String,
    },
    /// The field's value isn't of the field's type, or can't be kept as data.
    #[error("field `{field}` of the context: {reason}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong.
        reason: CodecError,
    },
    /// The context of an untyped pipeline must be a map.
    #[error("a context must be a map from field names to values, but is a {kind}")]
    NotAMap {
        /// What it is.
        kind: &'static str,
    },
}

/// A field's value. For `#[derive(Context)]`.
///
/// # Errors
/// [`ContextError`] when the field is missing or of another type.
pub fn read<T: DeserializeOwned>(fields: &Fields, field: &str) -> Result<T, ContextError> {
    let value = fields.get(field).ok_or_else(|| ContextError::Missing {
        field: field.to_owned(),
    })?;
    from_value(value.clone()).map_err(|reason| invalid(field, reason))
}

/// Writes a field unless it holds the value already. For `#[derive(Context)]`.
///
/// # Errors
/// [`ContextError`] when the value can't be kept as data.
pub fn write<T: Serialize>(fields: &mut Fields, field: &str, value: &T) -> Result<(), ContextError> {
    let value = to_value(value).map_err(|reason| invalid(field, reason))?;
    if fields.get(field) != Some(&value) {
        fields.set(field, value);
    }
    Ok(())
}

fn invalid(field: &str, reason: CodecError) -> ContextError {
    ContextError::Invalid {
        field: field.to_owned(),
        reason,
    }
}

/// No context.
impl Context for () {
    fn merge_rules() -> MergeRules {
        MergeRules::new()
    }

    fn load(_: &Fields) -> Result<Self, ContextError> {
        Ok(())
    }

    fn store(&self, _: &mut Fields) -> Result<(), ContextError> {
        Ok(())
    }
}

/// The context of an untyped pipeline: a map of fields.
impl Context for Value {
    fn merge_rules() -> MergeRules {
        MergeRules::new()
    }

    fn load(fields: &Fields) -> Result<Self, ContextError> {
        Ok(fields.to_value())
    }

    fn store(&self, fields: &mut Fields) -> Result<(), ContextError> {
        let entries = match self {
            Value::Null => &Vec::new(),
            Value::Map(entries) => &**entries,
            other => return Err(ContextError::NotAMap { kind: other.kind() }),
        };
        let gone = |name: &str| !entries.iter().any(|(known, _)| **known == *name);
        let removed: Vec<_> = fields.iter().map(|(name, _)| name.clone()).collect();
        for name in removed.iter().filter(|name| gone(name)) {
            fields.remove(name);
        }
        for (name, value) in entries {
            if fields.get(name) != Some(value) {
                fields.set(name.clone(), value.clone());
            }
        }
        Ok(())
    }
}

/// The context of two pipelines that are put together: pipelines without one go with any.
#[diagnostic::on_unimplemented(
    message = "pipelines with the contexts `{Self}` and `{Other}` can't be put together",
    label = "this pipeline has another context",
    note = "a run has one context: use one struct in all steps, with the fields of both"
)]
pub trait Unify<Other> {
    /// The context of the whole.
    type Output: Context;
}

impl Unify<()> for () {
    type Output = ();
}

impl Unify<Value> for Value {
    type Output = Value;
}

impl Unify<()> for Value {
    type Output = Value;
}

impl Unify<Value> for () {
    type Output = Value;
}
