//! Second tiers of the cache of results: stores of bytes by key, in a file or on a server.
//!
//! Each keeps bytes for a time and answers with how long they are still good for. What has expired is never given out. Time
//! is the world's, since processes share no other.

mod guarded;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
mod tier;

#[cfg(feature = "redis")]
pub use self::redis::RedisStore;
#[cfg(feature = "sqlite")]
pub use self::sqlite::{SqliteContents, SqliteOptions, SqliteStore};
pub use guarded::{Guarded, Patience, TierStatistics};
pub use store::{ResultStore, StoreError};
pub use tier::Tier;
