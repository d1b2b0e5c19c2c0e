//! Results in one `SQLite` file, for the processes of one machine.
//!
//! Readers wait for nobody (write-ahead log), writers for one another. The file stays within a size: what has expired goes
//! first, then what was written longest ago.

mod file;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flujo_core::cache::{CacheKey, TierEntry};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, named_params};

use super::{ResultStore, StoreError};
use crate::process::PerProcess;

/// A write lets go so many that have expired, at most, so that no write takes long.
const SWEPT: u32 = 32;
/// What a result takes beside its bytes, about.
const OVERHEAD: u64 = 64;

/// How a file of results is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteOptions {
    /// How many bytes of results are kept, at most. The file is about so large; pages that become free are used again.
    pub max_bytes: u64,
    /// How long a call waits for other processes' writes.
    pub busy_timeout: Duration,
}

impl Default for SqliteOptions {
    /// 256 MB; 5 seconds.
    fn default() -> Self {
        Self {
            max_bytes: 256_000_000,
            busy_timeout: Duration::from_secs(5),
        }
    }
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqliteContents {
    /// Results, expired ones that nothing has swept yet included.
    pub results: u64,
    /// Their bytes, with what each takes beside them.
    pub bytes: u64,
}

type Clock = Box<dyn Fn() -> SystemTime + Send + Sync>;

/// Results in one file, written by any number of processes.
pub struct SqliteStore {
    path: PathBuf,
    options: SqliteOptions,
    connection: PerProcess<Mutex<Option<Connection>>>,
    /// Damage that was met: the file isn't touched again.
    damage: OnceLock<StoreError>,
    clock: Clock,
}

impl SqliteStore {
    /// Opens a file, or makes it, readable by its owner alone.
    pub fn open(path: impl Into<PathBuf>, options: SqliteOptions) -> Result<Self, StoreError> {
        Self::with_clock(path, options, SystemTime::now)
    }

    /// The same with a clock of one's own.
    pub fn with_clock(
        path: impl Into<PathBuf>,
        options: SqliteOptions,
        clock: impl Fn() -> SystemTime + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let store = Self {
            path: path.into(),
            options,
            connection: PerProcess::default(),
            damage: OnceLock::new(),
            clock: Box::new(clock),
        };
        store.with(|_| Ok(()))?;
        Ok(store)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file holds.
    pub fn contents(&self) -> Result<SqliteContents, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached("SELECT results, bytes FROM total")?
                .query_row((), |row| {
                    Ok(SqliteContents {
                        results: row.get(0)?,
                        bytes: row.get(1)?,
                    })
                })
        })
    }

    /// Does something with this process's connection.
    fn with<T>(&self, act: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        if let Some(damage) = self.damage.get() {
            return Err(damage.clone());
        }
        let mut connection = self.lock();
        let opened = match &mut *connection {
            Some(opened) => opened,
            none => none.insert(file::open(&self.path, self.options.busy_timeout)?),
        };
        act(opened).map_err(|error| {
            let error = file::told(&self.path, self.options.busy_timeout, &error);
            if matches!(error, StoreError::Corrupt { .. }) {
                *connection = None;
                let _ = self.damage.set(error.clone());
            }
            error
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection
            .get()
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since 1970.
    fn now(&self) -> i64 {
        let since = (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        milliseconds(since)
    }
}

impl ResultStore for SqliteStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn get(&self, key: CacheKey) -> Result<Option<TierEntry>, StoreError> {
        let now = self.now();
        let found: Option<(Vec<u8>, i64, Option<i64>)> = self.with(|connection| {
            connection
                .prepare_cached("SELECT value, written, expires FROM results WHERE key = ?1")?
                .query_row((key_bytes(key),), |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()
        })?;
        Ok(found.and_then(|(bytes, written, expires)| {
            // A clock that was put back makes nothing last longer than it was to.
            let left = expires.map(|expires| expires - now.max(written));
            if left.is_some_and(|left| left <= 0) {
                return None;
            }
            let left = left.map(|left| Duration::from_millis(left.unsigned_abs()));
            Some(TierEntry {
                bytes: bytes.into(),
                expires_in: left,
            })
        }))
    }

    fn put(&self, key: CacheKey, bytes: &[u8], ttl: Option<Duration>) -> Result<(), StoreError> {
        let size = u64::try_from(bytes.len())
            .unwrap_or(u64::MAX)
            .saturating_add(OVERHEAD);
        if size > self.options.max_bytes {
            let max = self.options.max_bytes;
            return Err(StoreError::Full {
                store: file::named(&self.path),
                reason: format!("one result takes {size} bytes of {max}; raise max_bytes"),
            });
        }
        let now = self.now();
        let expires = ttl.map(|ttl| now.saturating_add(milliseconds(ttl)));
        self.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction
                .prepare_cached(
                    "DELETE FROM results WHERE id IN (SELECT id FROM results WHERE expires <= ?1 LIMIT ?2)",
                )?
                .execute((now, SWEPT))?;
            transaction
                .prepare_cached("DELETE FROM results WHERE key = ?1")?
                .execute((key_bytes(key),))?;
            make_room(&transaction, self.options.max_bytes - size)?;
            transaction
                .prepare_cached(
                    "INSERT INTO results (key, value, size, written, expires) \
                     VALUES (:key, :value, :size, :written, :expires)",
                )?
                .execute(named_params! {
                    ":key": key_bytes(key), ":value": bytes, ":size": size,
                    ":written": now, ":expires": expires,
                })?;
            transaction.commit()
        })
    }

    fn remove(&self, key: CacheKey) -> Result<bool, StoreError> {
        self.with(|connection| {
            connection
                .prepare_cached("DELETE FROM results WHERE key = ?1")?
                .execute((key_bytes(key),))
                .map(|removed| removed > 0)
        })
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.with(|connection| connection.execute_batch("DELETE FROM results"))
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("SqliteStore")
            .field("path", &self.path)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// Lets go what was written longest ago until no more than `most` bytes are kept.
fn make_room(connection: &Connection, most: u64) -> rusqlite::Result<()> {
    let mut total = connection.prepare_cached("SELECT bytes FROM total")?;
    let mut oldest = connection
        .prepare_cached("DELETE FROM results WHERE id = (SELECT id FROM results ORDER BY id LIMIT 1)")?;
    while total.query_row((), |row| row.get::<_, u64>(0))? > most {
        if oldest.execute(())? == 0 {
            break;
        }
    }
    Ok(())
}

fn key_bytes(key: CacheKey) -> [u8; 16] {
    key.0.to_be_bytes()
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
