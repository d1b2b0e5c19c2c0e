//! What is said where branches wrote what cannot be combined.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::{Merge, Write};
use crate::value::Value;

/// Branches wrote what cannot be combined.
#[derive(Debug, Clone, PartialEq)]
pub struct MergeConflict {
    /// Where, as a path into the context: `report.items[0]`.
    pub path: String,
    /// The branches that wrote it, in declared order, with what they wrote; `None` for one that removed it.
    pub writes: Vec<(Arc<str>, Option<Value>)>,
    /// Why the writes cannot be combined.
    pub reason: Cow<'static, str>,
}

impl fmt::Display for MergeConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "branches cannot be merged at `{}`: ", self.path)?;
        for (place, (branch, value)) in self.writes.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            match value {
                Some(value) => write!(f, "{comma}`{branch}` wrote {}", Excerpt(value))?,
                None => write!(f, "{comma}`{branch}` removed it")?,
            }
        }
        write!(
            f,
            "; {}. Give the field a merge rule, choose another merge strategy, or let one branch write it",
            self.reason
        )
    }
}

impl std::error::Error for MergeConflict {}

/// A value in at most some sixty characters.
struct Excerpt<'a>(&'a Value);

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:?}", self.0);
        match text.char_indices().nth(60) {
            Some((end, _)) => write!(f, "{}…", &text[..end]),
            None => f.write_str(&text),
        }
    }
}

impl Merge<'_> {
    pub(super) fn conflict(
        &self,
        path: &str,
        writes: &[Write<'_>],
        reason: impl Into<Cow<'static, str>>,
    ) -> MergeConflict {
        let name = |branch: usize| self.branches.get(branch).map(|(name, _)| Arc::clone(name));
        MergeConflict {
            path: path.to_owned(),
            writes: writes
                .iter()
                .map(|(branch, value)| (name(*branch).unwrap_or_default(), value.cloned()))
                .collect(),
            reason: reason.into(),
        }
    }
}
