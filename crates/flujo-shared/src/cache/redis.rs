//! Results on a Redis server, for the processes of many machines.
//!
//! The server lets results expire, and lets others go as its `maxmemory-policy` says.

use std::time::Duration;

use flujo_core::cache::{CacheKey, TierEntry};
use redis::cmd;

use super::{ResultStore, StoreError};
use crate::server::{RedisServer, ServerError, ServerOptions};

/// What keys begin with, unless another prefix is asked for.
const PREFIX: &str = "flujo:result:";
/// So many keys are looked at and let go at a time.
const BATCH: usize = 512;

/// Results on a Redis server.
#[derive(Debug)]
pub struct RedisStore {
    server: RedisServer,
    prefix: String,
}

impl RedisStore {
    /// A store on the server at an address. Connects when first asked, so that a server may be away at first.
    pub fn new(address: &str, options: ServerOptions) -> Result<Self, ServerError> {
        Ok(Self {
            server: RedisServer::new(address, options)?,
            prefix: PREFIX.to_owned(),
        })
    }

    /// Keys begin with this, so that applications on one server keep apart.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// The server's address, without credentials.
    pub fn address(&self) -> &str {
        self.server.address()
    }

    fn key(&self, key: CacheKey) -> String {
        format!("{}{:032x}", self.prefix, key.0)
    }

    /// All keys of ours, as a pattern in which the prefix stands for itself.
    fn pattern(&self) -> String {
        let mut pattern = String::with_capacity(self.prefix.len() + 1);
        for letter in self.prefix.chars() {
            if matches!(letter, '*' | '?' | '[' | ']' | '\\' | '^') {
                pattern.push('\\');
            }
            pattern.push(letter);
        }
        pattern.push('*');
        pattern
    }
}

impl ResultStore for RedisStore {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn get(&self, key: CacheKey) -> Result<Option<TierEntry>, StoreError> {
        let key = self.key(key);
        let mut both = redis::pipe();
        both.cmd("GET").arg(&key).cmd("PTTL").arg(&key);
        let (bytes, left): (Option<Vec<u8>>, i64) = self.server.ask(|connection| both.query(connection))?;
        // -1: for ever; -2: gone between the two questions.
        Ok(match (bytes, left) {
            (Some(bytes), -1) => Some(TierEntry {
                bytes: bytes.into(),
                expires_in: None,
            }),
            (Some(bytes), 1..) => Some(TierEntry {
                bytes: bytes.into(),
                expires_in: Some(Duration::from_millis(left.unsigned_abs())),
            }),
            _ => None,
        })
    }

    fn put(&self, key: CacheKey, bytes: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        let milliseconds = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        if milliseconds == Some(0) {
            return self.remove(key).map(drop);
        }
        let mut set = cmd("SET");
        set.arg(self.key(key)).arg(bytes);
        if let Some(milliseconds) = milliseconds {
            // As far off as Redis counts.
            set.arg("PX").arg(milliseconds.min(i64::MAX.unsigned_abs() / 4));
        }
        Ok(self.server.ask(|connection| set.exec(connection))?)
    }

    fn remove(&self, key: CacheKey) -> Result<bool, StoreError> {
        let mut unlink = cmd("UNLINK");
        unlink.arg(self.key(key));
        Ok(self.server.ask(|connection| unlink.query::<u64>(connection))? > 0)
    }

    fn clear(&self) -> Result<(), StoreError> {
        let pattern = self.pattern();
        let mut cursor = 0_u64;
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(BATCH);
            let keys: Vec<Vec<u8>>;
            (cursor, keys) = self.server.ask(|connection| scan.query(connection))?;
            if !keys.is_empty() {
                let mut unlink = cmd("UNLINK");
                unlink.arg(keys);
                self.server.ask(|connection| unlink.exec(connection))?;
            }
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

impl From<ServerError> for StoreError {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Unreachable { server, reason } => Self::Unreachable {
                store: server,
                reason,
            },
            ServerError::Refused { server, reason } => Self::Refused {
                store: server,
                reason,
            },
            error @ ServerError::Address { .. } => Self::Refused {
                store: "the Redis server".to_owned(),
                reason: error.to_string(),
            },
        }
    }
}
