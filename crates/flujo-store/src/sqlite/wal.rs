//! The write-ahead log beside the file: it is to have room from the beginning, and not to grow for ever.
//!
//! A commit that makes a file longer waits for twice as much of the disk as one that writes into what is there: the file's
//! new length and the place of its new blocks are to be written as well. A log that has begun to grow is made longer with
//! zeros, in ever larger pieces, up to where `SQLite` begins it anew. It takes zeros for the end of the log, as anything
//! that doesn't have the numbers of its head. Nobody asks the system for the length of the log after each transaction: a
//! file whose time of change somebody has looked at gets a new one with the next write, which is waited for too (Linux from
//! 6.13 on). How many pages are in it `SQLite` tells.
//!
//! It is emptied into the file behind the transaction that made it long, so that this one doesn't wait for that, as far as
//! nobody reads what is in it. Readers that follow one another without a gap, or one that takes long, keep it from getting
//! empty; then, when it has become large, readers that come are made to wait for a moment.

use std::ffi::c_int;
use std::fs::OpenOptions;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::hooks::Wal;

use super::engine::Place;
use super::file;

/// Between two looks at its size there are so many transactions.
const BETWEEN: u32 = 256;
/// Writers wait no longer for readers than this, so that it is small.
const MOMENT: Duration = Duration::from_millis(50);
/// A log is made longer by its own length, by this at least and at most.
const PIECES: (u64, u64) = (64 << 10, 1 << 20);
/// It is emptied when it has so many pages, as `SQLite` does it.
const PAGES: u32 = 1_000;
/// How long it is then.
const WHOLE: u64 = length_of(PAGES);

/// How long a log is with so many pages, each of which has a head of its own.
const fn length_of(pages: u32) -> u64 {
    pages as u64 * (4_096 + 24) + 32
}

/// Watches the log of one file.
#[derive(Debug)]
pub(super) struct Watch {
    log: PathBuf,
    most: u64,
    transactions: u32,
    /// How long it was when that was asked for last.
    length: u64,
    /// The last transaction has made it longer.
    grows: bool,
    /// How many pages are in it: as a connection tells it, and after the last transaction.
    told: Arc<AtomicU32>,
    pages: u32,
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
            told: Arc::default(),
            pages: 0,
        }
    }

    /// Is told of what this connection writes, which leaves it to this one to empty the log.
    pub(super) fn look_at(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        let told = Arc::clone(&self.told);
        connection.wal_hook(Some(move |_: &mut Wal, pages: c_int| {
            told.store(pages.cast_unsigned(), Relaxed);
            Ok(())
        }))
    }

    /// Whether the next transaction, or what is to be done behind it, takes longer than others.
    pub(super) fn wants_care(&self) -> bool {
        self.grows || self.is_long() || self.transactions + 1 >= BETWEEN
    }

    fn is_long(&self) -> bool {
        self.pages >= PAGES
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
    pub(super) fn written(&mut self) {
        let before = std::mem::replace(&mut self.pages, self.told.load(Relaxed));
        self.grows = length_of(self.pages) > self.length;
        // One that is begun anew may have been cut before.
        if self.grows || self.pages < before {
            self.length = self.asked();
        }
        self.transactions += 1;
    }

    fn asked(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |log| log.len())
    }

    /// Empties it, if it is time.
    pub(super) fn tidy_up(&mut self, connection: &Connection) {
        if self.is_long() {
            // Others' transactions aren't waited for: what they keep is left for the next time.
            let emptied = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", (), |_| Ok(()));
            drop(emptied);
        }
        if self.transactions >= BETWEEN {
            self.transactions = 0;
            self.length = self.asked();
            if self.length > self.most {
                cut(connection);
                self.length = self.asked();
            }
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
