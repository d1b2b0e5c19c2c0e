//! Cases that every host can run, with what the simulation makes of them, to compare hosts with one another.
//!
//! The schedule is part of a case: how long each call takes and when the run is cancelled are drawn so widely that two
//! lanes hardly ever do something at the same instant. A case whose result depends on which of two simultaneous events
//! comes first says nothing about a host and is left out.

mod constructs;
mod draw;
mod shrink;
mod tally;
mod view;

use serde::{Deserialize, Serialize};

use crate::host::Stuck;
use crate::{Case, Simulation, Ties, Trace};

pub use constructs::{Constructs, UnknownConstruct};
pub use shrink::smaller;
pub use tally::{OUTCOMES, Tally};
pub use view::{
    CallView, EndView, FailureView, LaneView, PROCESSING, StepView, View, called_for, end, plain,
};

/// One virtual millisecond, the unit of all durations in these cases: the finest that every host's timers keep.
pub const MILLISECOND: u64 = 1_000_000;

/// How many interleavings a case must come through with the same result, when it has more than one.
const SCHEDULES: u64 = 24;

/// A case and what the simulation makes of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Expectation {
    /// The case.
    pub case: Case,
    /// Its result.
    pub view: View,
}

/// The `index`th case that belongs to `seed`, of these constructs; `None` when its result depends on the order of
/// simultaneous events.
///
/// # Errors
/// [`Stuck`] when the simulation does not come to an end.
pub fn expectation(seed: u64, index: u64, constructs: Constructs) -> Result<Option<Expectation>, Stuck> {
    expected(draw::case(seed, index, constructs))
}

/// What the simulation makes of a case; `None` when that depends on the order of simultaneous events: in two lanes, or
/// the end of a call and its deadline.
///
/// # Errors
/// [`Stuck`] when the simulation does not come to an end.
pub fn expected(case: Case) -> Result<Option<Expectation>, Stuck> {
    let (view, trace) = seen(&case)?;
    if trace.ended_at_deadline > 0 {
        return Ok(None);
    }
    if trace.seed_decided > 0 {
        let mut other = case.clone();
        // What draws hardly ever come upon where much happens to a lane at once, and hosts do always.
        other.schedule.ties = Ties::LaneGoesOn;
        if seen(&other)?.0 != view {
            return Ok(None);
        }
        other.schedule.ties = Ties::Drawn;
        for _ in 0..SCHEDULES {
            other.schedule.seed = other.schedule.seed.wrapping_add(1);
            if seen(&other)?.0 != view {
                return Ok(None);
            }
        }
    }
    Ok(Some(Expectation { case, view }))
}

fn seen(case: &Case) -> Result<(View, Trace), Stuck> {
    let plan = case.plan().map_err(|error| Stuck::Unusable(error.to_string()))?;
    let ran = Simulation::new(case)?.run()?;
    Ok((View::of(&plan, &ran), ran.trace))
}
