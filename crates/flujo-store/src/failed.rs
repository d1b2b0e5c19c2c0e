//! Claims whose writes fail: when one write of a claim has failed, those behind it fail too.

use std::collections::HashMap;
use std::sync::Arc;

use flujo_core::store::StoreError;

/// By run: the token, and why.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failed(HashMap<Arc<str>, (u64, StoreError)>);

impl Failed {
    /// Why a write with this token fails, if one before it has.
    pub(crate) fn passes(&self, run: Option<&Arc<str>>, token: Option<u64>) -> Result<(), StoreError> {
        match run.and_then(|run| self.0.get(run)) {
            Some((failed, error)) if token == Some(*failed) => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// Notes why a write failed, unless it would fail again by itself.
    pub(crate) fn note(&mut self, run: Option<&Arc<str>>, token: Option<u64>, error: &StoreError) {
        let by_itself = matches!(error, StoreError::Fenced { .. } | StoreError::UnknownRun { .. });
        if let (Some(run), Some(token), false) = (run, token, by_itself) {
            let first = self.0.get(run).is_none_or(|(failed, _)| *failed != token);
            if first {
                self.0.insert(run.clone(), (token, error.clone()));
            }
        }
    }
}
