//! A store of bytes by key whose calls block.

use std::time::Duration;

use flujo_core::cache::{CacheKey, TierEntry, TierError};

/// A store of results outside the process. Its calls block; one that fails changes nothing.
pub trait ResultStore: Send + Sync + 'static {
    /// What it is called in messages and statistics.
    fn name(&self) -> &'static str;

    /// The bytes under a key, unless they have expired.
    fn get(&self, key: CacheKey) -> Result<Option<TierEntry>, StoreError>;

    /// Keeps bytes for `ttl`, for ever where that is `None`. Others under the key are replaced, for readers in one step.
    fn put(&self, key: CacheKey, bytes: &[u8], ttl: Option<Duration>) -> Result<(), StoreError>;

    /// Lets the bytes under a key go; tells whether there were any.
    fn remove(&self, key: CacheKey) -> Result<bool, StoreError>;

    /// Lets all go.
    fn clear(&self) -> Result<(), StoreError>;
}

/// Why a store didn't answer. No text holds a name or password from an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It can't be reached, or didn't answer in time.
    #[error("{store} can't be reached: {reason}")]
    Unreachable {
        /// Which.
        store: String,
        /// Why.
        reason: String,
    },
    /// It was reached and refused, or its address makes no sense.
    #[error("{store} refused: {reason}")]
    Refused {
        /// Which.
        store: String,
        /// Why.
        reason: String,
    },
    /// Others are writing all the time.
    #[error(
        "{store} is busy: other processes were writing for longer than {waited:?}; let fewer share it, or wait longer"
    )]
    Busy {
        /// Which.
        store: String,
        /// How long the call waited.
        waited: Duration,
    },
    /// There is no room.
    #[error("{store} has no room: {reason}")]
    Full {
        /// Which.
        store: String,
        /// Why.
        reason: String,
    },
    /// It isn't what a cache of results wrote, or is damaged. It is left as it is.
    #[error("{store} is no cache of results: {reason}. It is left as it is; move it away, or name another")]
    Corrupt {
        /// Which.
        store: String,
        /// Why.
        reason: String,
    },
}

impl From<StoreError> for TierError {
    fn from(error: StoreError) -> Self {
        Self::new(error.to_string())
    }
}
