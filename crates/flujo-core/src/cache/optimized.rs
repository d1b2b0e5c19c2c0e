//! The optimised twin: readers take a lock of their own thread's and count for themselves.

use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use crossbeam_utils::sync::{ShardedLock, ShardedLockReadGuard, ShardedLockWriteGuard};

use super::kept::{Found, Kept};
use super::{CacheKey, CacheStatistics, ResultCache};
use crate::machine::Time;
use crate::sync::thread_number;

/// Counters for so many threads that don't slow one another down.
const COUNTERS: usize = 16;

/// A cache that lets go what is asked for least, and that threads read without waiting for one another.
#[derive(Debug)]
pub struct OptimizedCache<V> {
    kept: ShardedLock<Kept<V>>,
    asked: Box<[CachePadded<Asked>]>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Asked {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl<V> OptimizedCache<V> {
    /// A cache of at most `capacity` results; 0 keeps none.
    pub fn new(capacity: usize) -> Self {
        Self {
            kept: ShardedLock::new(Kept::new(capacity)),
            asked: (0..COUNTERS).map(|_| CachePadded::default()).collect(),
            capacity,
        }
    }

    fn read(&self) -> ShardedLockReadGuard<'_, Kept<V>> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> ShardedLockWriteGuard<'_, Kept<V>> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn asked(&self) -> &Asked {
        &self.asked[thread_number() % COUNTERS]
    }
}

// What a result does when it goes is done outside of the lock: a statement's guard is gone before its value is.
impl<V: Clone + Send + Sync> ResultCache<V> for OptimizedCache<V> {
    fn get(&self, key: CacheKey, now: Time) -> Option<V> {
        let kept = self.read();
        let expired = match kept.get(key, now) {
            Found::Result(value) => {
                let value = value.clone();
                drop(kept);
                self.asked().hits.fetch_add(1, Ordering::Relaxed);
                return Some(value);
            }
            Found::Expired => true,
            Found::Nothing => false,
        };
        drop(kept);
        self.asked().misses.fetch_add(1, Ordering::Relaxed);
        if expired {
            let gone = self.write().take_expired(key, now);
            drop(gone);
        }
        None
    }

    fn insert(&self, key: CacheKey, value: V, expires: Option<Time>, now: Time) {
        let gone = self.write().insert(key, value, expires, now);
        drop(gone);
    }

    fn remove(&self, key: CacheKey) -> Option<V> {
        self.write().remove(key)
    }

    fn clear(&self) {
        let gone = self.write().clear();
        drop(gone);
    }

    fn len(&self) -> usize {
        self.read().len()
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn statistics(&self) -> CacheStatistics {
        let mut statistics = self.read().statistics();
        for asked in &self.asked {
            statistics.hits += asked.hits.load(Ordering::Relaxed);
            statistics.misses += asked.misses.load(Ordering::Relaxed);
        }
        statistics
    }
}
