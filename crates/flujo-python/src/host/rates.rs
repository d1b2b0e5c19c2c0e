//! Which rate limits hold for the steps of a run.

use std::sync::Arc;

use flujo_core::rate::{RateLimit, RateLimitError, StepRates};
use pyo3::prelude::*;

use super::clock::Clock;
use super::names;
use super::planning::PlanWithSteps;
use crate::rates::{self, LoopRates};

/// The limits of a plan's steps and those that hold `for_all` of them, in the system's time.
pub(super) fn of_plan(
    py: Python<'_>,
    plan: &PlanWithSteps,
    for_all: &[RateLimit],
) -> PyResult<Option<Arc<StepRates>>> {
    let rates = StepRates::of(&rates::REGISTRY, &plan.plan, for_all, rates::now());
    shared(py, rates)
}

/// The same for a run on a loop that may keep a time of its own; `known` are those of the system's time.
pub(super) fn of_run(
    py: Python<'_>,
    plan: &PlanWithSteps,
    for_all: &[RateLimit],
    known: Option<Arc<StepRates>>,
    clock: &Clock,
) -> PyResult<Option<Arc<StepRates>>> {
    match clock.own_loop(py).filter(|_| known.is_some()) {
        None => Ok(known),
        Some(event_loop) => {
            let own = LoopRates::of(event_loop)?;
            let now = clock.rate_time(py);
            shared(py, StepRates::of(&own.get().registry, &plan.plan, for_all, now))
        }
    }
}

fn shared(
    py: Python<'_>,
    rates: Result<Option<StepRates>, RateLimitError>,
) -> PyResult<Option<Arc<StepRates>>> {
    match rates {
        Ok(rates) => Ok(rates.map(Arc::new)),
        Err(error) => {
            let class = names::configuration_error(py)?;
            Err(PyErr::from_value(class.call1((error.to_string(),))?))
        }
    }
}
