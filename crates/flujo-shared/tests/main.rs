//! What processes share: caches and rates.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // a test fails by panicking

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
