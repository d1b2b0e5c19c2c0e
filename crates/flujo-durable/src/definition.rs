//! What a pipeline was when a run began, so that a run doesn't go on with another one.

use std::collections::BTreeMap;
use std::sync::Arc;

use flujo_core::plan::Plan;
use serde::{Deserialize, Serialize};

/// What a pipeline was: its fingerprint, and for messages its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    fingerprint: String,
    /// By path, what each part is.
    parts: BTreeMap<String, String>,
}

impl Definition {
    /// What a plan is.
    pub fn of<C>(plan: &Plan<C>) -> Self {
        let parts = plan
            .nodes()
            .map(|(_, node)| (node.path.to_string(), node.kind.name().to_owned()));
        Self {
            fingerprint: plan.fingerprint().to_string(),
            parts: parts.collect(),
        }
    }

    /// The definition as bytes.
    pub fn to_bytes(&self) -> Arc<[u8]> {
        rmp_serde::to_vec_named(self).unwrap_or_default().into()
    }

    /// The definition that was written.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// In what `now` differs from it; nothing, when a run can go on with it.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        if self.fingerprint == now.fingerprint {
            return Vec::new();
        }
        let mut differences = Vec::new();
        for (path, kind) in &self.parts {
            match now.parts.get(path) {
                None => differences.push(format!("`{path}` ({kind}) is gone")),
                Some(other) if other != kind => {
                    differences.push(format!("`{path}` was a {kind} and is a {other}"));
                }
                Some(_) => {}
            }
        }
        let added = now
            .parts
            .iter()
            .filter(|(path, _)| !self.parts.contains_key(*path));
        differences.extend(added.map(|(path, kind)| format!("`{path}` ({kind}) is new")));
        if differences.is_empty() {
            differences.push("the configuration of its steps differs".to_owned());
        }
        differences
    }
}
