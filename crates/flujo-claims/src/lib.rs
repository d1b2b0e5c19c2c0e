//! What each optimisation earns on the machine this runs on: the optimised twin against the plain one, measured in turn,
//! judged against what is promised.
//!
//! A row **holds** when the whole 95 % interval of what was earned lies beyond the seed's figure. Nothing here decides how a
//! pipeline runs: rows use what every user can use.

mod claim;
mod comparison;
mod interval;
mod load;
mod picture;
mod rows;
mod table;

pub use claim::{Claim, Host, NotMeasured, Promise, Reference};
pub use comparison::{Comparison, Effort};
pub use interval::Median;
pub use load::memory_of_runs;
pub use picture::picture;
pub use rows::{ROWS, Row};
pub use table::table;

use flujo_core::config::Twin;
use serde::Serialize;

/// Starts a process that calls [`memory_of_runs`] for a twin and so many samples, and gives what it said.
pub type Apart<'a> = &'a dyn Fn(Twin, usize) -> Result<Vec<f64>, String>;

/// A table of claims, as `--json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Claims {
    /// The rows, in the order in which they were measured.
    pub claims: Vec<Claim>,
}

impl Claims {
    /// The table as JSON.
    ///
    /// # Errors
    /// Never for rows that were judged: their figures are finite.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }

    /// Whether every row holds.
    pub fn hold(&self) -> bool {
        self.claims.iter().all(|claim| claim.holds)
    }
}
