//! Reading and writing places inside fields by dotted path, as `sink_to` names them.

use std::sync::Arc;

use super::Context;
use crate::value::Value;

/// Why a value cannot be written to a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot write to `{path}` in the context: {kind}")]
pub struct PathError {
    /// The whole path.
    pub path: String,
    /// What is wrong with it.
    pub kind: PathErrorKind,
}

/// What is wrong with a path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathErrorKind {
    /// It has an empty part.
    #[error("it has an empty part: name a field, as in `report.text`")]
    EmptyPart,
    /// Something on the way is not a map.
    #[error("`{part}` is a {kind}, not a map: write to a path that goes through maps only")]
    NotAMap {
        /// The path up to there.
        part: String,
        /// What is there.
        kind: &'static str,
    },
}

impl Context {
    /// The value at a dotted path, such as `report.title`.
    pub fn get_path(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let field = self.get(parts.next()?)?;
        parts.try_fold(field, |value, part| value.get(part))
    }

    /// Writes the value at a dotted path; maps that are missing on the way are made.
    ///
    /// # Errors
    /// [`PathError`] when a part is empty or something on the way is neither missing, null nor a map. Nothing is
    /// written then.
    pub fn set_path(&mut self, path: &str, value: Value) -> Result<(), PathError> {
        let parts: Vec<&str> = path.split('.').collect();
        let error = |kind| PathError {
            path: path.to_owned(),
            kind,
        };
        if parts.iter().any(|part| part.is_empty()) {
            return Err(error(PathErrorKind::EmptyPart));
        }
        let mut whole = self.get(parts[0]).cloned().unwrap_or_default();
        let mut place = &mut whole;
        for (depth, part) in parts.iter().enumerate().skip(1) {
            if matches!(place, Value::Null) {
                *place = Value::Map(Arc::default());
            }
            let kind = place.kind();
            let Value::Map(entries) = place else {
                let part = parts[..depth].join(".");
                return Err(error(PathErrorKind::NotAMap { part, kind }));
            };
            let entries = Arc::make_mut(entries);
            let index = if let Some(index) = entries.iter().position(|(name, _)| **name == **part) {
                index
            } else {
                entries.push((Arc::from(*part), Value::Null));
                entries.len() - 1
            };
            place = &mut entries[index].1;
        }
        *place = value;
        self.set(parts[0], whole);
        Ok(())
    }
}
