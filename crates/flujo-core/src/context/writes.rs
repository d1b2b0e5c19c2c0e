//! What was written to a context since it was forked, to be saved and written again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Context;
use crate::value::{Patch, Value};

/// What was written to a fork of a context: its size grows with that, not with what there is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Writes {
    gone: Vec<Arc<str>>,
    set: Vec<(Arc<str>, Patch)>,
}

impl Context {
    /// What was written to `fork` since it was this context.
    pub fn writes(&self, fork: &Self) -> Writes {
        let mut writes = Writes::default();
        for change in self.fields.diff(&fork.fields) {
            match change {
                imbl::ordmap::DiffItem::Add(name, value) => {
                    writes.set.push((Arc::clone(name), Patch::Whole(value.clone())));
                }
                imbl::ordmap::DiffItem::Update { old, new } => {
                    let patch = Patch::between(old.1, new.1);
                    writes.set.extend(patch.map(|patch| (Arc::clone(new.0), patch)));
                }
                imbl::ordmap::DiffItem::Remove(name, _) => writes.gone.push(Arc::clone(name)),
            }
        }
        writes
    }

    /// A fork of this context with such writes.
    ///
    /// # Errors
    /// What doesn't fit, when they were made to another context.
    pub fn written(&self, writes: Writes) -> Result<Self, String> {
        let mut fork = self.fork();
        for name in &writes.gone {
            fork.fields.remove(name);
        }
        for (name, patch) in writes.set {
            let old = fork.fields.get(&name).unwrap_or(&Value::Null);
            let new = patch
                .apply(old)
                .map_err(|reason| format!("field `{name}`: {reason}"))?;
            fork.fields.insert(name, new);
        }
        Ok(fork)
    }
}
