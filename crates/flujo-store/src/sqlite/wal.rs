//! The write-ahead log beside the file: it is not to grow for ever.
//!
//! `SQLite` empties it by itself when nobody reads what is in it. Readers that follow one another without a gap, or one
//! that takes long, keep it from doing so; then, when it has become large, readers that come are made to wait for a moment.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::Connection;

use super::engine::Place;
use super::file;

/// Between two looks at its size there are so many transactions.
const BETWEEN: u32 = 256;
/// Writers wait no longer for readers than this, so that it is small.
const MOMENT: Duration = Duration::from_millis(50);

/// Watches the log of one file.
#[derive(Debug)]
pub(super) struct Watch {
    log: PathBuf,
    most: u64,
    transactions: u32,
}

impl Watch {
    pub(super) fn new(place: &Place) -> Self {
        let mut log = place.path.clone().into_os_string();
        log.push("-wal");
        Self {
            log: log.into(),
            most: place.options.max_wal_bytes,
            transactions: 0,
        }
    }

    /// A transaction has been written.
    pub(super) fn written(&mut self, connection: &Connection) {
        self.transactions += 1;
        if self.transactions < BETWEEN {
            return;
        }
        self.transactions = 0;
        if std::fs::metadata(&self.log).is_ok_and(|log| log.len() > self.most) {
            cut(connection);
        }
    }
}

/// Empties the log, if readers let it.
pub(super) fn cut(connection: &Connection) {
    file::be_patient(MOMENT);
    let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
    // Who reads longer is waited for the next time.
    drop(emptied);
}
