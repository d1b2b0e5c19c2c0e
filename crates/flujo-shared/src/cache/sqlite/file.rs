//! The file itself: how it is made, told from others, and what `SQLite`'s errors mean.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::StoreError;

/// Every `SQLite` file begins so.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Where a `SQLite` file says whose it is.
const APPLICATION: std::ops::Range<usize> = 68..72;
/// What ours says: "fluj".
const OURS: i32 = 0x666c_756a;
/// The layout below.
const LAYOUT: i32 = 1;

/// `id` grows with each write, so that it tells what was written first.
const TABLES: &str = "
    CREATE TABLE results (
        id INTEGER PRIMARY KEY,
        key BLOB NOT NULL UNIQUE,
        value BLOB NOT NULL,
        size INTEGER NOT NULL,
        written INTEGER NOT NULL,
        expires INTEGER
    ) STRICT;
    CREATE INDEX expiry ON results (expires) WHERE expires IS NOT NULL;
    CREATE TABLE total (results INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
    INSERT INTO total VALUES (0, 0);
    CREATE TRIGGER came AFTER INSERT ON results BEGIN
        UPDATE total SET results = results + 1, bytes = bytes + new.size;
    END;
    CREATE TRIGGER went AFTER DELETE ON results BEGIN
        UPDATE total SET results = results - 1, bytes = bytes - old.size;
    END;
";

/// Opens a file of ours, or makes one where there is none.
pub(super) fn open(path: &Path, busy_timeout: Duration) -> Result<Connection, StoreError> {
    look_at(path)?;
    let told = |error| told(path, busy_timeout, &error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(told)?;
    // What a statement is told may not change how it is done: else it is prepared again whenever it is told something.
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map_err(told)?;
    connection.busy_timeout(busy_timeout).map_err(told)?;
    // Nobody else's file is changed; one that is being made by another process says nothing yet.
    if !is_ours_or_new(&connection, path).map_err(told)?? {
        while_busy(busy_timeout, || {
            connection.pragma_update(None, "journal_mode", "wal")?;
            make(&mut connection)
        })
        .map_err(told)?;
    }
    connection
        .execute_batch("PRAGMA synchronous = normal; PRAGMA trusted_schema = off;")
        .map_err(told)?;
    Ok(connection)
}

/// Makes the file where there is none, and refuses what isn't ours by its first bytes, without `SQLite`, which would tidy up
/// what another program left.
fn look_at(path: &Path) -> Result<(), StoreError> {
    if path.as_os_str().is_empty() || path.as_os_str() == ":memory:" {
        return Err(StoreError::Refused {
            store: "the file of the cache".to_owned(),
            reason: "it has no name; name a file, or keep results in memory alone".to_owned(),
        });
    }
    let unreachable = |error: std::io::Error| StoreError::Unreachable {
        store: named(path),
        reason: error.to_string(),
    };
    let mut header = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(100).read_to_end(&mut header).map_err(unreachable)?,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return make_empty(path).map_err(unreachable);
        }
        Err(error) => return Err(unreachable(error)),
    };
    if header.is_empty() {
        return Ok(());
    }
    if !header.starts_with(MAGIC) {
        return Err(foreign(path, "it isn't a SQLite file"));
    }
    match header.get(APPLICATION) {
        Some(name) if name == OURS.to_be_bytes() || name == [0; 4] => Ok(()),
        _ => Err(foreign(path, "it belongs to another program")),
    }
}

/// What results hold is nobody else's business.
fn make_empty(path: &Path) -> std::io::Result<()> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// Whether the file is ours already; else it is empty, or an error says whose it is.
fn is_ours_or_new(connection: &Connection, path: &Path) -> rusqlite::Result<Result<bool, StoreError>> {
    // As it is at one moment: another process may be making it.
    let moment = connection.unchecked_transaction()?;
    let number = |name| moment.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, layout) = (number("application_id")?, number("user_version")?);
    if application == OURS {
        return Ok(if layout == LAYOUT {
            Ok(true)
        } else {
            Err(foreign(
                path,
                &format!("it has layout {layout}, this version of Flujo reads {LAYOUT}"),
            ))
        });
    }
    let empty: bool = moment.query_row("SELECT count(*) = 0 FROM sqlite_schema", (), |row| row.get(0))?;
    Ok(if empty && application == 0 {
        Ok(false)
    } else {
        Err(foreign(path, "it belongs to another program"))
    })
}

/// Makes the tables, unless another process has meanwhile.
fn make(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let application: i32 = transaction.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != OURS {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", OURS)?;
        transaction.pragma_update(None, "user_version", LAYOUT)?;
    }
    transaction.commit()
}

/// Tries again while others hold the file: `SQLite` doesn't wait by itself where a file becomes a write-ahead log's.
fn while_busy(timeout: Duration, mut act: impl FnMut() -> rusqlite::Result<()>) -> rusqlite::Result<()> {
    let start = Instant::now();
    loop {
        match act() {
            Err(error) if is_busy(&error) && start.elapsed() < timeout => {
                std::thread::sleep(Duration::from_millis(2));
            }
            done => return done,
        }
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

/// What an error of `SQLite` means.
pub(super) fn told(path: &Path, waited: Duration, error: &rusqlite::Error) -> StoreError {
    let (store, reason) = (named(path), error.to_string());
    match error.sqlite_error_code() {
        _ if is_busy(error) => StoreError::Busy { store, waited },
        // Without a code: the rows aren't what the tables above hold.
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) | None => {
            StoreError::Corrupt { store, reason }
        }
        Some(ErrorCode::DiskFull) => StoreError::Full { store, reason },
        Some(_) => StoreError::Unreachable { store, reason },
    }
}

fn foreign(path: &Path, reason: &str) -> StoreError {
    StoreError::Corrupt {
        store: named(path),
        reason: reason.to_owned(),
    }
}

pub(super) fn named(path: &Path) -> String {
    format!("the file {}", path.display())
}
