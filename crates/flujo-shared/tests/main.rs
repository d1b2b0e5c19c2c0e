//! What processes share: caches and rates.

#[cfg(feature = "redis")]
mod degraded;
mod guarded;
#[cfg(feature = "redis")]
mod rates;
#[cfg(feature = "redis")]
mod redis;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "redis", feature = "sqlite"))]
mod support;
