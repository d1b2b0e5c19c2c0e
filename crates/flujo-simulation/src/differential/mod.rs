//! Cases that every host can run, with what the simulation makes of them, to compare hosts with one another.
//!
//! The schedule is part of a case: how long each call takes and when the run is cancelled are drawn so widely that two
//! lanes hardly ever do something at the same instant. A case whose result depends on which of two simultaneous events
//! comes first says nothing about a host and is left out.

mod draw;
mod shrink;
mod tally;
mod view;

use serde::{Deserialize, Serialize};

use crate::host::Stuck;
use crate::{Case, Simulation};

pub use shrink::smaller;
pub use tally::{OUTCOMES, Tally};
pub use view::{
    CallView, EndView, FailureView, LaneView, PROCESSING, StepView, View, called_for, end, plain,
};

/// One virtual millisecond, the unit of all durations in these cases: the finest that every host's timers keep.
pub const MILLISECOND: u64 = 1_000_000;

/// How many interleavings a case must come through with the same result.
const SCHEDULES: u64 = 6;

/// A case and what the simulation makes of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Expectation {
    /// The case.
    pub case: Case,
    /// Its result.
    pub view: View,
}

/// The `index`th case that belongs to `seed`; `None` when its result depends on the order of simultaneous events.
///
/// # Errors
/// [`Stuck`] when the simulation does not come to an end.
pub fn expectation(seed: u64, index: u64) -> Result<Option<Expectation>, Stuck> {
    expected(draw::case(seed, index))
}

/// What the simulation makes of a case; `None` when that depends on the order of simultaneous events.
///
/// # Errors
/// [`Stuck`] when the simulation does not come to an end.
pub fn expected(case: Case) -> Result<Option<Expectation>, Stuck> {
    let mut scheduled = case.clone();
    let mut first: Option<View> = None;
    for seed in 0..SCHEDULES {
        scheduled.schedule.seed = seed;
        let plan = scheduled
            .plan()
            .map_err(|error| Stuck::Unusable(error.to_string()))?;
        let view = View::of(&plan, &Simulation::new(&scheduled)?.run()?);
        match &first {
            Some(first) if *first != view => return Ok(None),
            Some(_) => {}
            None => first = Some(view),
        }
    }
    Ok(first.map(|view| Expectation { case, view }))
}
