//! A second tier behind the results in memory: slower, larger, shared by processes. Here is only what one looks like.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::CacheKey;
use crate::agent::BoxFuture;

/// A store of results beyond the process: a file, a server.
///
/// Its futures are polled on a tokio runtime, `SQLite` and Redis alike: a tier whose work blocks hands that work to
/// `tokio::task::spawn_blocking` itself. Dropping a future gives the answer up, and must leave the store whole. A tier
/// knows bytes only; it need not check them, since who asked reads them and takes what can't be read for nothing.
///
/// Asking is bounded and paused by its user after errors, so a tier neither retries nor waits for a dead server. What it
/// gives must be what was put under the very key, whole, and not past its time.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
/// use flujo_core::agent::BoxFuture;
/// use flujo_core::cache::{CacheKey, SecondTier, TierEntry, TierError};
///
/// #[derive(Default)]
/// struct Shelf(Mutex<HashMap<CacheKey, Arc<[u8]>>>);
///
/// impl SecondTier for Shelf {
///     fn name(&self) -> &'static str {
///         "shelf"
///     }
///
///     fn get(&self, key: CacheKey) -> BoxFuture<'_, Result<Option<TierEntry>, TierError>> {
///         let shelf = self.0.lock().map_err(|_| TierError::new("the shelf is broken"));
///         let found = shelf.map(|shelf| shelf.get(&key).map(|bytes| TierEntry { bytes: Arc::clone(bytes), expires_in: None }));
///         Box::pin(async move { found })
///     }
///
///     fn put(&self, key: CacheKey, bytes: Arc<[u8]>, _ttl: Option<Duration>) -> BoxFuture<'_, Result<(), TierError>> {
///         let shelf = self.0.lock().map_err(|_| TierError::new("the shelf is broken"));
///         let put = shelf.map(|mut shelf| drop(shelf.insert(key, bytes)));
///         Box::pin(async move { put })
///     }
/// }
/// ```
pub trait SecondTier: Send + Sync + 'static {
    /// What it is called in messages and statistics: `sqlite`, `redis`.
    fn name(&self) -> &'static str;

    /// What is kept under a key; `None` when there is nothing, or its time is over.
    fn get(&self, key: CacheKey) -> BoxFuture<'_, Result<Option<TierEntry>, TierError>>;

    /// Keeps bytes for `ttl` from now, for ever where that is `None`. What was under the key before is replaced, for
    /// readers in one step.
    fn put(
        &self,
        key: CacheKey,
        bytes: Arc<[u8]>,
        ttl: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), TierError>>;
}

/// What a second tier found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierEntry {
    /// What was put.
    pub bytes: Arc<[u8]>,
    /// How long it is still good; `None` for ever.
    pub expires_in: Option<Duration>,
}

/// Why a second tier could not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TierError {
    /// What failed, where, why and what to do about it, without secrets: it is shown in alerts.
    pub message: String,
}

impl TierError {
    /// An error with its text.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl fmt::Display for CacheKey {
    /// 32 hexadecimal digits: how tiers name entries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}
