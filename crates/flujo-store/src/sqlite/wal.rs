//! The write-ahead log beside the file: it is to have room from the beginning, and not to grow for ever.
//!
//! A commit that makes a file longer waits for twice as much of the disk as one that writes into what is there: the file's
//! new length and the place of its new blocks are to be written as well. A log that has begun to grow is made longer with
//! zeros, in ever larger pieces, up to where `SQLite` begins it anew. It takes zeros for the end of the log, as anything
//! that doesn't have the numbers of its head.
//!
//! `SQLite` empties it by itself when nobody reads what is in it. Readers that follow one another without a gap, or one
//! that takes long, keep it from doing so; then, when it has become large, readers that come are made to wait for a moment.

use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use super::engine::Place;
use super::file;

/// Between two looks at its size there are so many transactions.
const BETWEEN: u32 = 256;
/// Writers wait no longer for readers than this, so that it is small.
const MOMENT: Duration = Duration::from_millis(50);
/// A log is made longer by its own length, by this at least and at most.
const PIECES: (u64, u64) = (64 << 10, 1 << 20);
/// Where `SQLite` begins it anew if nobody reads it: behind 1,000 pages, each with a head of its own.
const WHOLE: u64 = 1_000 * (4_096 + 24) + 32;

/// Watches the log of one file.
#[derive(Debug)]
pub(super) struct Watch {
    log: PathBuf,
    most: u64,
    transactions: u32,
    /// How long it was after the last transaction.
    length: u64,
    /// That one has made it longer.
    grows: bool,
}

impl Watch {
    pub(super) fn new(place: &Place) -> Self {
        let mut log = place.path.clone().into_os_string();
        log.push("-wal");
        Self {
            log: log.into(),
            most: place.options.max_wal_bytes,
            transactions: 0,
            length: 0,
            grows: false,
        }
    }

    /// Gives it room if it grows. To be called inside a transaction that writes: nobody else does meanwhile.
    pub(super) fn make_room(&mut self) {
        if !std::mem::take(&mut self.grows) || self.length >= WHOLE.min(self.most) {
            return;
        }
        let more = self.length.clamp(PIECES.0, PIECES.1);
        // Without room it is only slower, as on a disk that is full.
        if let Ok(length) = lengthen(&self.log, more) {
            self.length = length;
        }
    }

    /// A transaction has been written.
    pub(super) fn written(&mut self, connection: &Connection) {
        let length = std::fs::metadata(&self.log).map_or(0, |log| log.len());
        self.grows = length > self.length;
        self.length = length;
        self.transactions += 1;
        if self.transactions < BETWEEN {
            return;
        }
        self.transactions = 0;
        if self.length > self.most {
            cut(connection);
        }
    }
}

/// Puts so many zeros behind a file; gives its length then. It is as it was when there is no room for all of them.
fn lengthen(path: &Path, more: u64) -> io::Result<u64> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    let end = file.seek(SeekFrom::End(0))?;
    let zeros = vec![0; usize::try_from(more).unwrap_or(0)];
    file.write_all(&zeros).inspect_err(|_| {
        // What can't be taken back is the end of the log all the same.
        let _ = file.set_len(end);
    })?;
    Ok(end + more)
}

/// Empties the log, if readers let it.
pub(super) fn cut(connection: &Connection) {
    file::be_patient(MOMENT);
    let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |_| Ok(()));
    // Who reads longer is waited for the next time.
    drop(emptied);
}
