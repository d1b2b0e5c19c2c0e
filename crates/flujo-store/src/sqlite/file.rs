//! The file: how it is made, told from others, and brought up to this version.

use std::cell::Cell;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use flujo_core::store::StoreError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::SqliteOptions;
use super::failure::{Failure, named};
use super::wal::Watch;

/// Every `SQLite` file begins so.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Where a `SQLite` file says whose it is.
const APPLICATION: std::ops::Range<usize> = 68..72;
/// What ours says: "flur".
pub(super) const OURS: i32 = 0x666c_7572;

/// What brings the file from each version to the next.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
];

thread_local! {
    /// Until when this thread waits for others' locks.
    static PATIENCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// From now on this thread waits so long, all in all, for locks that others hold.
pub(super) fn be_patient(busy_timeout: Duration) {
    PATIENCE.set(Instant::now().checked_add(busy_timeout));
}

/// Called by `SQLite` when a lock is held by others. Short waits, not the same in each process: with the long ones that
/// `SQLite` has, whoever comes first goes first again and again.
fn wait(count: i32) -> bool {
    let now = Instant::now();
    if PATIENCE.get().is_some_and(|until| now >= until) {
        return false;
    }
    let spread = (u64::from(std::process::id()) * 31 + u64::from(count.unsigned_abs()) * 7919) % 1500;
    std::thread::sleep(Duration::from_micros(200 + spread));
    true
}

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Use<'l> {
    Reading,
    /// With the log that is watched.
    Writing(&'l Watch),
}

/// Makes the file where there is none, and the folders above it; brings one of ours up to this version; refuses others'.
pub(super) fn prepare(path: &Path, options: &SqliteOptions) -> Result<(), StoreError> {
    look_at(path)?;
    be_patient(options.busy_timeout);
    let told = |failure: Failure| failure.told(path, options.busy_timeout, None);
    let mut connection = connect(path).map_err(|error| told(error.into()))?;
    while_busy(|| migrate(path, &mut connection, MIGRATIONS)).map_err(told)
}

/// A connection to a file that has been prepared.
pub(super) fn open(path: &Path, options: &SqliteOptions, r#use: Use<'_>) -> Result<Connection, Failure> {
    // Made anew by nobody but `prepare`: a file that is gone is an error.
    let mut connection = connect(path)?;
    let version = number(&connection, "user_version")?;
    if number(&connection, "application_id")? != OURS || version < known(MIGRATIONS) {
        return Err(Failure::Damaged(
            "its beginning".to_owned(),
            "it isn't the file that was opened",
        ));
    }
    newer(path, version, MIGRATIONS)?;
    connection.execute_batch(
        "PRAGMA trusted_schema = off; PRAGMA synchronous = full; PRAGMA secure_delete = fast;",
    )?;
    match r#use {
        // 16 MB at most: of a million runs what leads to each of them stays in memory.
        Use::Reading => connection.execute_batch("PRAGMA query_only = on; PRAGMA cache_size = -16384;")?,
        Use::Writing(log) => {
            // What a checkpoint has emptied is cut to this.
            connection.pragma_update(None, "journal_size_limit", options.max_wal_bytes.cast_signed())?;
            log.look_at(&mut connection)?;
        }
    }
    if let Some(max) = options.max_bytes {
        let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = max.cast_signed() / page.max(1);
        connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_handler(Some(wait))?;
    // What a statement is told may not change how it is done: else it is prepared again whenever it is told something.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// Refuses what isn't ours by its first bytes, without `SQLite`, which would tidy up what another program left.
fn look_at(path: &Path) -> Result<(), StoreError> {
    let place = || named(path);
    if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
        let reason = "it has no name; name a file, or keep runs in memory".to_owned();
        return Err(StoreError::Other {
            place: "the file of runs".to_owned(),
            reason,
        });
    }
    let failed = |error: std::io::Error| {
        let (place, reason) = (place(), error.to_string());
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                StoreError::ReadOnly { place, reason }
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { place, reason },
            _ => StoreError::Unreachable { place, reason },
        }
    };
    let mut header = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(100).read_to_end(&mut header).map_err(failed)?,
        Err(error) if error.kind() == ErrorKind::NotFound => return make_empty(path).map_err(failed),
        Err(error) => return Err(failed(error)),
    };
    let foreign = |reason: &str| StoreError::Corrupt {
        run: None,
        place: place(),
        location: "its beginning".to_owned(),
        reason: reason.to_owned(),
    };
    if header.is_empty() {
        return Ok(());
    }
    if !header.starts_with(MAGIC) {
        return Err(foreign("it isn't a SQLite file"));
    }
    match header.get(APPLICATION) {
        // A file that is being made by another process says nothing yet.
        Some(name) if name == OURS.to_be_bytes() || name == [0; 4] => Ok(()),
        _ => Err(foreign("it belongs to another program")),
    }
}

/// What runs hold is nobody else's business.
fn make_empty(path: &Path) -> std::io::Result<()> {
    let (mut folders, mut file) = (DirBuilder::new(), OpenOptions::new());
    file.append(true).create(true);
    folders.recursive(true);
    #[cfg(unix)]
    {
        std::os::unix::fs::DirBuilderExt::mode(&mut folders, 0o700);
        std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        folders.create(folder)?;
    }
    file.open(path)?.sync_all()?;
    // So that its name outlasts the machine's end too.
    #[cfg(unix)]
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(())
}

/// Brings the file to the last version, one step in one transaction each.
pub(super) fn migrate(path: &Path, connection: &mut Connection, migrations: &[&str]) -> Result<(), Failure> {
    if is_new(connection)? {
        // Before there is a page: so that pages that are free can be given back.
        connection.execute_batch("PRAGMA auto_vacuum = incremental;")?;
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.execute_batch("PRAGMA synchronous = full;")?;
    loop {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have done some meanwhile. What this connection knows of the tables is read anew then, which a
        // version's number alone doesn't bring about.
        transaction.query_row("SELECT count(*) FROM sqlite_schema", (), |_| Ok(()))?;
        let version = number(&transaction, "user_version")?;
        newer(path, version, migrations)?;
        let Some(next) = usize::try_from(version)
            .ok()
            .and_then(|version| migrations.get(version))
        else {
            return Ok(());
        };
        transaction.execute_batch(next)?;
        transaction.pragma_update(None, "application_id", OURS)?;
        transaction.pragma_update(None, "user_version", version + 1)?;
        transaction.commit()?;
    }
}

/// Whether there is nothing in the file yet; an error says when it isn't ours.
fn is_new(connection: &Connection) -> Result<bool, Failure> {
    // As it is at one moment: another process may be making it.
    let moment = connection.unchecked_transaction()?;
    if number(&moment, "application_id")? == OURS {
        return Ok(false);
    }
    let empty: bool = moment.query_row("SELECT count(*) = 0 FROM sqlite_schema", (), |row| row.get(0))?;
    if empty {
        return Ok(true);
    }
    Err(Failure::Damaged(
        "its beginning".to_owned(),
        "it belongs to another program",
    ))
}

fn newer(path: &Path, version: i32, migrations: &[&str]) -> Result<(), StoreError> {
    let known = known(migrations);
    if version <= known {
        return Ok(());
    }
    Err(StoreError::NewerSchema {
        place: named(path),
        found: version.into(),
        known: known.into(),
    })
}

fn known(migrations: &[&str]) -> i32 {
    i32::try_from(migrations.len()).unwrap_or(i32::MAX)
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}

/// Tries again while others hold the file: `SQLite` doesn't wait by itself where a file becomes a write-ahead log's.
fn while_busy(mut act: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let mut count = 0;
    loop {
        match act() {
            Err(Failure::Sqlite(error)) if is_busy(&error) && wait(count) => count += 1,
            done => return done,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked};
    matches!(error.sqlite_error_code(), Some(DatabaseBusy | DatabaseLocked))
}
