//! The second tier of a cache, asked on tokio so that no event loop waits for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flujo_core::cache::{CacheKey, TierEntry};
use flujo_shared::cache::{Guarded, TierStatistics};
use pyo3::prelude::*;
use tokio::task::JoinHandle;

use crate::agents::{Reply, runtime};

/// So many writes may be under way; others aren't made.
const WRITES: usize = 256;

/// A second tier.
pub(crate) struct Second {
    tier: Arc<Guarded>,
    writes: Mutex<Vec<JoinHandle<()>>>,
    /// Results that couldn't be stored, or were stored and can't be read, by reason.
    unstored: Mutex<std::collections::BTreeMap<&'static str, u64>>,
}

/// What was found under the first of several keys that has something.
pub(crate) type Answer = Arc<Mutex<Option<(usize, TierEntry)>>>;

impl Second {
    pub(crate) fn new(tier: Guarded) -> Self {
        Self {
            tier: Arc::new(tier),
            writes: Mutex::default(),
            unstored: Mutex::default(),
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.tier.is_ready()
    }

    /// What the tier said when it failed, until it answers again.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.tier.trouble()
    }

    pub(crate) fn name(&self) -> &'static str {
        self.tier.name()
    }

    /// Asks for keys in turn; the future is done when the answer is there.
    pub(crate) fn ask<'py>(
        &self,
        event_loop: &Bound<'py, PyAny>,
        keys: Vec<CacheKey>,
    ) -> PyResult<(Bound<'py, PyAny>, Answer)> {
        let py = event_loop.py();
        let (future, reply) = Reply::new(event_loop)?;
        let (tier, answer) = (Arc::clone(&self.tier), Answer::default());
        let given = Arc::clone(&answer);
        runtime(py)?.spawn(async move {
            for (place, key) in keys.into_iter().enumerate() {
                if let Some(entry) = tier.get(key).await {
                    *given.lock().unwrap_or_else(PoisonError::into_inner) = Some((place, entry));
                    break;
                }
            }
            reply.send(|py| Ok(py.None().into_bound(py)));
        });
        Ok((future.into_bound(py), answer))
    }

    /// Stores bytes while the caller goes on.
    pub(crate) fn store(
        &self,
        py: Python<'_>,
        key: CacheKey,
        bytes: Arc<[u8]>,
        ttl: Option<Duration>,
    ) -> PyResult<()> {
        if !self.is_ready() {
            return Ok(());
        }
        let runtime = runtime(py)?;
        let mut writes = self.writes();
        writes.retain(|write| !write.is_finished());
        if writes.len() >= WRITES {
            drop(writes);
            self.count("too_many_writes");
            return Ok(());
        }
        let tier = Arc::clone(&self.tier);
        writes.push(runtime.spawn(async move {
            tier.put(key, bytes, ttl).await;
        }));
        Ok(())
    }

    /// A future that is done when what was to be stored until now has been, or has failed.
    pub(crate) fn stored(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let (future, reply) = Reply::new(event_loop)?;
        let writes = std::mem::take(&mut *self.writes());
        runtime(event_loop.py())?.spawn(async move {
            for write in writes {
                // A write that failed is counted by the tier.
                let _ = write.await;
            }
            reply.send(|py| Ok(py.None().into_bound(py)));
        });
        Ok(future)
    }

    /// Counts a result that isn't stored.
    pub(crate) fn count(&self, reason: &'static str) {
        let mut unstored = self.unstored.lock().unwrap_or_else(PoisonError::into_inner);
        *unstored.entry(reason).or_default() += 1;
    }

    pub(crate) fn statistics(&self) -> (TierStatistics, Vec<(&'static str, u64)>) {
        let unstored = self.unstored.lock().unwrap_or_else(PoisonError::into_inner);
        let unstored = unstored.iter().map(|(reason, count)| (*reason, *count)).collect();
        (self.tier.statistics(), unstored)
    }

    fn writes(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
