//! A store as the second tier of a cache.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::agent::BoxFuture;
use flujo_core::cache::{CacheKey, SecondTier, TierEntry, TierError};

use super::{ResultStore, StoreError};

/// A store as the second tier of a cache: each call on a thread for what blocks.
#[derive(Debug)]
pub struct Tier<S> {
    store: Arc<S>,
}

impl<S: ResultStore> Tier<S> {
    /// A store as a tier.
    pub fn new(store: impl Into<Arc<S>>) -> Self {
        Self { store: store.into() }
    }

    /// The store.
    pub fn store(&self) -> &Arc<S> {
        &self.store
    }

    /// A call that nobody waits for any more still ends: the store stays whole.
    async fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&S) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, TierError> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || ask(&store)).await {
            Ok(answer) => answer.map_err(TierError::from),
            Err(error) => Err(TierError::new(format!(
                "the call of the cache's second tier {} didn't end: {error}",
                self.store.name()
            ))),
        }
    }
}

impl<S: ResultStore> SecondTier for Tier<S> {
    fn name(&self) -> &'static str {
        self.store.name()
    }

    fn get(&self, key: CacheKey) -> BoxFuture<'_, Result<Option<TierEntry>, TierError>> {
        Box::pin(self.ask(move |store| store.get(key)))
    }

    fn put(
        &self,
        key: CacheKey,
        bytes: Arc<[u8]>,
        ttl: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), TierError>> {
        Box::pin(self.ask(move |store| store.put(key, &bytes, ttl)))
    }
}
