//! What a transaction does often.

use rusqlite::{CachedStatement, Connection};

use super::failure::Failure;

/// The connection of a transaction, and what is at hand in it.
pub(super) struct Statements<'c> {
    pub(super) connection: &'c Connection,
    append: Option<CachedStatement<'c>>,
}

impl<'c> Statements<'c> {
    pub(super) fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            append: None,
        }
    }

    /// Puts a record behind the others. Looking for statements and putting them back took an eighth of the writing
    /// thread's instructions, and most of them are this one.
    pub(super) fn append(&mut self) -> Result<&mut CachedStatement<'c>, Failure> {
        const SQL: &str = "INSERT INTO records (run, previous, body, sum) VALUES (?1, ?2, ?3, ?4)";
        let append = match self.append.take() {
            Some(append) => append,
            None => self.connection.prepare_cached(SQL)?,
        };
        Ok(self.append.insert(append))
    }
}
