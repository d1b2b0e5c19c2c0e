//! Why a simulated run did not end.

use std::fmt;

use crate::host::{ENDLESS, Simulation};

/// Why a run did not end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stuck {
    /// Nothing is due any more, although the run has not ended.
    Waiting(String),
    /// It gives commands for ever.
    Endless,
    /// A restored machine did not ask again for what was under way, or asked for something else.
    Forgot(String),
    /// The pipeline could not be compiled, or a state could not be written or read.
    Unusable(String),
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting(what) => write!(f, "the run waits for something that never comes: {what}"),
            Self::Endless => write!(f, "the run gave {ENDLESS} commands and goes on"),
            Self::Forgot(what) => write!(f, "after a restore: {what}"),
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Stuck {}

impl Simulation {
    /// What a run is about that doesn't end.
    pub(crate) fn describe(&self) -> String {
        let lanes = self.lanes.iter().flatten().count();
        format!(
            "{lanes} lanes and {} calls are under way at {} ns",
            self.flights.len(),
            self.now
        )
    }
}
