//! What a pipeline is, as its runs are stored with it: made once, and looked up again.

use std::sync::{Arc, Mutex, PoisonError};

use flujo_core::plan::{Fingerprint, Plan};
use flujo_durable::{Definition, DurableError, load};

use super::Keeping;

/// What a pipeline is, made once for all runs of one plan.
#[derive(Default)]
pub struct Defined(Mutex<Option<(Fingerprint, Known)>>);

/// A definition, and the same as bytes.
pub(super) type Known = Arc<(Definition, Arc<[u8]>)>;

impl Keeping {
    /// The same for another version of the pipeline.
    #[must_use]
    pub fn of_version(&self, version: Arc<str>) -> Self {
        Self {
            version: Some(version),
            defined: Arc::default(),
            ..self.clone()
        }
    }

    /// Which version of the pipeline a run goes on with; `None` where it wasn't said, or there is no such run.
    ///
    /// # Errors
    /// [`DurableError::Corrupt`], or the store fails.
    pub async fn version_of(&self, run: Arc<str>) -> Result<Option<Arc<str>>, DurableError> {
        let store = self.store();
        if store.info(Arc::clone(&run)).await?.is_none() {
            return Ok(None);
        }
        let definition = Definition::of_stored(&load(Arc::clone(store), run).await?)?;
        Ok(definition.version().map(Arc::from))
    }

    pub(super) fn definition<C>(&self, plan: &Plan<C>) -> Known {
        let fingerprint = plan.fingerprint();
        let mut last = self.defined.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, known)) = &*last
            && *of == fingerprint
        {
            return Arc::clone(known);
        }
        let definition = Definition::of(plan);
        let definition = match &self.source {
            Some(source) => definition.from_source(&**source),
            None => definition,
        };
        let definition = match &self.version {
            Some(version) => definition.of_version(&**version),
            None => definition,
        };
        let definition = definition.within(self.given);
        let bytes = definition.to_bytes();
        let known = Arc::new((definition, bytes));
        *last = Some((fingerprint, Arc::clone(&known)));
        known
    }
}
