//! The asyncio host: it drives one machine per run or lane, calls user code inline on the event loop's own thread, and
//! gives back results that are built when they are read.
//!
//! State is moved out before any call into Python, since user code may call back.

mod agents;
mod alarm;
mod answer;
mod aside;
mod bell;
mod cached;
mod call;
mod callable;
mod clock;
mod collected;
mod construct;
mod context;
mod counts;
mod domain;
mod driver;
mod engine;
mod events;
mod failure;
mod hooks;
mod inbox;
mod interrupt;
mod keeping;
mod lane;
mod leaf;
mod migrating;
mod names;
mod once;
mod parked;
mod paused;
mod payload;
mod place;
mod planning;
mod player;
mod rates;
mod record;
mod recorded;
mod run;
mod shared;
pub(crate) mod steps;
mod time_limit;
mod trace;
mod usage;
mod written;

use pyo3::prelude::*;

pub(crate) use answer::of_agent as agent_answer;
pub(crate) use domain::{Answer, Python3};
pub(crate) use failure::from_error as failure_of;
pub(crate) use usage::{count, limit_error, money, of_error as usage_of_error};

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<callable::Callable>()?;
    module.add_class::<cached::CachedResults>()?;
    module.add_class::<planning::PlanBuilder>()?;
    module.add_class::<planning::CompiledPlan>()?;
    module.add_class::<engine::Engine>()?;
    module.add_class::<place::Place>()?;
    module.add_class::<once::StepParts>()?;
    module.add_class::<migrating::RunMigration>()?;
    module.add_class::<recorded::RecordedRun>()?;
    module.add_class::<run::Run>()?;
    module.add_class::<lane::Lane>()?;
    module.add_class::<paused::PausedRun>()?;
    module.add_class::<record::RunRecord>()?;
    module.add_class::<record::StepRecord>()?;
    module.add_class::<leaf::LeafRecord>()?;
    module.add_class::<inbox::Waker>()?;
    module.add_class::<keeping::KeptRuns>()?;
    module.add_class::<time_limit::Expiry>()?;
    module.add_class::<interrupt::Switch>()?;
    module.add_class::<interrupt::Overdue>()?;
    module.add_function(wrap_pyfunction!(cached::next_identity, module)?)?;
    module.add_function(wrap_pyfunction!(planning::definition_changed, module)?)?;
    module.add_function(wrap_pyfunction!(planning::definition_epoch, module)?)?;
    Ok(())
}
