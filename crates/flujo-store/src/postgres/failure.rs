//! What `PostgreSQL`'s errors mean.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::store::StoreError;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// Why something wasn't done: before it is known which run and which server it was about.
#[derive(Debug)]
pub(super) enum Failure {
    Server(Error),
    Store(StoreError),
    /// What is stored can't be right: where, and why.
    Damaged(String, &'static str),
    Unknown(Arc<str>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Failure {
    /// Whether the connection is of no use any more, or there is none: another one may be better.
    pub(super) fn is_of_connection(&self) -> bool {
        match self {
            Self::Server(error) => match error.code() {
                Some(code) => is_of_server(code),
                None => {
                    error.is_closed()
                        || error
                            .source()
                            .is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
                }
            },
            _ => false,
        }
    }

    /// The error that is told.
    pub(super) fn told(self, place: &str, waited: Duration, run: Option<&Arc<str>>) -> StoreError {
        let (place, run) = (place.to_owned(), run.cloned());
        match self {
            Self::Store(error) => error,
            Self::Unknown(run) => StoreError::UnknownRun { run, place },
            Self::Damaged(location, reason) => StoreError::Corrupt {
                run,
                place,
                location,
                reason: reason.to_owned(),
            },
            Self::Server(error) => server(place, waited, run, &error),
        }
    }
}

/// The server ends, begins, or has no connection to give.
fn is_of_server(code: &SqlState) -> bool {
    let of_connections = code.code().starts_with("08");
    of_connections
        || [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
        ]
        .contains(code)
}

fn server(place: String, waited: Duration, run: Option<Arc<str>>, error: &Error) -> StoreError {
    let Some(code) = error.code() else {
        // What went wrong is behind what was tried.
        let reason = error
            .source()
            .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        return StoreError::Unreachable { place, reason };
    };
    let reason = error
        .as_db_error()
        .map_or_else(|| error.to_string(), |error| error.message().to_owned());
    if *code == SqlState::LOCK_NOT_AVAILABLE || *code == SqlState::T_R_DEADLOCK_DETECTED {
        StoreError::Busy { place, waited }
    } else if [
        SqlState::DISK_FULL,
        SqlState::OUT_OF_MEMORY,
        SqlState::INSUFFICIENT_RESOURCES,
    ]
    .contains(code)
    {
        StoreError::Full { place, reason }
    } else if [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::INSUFFICIENT_PRIVILEGE,
    ]
    .contains(code)
    {
        StoreError::ReadOnly { place, reason }
    } else if [SqlState::DATA_CORRUPTED, SqlState::INDEX_CORRUPTED].contains(code) {
        StoreError::Corrupt {
            run,
            place,
            location: "one of its pages".to_owned(),
            reason,
        }
    } else if is_of_server(code) || code.code().starts_with("28") {
        StoreError::Unreachable { place, reason }
    } else {
        StoreError::Other { place, reason }
    }
}
