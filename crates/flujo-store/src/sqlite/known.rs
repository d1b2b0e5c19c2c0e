//! What the writing thread knows of runs without asking, as long as nobody else has written into the file.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rusqlite::Connection;

use super::end::End;
use super::failure::Failure;
use crate::log::Log;

/// More runs than this are not remembered at a time.
const MOST: usize = 16 * 1024;

/// What a write needs to know of a run.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) run: i64,
    pub(super) worker: Option<i64>,
    pub(super) token: u64,
    pub(super) log: Log,
    /// Where it ends.
    pub(super) end: End,
    pub(super) status: String,
    pub(super) due: Option<i64>,
}

/// The rows of runs as this thread left them.
#[derive(Debug, Default)]
pub(super) struct Known {
    rows: HashMap<Arc<str>, Row>,
    /// What `SQLite` says of others' writes: another number when there were any.
    version: Option<i64>,
}

impl Known {
    /// To be called at the beginning of each transaction.
    pub(super) fn begin(&mut self, connection: &Connection) -> Result<(), Failure> {
        let mut version = connection.prepare_cached("PRAGMA data_version")?;
        let version = version.query_row((), |row| row.get(0))?;
        if self.version.replace(version) != Some(version) {
            self.rows.clear();
        }
        Ok(())
    }

    /// To be called when a transaction is lost, and with another connection.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
        self.version = None;
    }

    /// A run's row, asked for if it isn't known.
    pub(super) fn row(
        &mut self,
        run: &Arc<str>,
        ask: impl FnOnce() -> Result<Row, Failure>,
    ) -> Result<&mut Row, Failure> {
        if self.rows.len() >= MOST && !self.rows.contains_key(run) {
            self.rows.clear();
        }
        match self.rows.entry(run.clone()) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => Ok(unknown.insert(ask()?)),
        }
    }

    /// Forgets one run's row.
    pub(super) fn forget_one(&mut self, run: &Arc<str>) {
        self.rows.remove(run);
    }
}
