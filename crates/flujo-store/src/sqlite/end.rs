//! Where a run's log ends.
//!
//! A commit that changes one page waits less for the disk than one that changes two. So a record is appended without its
//! run's row, which tells where the log ends, as long as that can be found out: the records that a row doesn't tell of have
//! keys close behind the last one that it tells of. Only a row that names an owner may be behind, so that lists of others
//! cost nothing more; whoever gives a run back brings its row up.

use rusqlite::{Connection, ErrorCode};

use crate::log::Log;

/// A row tells of all but the records with so many keys, whosever they are, behind the last one that it tells of. What the
/// schema says of it, too.
const AHEAD: i64 = 1024;

/// Where a log ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    /// The key of its last record.
    pub(super) tail: Option<i64>,
    /// The last one that its run's row tells of.
    told: Option<i64>,
    /// The bytes of the others.
    untold: i64,
}

impl End {
    /// As a row tells it.
    pub(super) fn told(tail: Option<i64>) -> Self {
        Self {
            tail,
            told: tail,
            untold: 0,
        }
    }

    /// Where the log of a run ends whose row names an owner, and tells this of it; brings the number of its last record there.
    pub(super) fn found(
        connection: &Connection,
        run: i64,
        tail: Option<i64>,
        log: &mut Log,
    ) -> rusqlite::Result<Self> {
        let mut end = Self::told(tail);
        let Some(told) = tail else { return Ok(end) };
        let mut behind = connection.prepare_cached(
            "SELECT max(record), count(*), coalesce(sum(length(body)), 0) FROM records \
             WHERE record > ?1 AND record <= ?2 AND run = ?3",
        )?;
        let mut rows = behind.query((told, told.saturating_add(AHEAD), run))?;
        if let Some(row) = rows.next()? {
            end.tail = row.get::<_, Option<i64>>(0)?.or(tail);
            log.last += row.get::<_, i64>(1)?.cast_unsigned();
            end.untold = row.get(2)?;
        }
        Ok(end)
    }

    /// Whether it could still be found if the row weren't written now.
    pub(super) fn is_near(&self) -> bool {
        matches!((self.told, self.tail), (Some(told), Some(tail)) if tail - told <= AHEAD)
    }

    /// Whether the row tells of it.
    pub(super) fn is_told(&self) -> bool {
        self.told == self.tail
    }

    /// Some more bytes that the row doesn't tell of.
    pub(super) fn add(&mut self, bytes: i64) {
        self.untold += bytes;
    }

    /// What the row's bytes are to grow by, as it is written with this end.
    pub(super) fn tell(&mut self) -> i64 {
        self.told = self.tail;
        std::mem::take(&mut self.untold)
    }

    /// What the row's bytes are behind by.
    pub(super) fn untold(&self) -> i64 {
        self.untold
    }
}

/// Whether a page that was read is none of `SQLite`'s.
pub(super) fn is_malformed(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt)
}
