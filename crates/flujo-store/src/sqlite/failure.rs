//! What `SQLite`'s errors mean.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::store::StoreError;
use rusqlite::ErrorCode;

/// Why something wasn't done: before it is known which run and which file it was about.
#[derive(Debug)]
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Store(StoreError),
    /// What is stored can't be right: where, and why.
    Damaged(String, &'static str),
    Unknown(Arc<str>),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    /// Whether it was said before anything was written.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Unknown(_))
    }

    /// The error that is told.
    pub(super) fn told(self, path: &Path, waited: Duration, run: Option<&Arc<str>>) -> StoreError {
        let (place, run) = (named(path), run.cloned());
        match self {
            Self::Store(error) => error,
            Self::Unknown(run) => StoreError::UnknownRun { run, place },
            Self::Damaged(location, reason) => StoreError::Corrupt {
                run,
                place,
                location,
                reason: reason.to_owned(),
            },
            // It is there, but not what `SQLite` has to make beside it.
            Self::Sqlite(error)
                if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) && path.exists() =>
            {
                let reason = format!("its folder can't be written to, or too many files are open ({error})");
                StoreError::ReadOnly { place, reason }
            }
            Self::Sqlite(error) => sqlite(place, waited, run, &error),
        }
    }
}

fn sqlite(place: String, waited: Duration, run: Option<Arc<str>>, error: &rusqlite::Error) -> StoreError {
    let reason = error.to_string();
    let corrupt = |location: &str, reason| StoreError::Corrupt {
        run,
        place: place.clone(),
        location: location.to_owned(),
        reason,
    };
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { place, waited },
        Some(ErrorCode::NotADatabase) => corrupt("its beginning", reason),
        Some(ErrorCode::DatabaseCorrupt) => corrupt("one of its pages", reason),
        Some(ErrorCode::DiskFull) => StoreError::Full { place, reason },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreError::ReadOnly { place, reason },
        Some(ErrorCode::CannotOpen | ErrorCode::SystemIoFailure) => StoreError::Unreachable { place, reason },
        None if is_wrong_row(error) => corrupt("one of its rows", reason),
        _ => StoreError::Other { place, reason },
    }
}

/// Whether a row isn't what its table holds.
fn is_wrong_row(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(
        error,
        FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..)
    )
}

/// How the file is called in messages.
pub(super) fn named(path: &Path) -> String {
    format!("the file {}", path.display())
}
