//! Results by key: at most so many, each for so long.
//!
//! Two twins keep the same contract: [`PlainCache`] drops what was used longest ago, [`OptimizedCache`] drops what is used
//! least, so that one pass over many keys doesn't push out what is asked for all the time, and lets threads read at once.
//! Neither reads a clock: the time is handed in, in nanoseconds, and never goes back.
//!
//! ```
//! use flujo_core::cache::{CacheKey, OptimizedCache, ResultCache};
//!
//! let cache = OptimizedCache::new(1024);
//! let (key, now, hour) = (CacheKey(7), 0, 3_600_000_000_000);
//! cache.insert(key, "a result", Some(now + hour), now);
//! assert_eq!(cache.get(key, now + 1), Some("a result"));
//! assert_eq!(cache.get(key, now + hour), None);
//! assert_eq!((cache.statistics().hits, cache.statistics().misses), (1, 1));
//! ```

mod flights;
mod frequency;
mod kept;
mod key;
mod optimized;
mod plain;
mod policy;
mod reads;
mod shared;
#[cfg(test)]
mod tests;
mod tier;
#[doc(hidden)]
pub mod traces;

use serde::{Deserialize, Serialize};

pub use flights::{Flights, Turn};
pub use key::KeyBuilder;
pub use optimized::OptimizedCache;
pub use plain::PlainCache;
pub use policy::{CachePolicy, CacheScope, ScopeError, StepIdentity, Uncached};
pub use reads::{Fields, MOST_FIELDS, ReadSet};
pub use shared::{Found, Kept, Landed, StepCache, StepCacheStatistics, Stored, Waiter, Wanted};
pub use tier::{SecondTier, TierEntry, TierError};

use crate::machine::Time;

/// What a result is kept under: a digest of all that it depends on. Equal keys mean equal results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CacheKey(pub u128);

/// A bounded store of results, shared by threads.
pub trait ResultCache<V: Clone + Send + Sync>: Send + Sync {
    /// A copy of the result under `key`, unless it has expired by `now`.
    fn get(&self, key: CacheKey, now: Time) -> Option<V>;

    /// Keeps a result until `expires`, for ever where that is `None`. Another result under the key is replaced. A full
    /// cache lets one go for it, which may be this very one.
    fn insert(&self, key: CacheKey, value: V, expires: Option<Time>, now: Time);

    /// Lets a result go, and gives it.
    fn remove(&self, key: CacheKey) -> Option<V>;

    /// Lets all results go. What was counted stays.
    fn clear(&self);

    /// How many results there are, those that have expired and weren't looked for since included.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many results it keeps at most.
    fn capacity(&self) -> usize;

    /// What happened since it was made. Exact, never sampled.
    fn statistics(&self) -> CacheStatistics;
}

/// What happened in a cache since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheStatistics {
    /// Results found.
    pub hits: u64,
    /// Results looked for and not found, or expired.
    pub misses: u64,
    /// Results handed in.
    pub insertions: u64,
    /// Results let go because there was no room.
    pub evictions: u64,
    /// Results let go because their time was over.
    pub expirations: u64,
}

fn is_over(expires: Option<Time>, now: Time) -> bool {
    expires.is_some_and(|expires| now >= expires)
}
