//! The plain twin: one lock around a map that knows what was used longest ago.

use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::{CacheKey, CacheStatistics, ResultCache, is_over};
use crate::machine::Time;

/// A cache that lets go what was used longest ago.
#[derive(Debug)]
pub struct PlainCache<V> {
    kept: Mutex<Kept<V>>,
    capacity: usize,
}

#[derive(Debug)]
struct Kept<V> {
    /// Without room for any there is none.
    results: Option<LruCache<CacheKey, (V, Option<Time>)>>,
    statistics: CacheStatistics,
}

/// Room for so many, which is taken as it is needed: a capacity may be larger than any memory.
pub(super) fn least_recently_used<K: Hash + Eq, V>(capacity: NonZeroUsize) -> LruCache<K, V> {
    let mut empty = LruCache::unbounded();
    empty.resize(capacity);
    empty
}

impl<V> PlainCache<V> {
    /// A cache of at most `capacity` results; 0 keeps none.
    pub fn new(capacity: usize) -> Self {
        let kept = Kept {
            results: NonZeroUsize::new(capacity).map(least_recently_used),
            statistics: CacheStatistics::default(),
        };
        Self {
            kept: Mutex::new(kept),
            capacity,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept<V>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone + Send + Sync> ResultCache<V> for PlainCache<V> {
    fn get(&self, key: CacheKey, now: Time) -> Option<V> {
        let mut kept = self.lock();
        let Kept { results, statistics } = &mut *kept;
        let Some((value, expires)) = results.as_mut().and_then(|results| results.get(&key)) else {
            statistics.misses += 1;
            return None;
        };
        if !is_over(*expires, now) {
            statistics.hits += 1;
            return Some(value.clone());
        }
        statistics.misses += 1;
        statistics.expirations += 1;
        let old = results.as_mut().and_then(|results| results.pop(&key));
        drop(kept);
        drop(old); // what a result does when it goes is done outside of the lock
        None
    }

    fn insert(&self, key: CacheKey, value: V, expires: Option<Time>, _now: Time) {
        let mut kept = self.lock();
        let Kept { results, statistics } = &mut *kept;
        statistics.insertions += 1;
        let gone = match results {
            Some(results) => results.push(key, (value, expires)),
            None => Some((key, (value, expires))),
        };
        let replaced = self.capacity > 0 && gone.as_ref().is_some_and(|(gone, _)| *gone == key);
        statistics.evictions += u64::from(gone.is_some() && !replaced);
        drop(kept);
        drop(gone);
    }

    fn remove(&self, key: CacheKey) -> Option<V> {
        let old = self.lock().results.as_mut()?.pop(&key);
        old.map(|(value, _)| value)
    }

    fn clear(&self) {
        let new = NonZeroUsize::new(self.capacity).map(least_recently_used);
        let old = std::mem::replace(&mut self.lock().results, new);
        drop(old);
    }

    fn len(&self) -> usize {
        self.lock().results.as_ref().map_or(0, LruCache::len)
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn statistics(&self) -> CacheStatistics {
        self.lock().statistics
    }
}
