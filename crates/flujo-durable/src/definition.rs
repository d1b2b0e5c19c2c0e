//! What a pipeline was when a run began: so that a run doesn't go on with another one, and so that it can be read by whoever
//! doesn't have its code.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use flujo_core::plan::Plan;
use flujo_core::store::StoredRun;
use flujo_core::usage::UsageLimits;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::snapshot::definition_of;
use crate::{DurableError, RawValue, Uncalled};

/// The version of the form in which plans are written; the first byte of one.
const FORMAT: u8 = 1;

/// What a pipeline was: its fingerprint, its plan without what is called, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    fingerprint: String,
    /// By path, what each part is: in definitions that have no plan.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    parts: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<Bytes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limits: Option<UsageLimits>,
}

/// Bytes, written as such.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bytes(Arc<[u8]>);

impl Definition {
    /// What a plan is.
    pub fn of<C>(plan: &Plan<C>) -> Self {
        let mut bytes = vec![FORMAT];
        // A vector takes everything, and a plan without callables holds nothing that can't be written.
        let written = rmp_serde::encode::write(&mut bytes, &plan.map(|_| Uncalled {})).is_ok();
        Self {
            fingerprint: plan.fingerprint().to_string(),
            parts: BTreeMap::new(),
            plan: written.then(|| Bytes(bytes.into())),
            source: None,
            version: None,
            limits: None,
        }
    }

    /// The same with where the pipeline came from: the file of a blueprint.
    #[must_use]
    pub fn from_source(mut self, source: impl Into<String>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Where the pipeline came from, if it came from a file.
    pub fn source(&self) -> Option<&str> {
        self.source.as_deref()
    }

    /// The same with which version of the pipeline it is, where there are several of one name.
    #[must_use]
    pub fn of_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Which version of the pipeline it is, if it was said.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The same with the limits that came with the run, beside those of its pipeline.
    #[must_use]
    pub fn within(mut self, limits: UsageLimits) -> Self {
        self.limits = Some(limits).filter(|limits| !limits.is_unlimited());
        self
    }

    /// The limits that came with the run, beside those of its pipeline.
    pub fn limits(&self) -> UsageLimits {
        self.limits.unwrap_or_default()
    }

    /// A digest of structure, names and configuration; see [`Plan::fingerprint`].
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The plan, with [`Uncalled`] in the places of callables.
    ///
    /// # Errors
    /// Why it can't be read: it was not written, or in a form of a later version.
    pub fn plan(&self) -> Result<Plan<Uncalled>, String> {
        let Some(Bytes(bytes)) = &self.plan else {
            return Err("the run was stored by an earlier version, which wrote no plan".to_owned());
        };
        match bytes.split_first() {
            Some((&FORMAT, body)) => rmp_serde::from_slice(body).map_err(|error| error.to_string()),
            Some((version, _)) => Err(format!(
                "its plan has the version {version}; this program knows {FORMAT}"
            )),
            None => Err("its plan is empty".to_owned()),
        }
    }

    /// By path, what each part is.
    fn parts(&self) -> BTreeMap<String, String> {
        match self.plan() {
            Ok(plan) => {
                let parts = plan.nodes();
                let part = |(_, node): (_, &flujo_core::plan::Node<Uncalled>)| {
                    (node.path.to_string(), node.kind.name().to_owned())
                };
                parts.map(part).collect()
            }
            Err(_) => self.parts.clone(),
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

    /// What the pipeline was that a stored run went on with last.
    ///
    /// # Errors
    /// [`DurableError::Corrupt`].
    pub fn of_stored(stored: &StoredRun) -> Result<Self, DurableError> {
        let written = definition_of(&stored.snapshot).unwrap_or(&stored.definition);
        Self::from_bytes(written).map_err(|reason| DurableError::Corrupt {
            run: Arc::clone(&stored.info.id),
            location: "the definition".to_owned(),
            reason,
        })
    }

    /// What stands with a stored run's snapshot because its pipeline had changed when it went on:
    /// [`LogPlace::definition`](crate::LogPlace::definition).
    pub fn redefined(stored: &StoredRun) -> Option<Arc<[u8]>> {
        definition_of(&stored.snapshot).map(Arc::from)
    }

    /// In what `now` differs from it; nothing, when a run can go on with it.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        if self.fingerprint == now.fingerprint {
            return Vec::new();
        }
        let mut differences = Vec::new();
        let (before, now) = (self.parts(), now.parts());
        for (path, kind) in &before {
            match now.get(path) {
                None => differences.push(format!("`{path}` ({kind}) is gone")),
                Some(other) if other != kind => {
                    differences.push(format!("`{path}` was a {kind} and is a {other}"));
                }
                Some(_) => {}
            }
        }
        let added = now.iter().filter(|(path, _)| !before.contains_key(*path));
        differences.extend(added.map(|(path, kind)| format!("`{path}` ({kind}) is new")));
        if differences.is_empty() {
            differences.push("the configuration of its steps differs".to_owned());
        }
        differences
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match RawValue::deserialize(deserializer)? {
            RawValue::Bytes(bytes) => Ok(Self(bytes)),
            RawValue::Other(_) => Err(D::Error::custom("a plan is bytes")),
        }
    }
}
