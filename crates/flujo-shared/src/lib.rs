//! What several processes share: results of steps in a `SQLite` file or on a Redis server, behind a process's own cache; and
//! rate limits, counted by a Redis server.
//!
//! A second tier is asked when the first one, in memory, has nothing. It may block and it may fail: whoever asks it does so
//! off the threads that run steps, and goes on without it. Nothing here decides what is kept, or under which key.

pub mod cache;
pub mod process;
#[cfg(feature = "redis")]
pub mod rates;
#[cfg(feature = "redis")]
pub mod server;
