//! Which rate limits hold for the steps of a run, and for the calls in them.

use std::sync::Arc;

use flujo_core::plan::NodeId;
use flujo_core::rate::{Bucket, RateLimit, RateLimitError, StepRates};
use pyo3::intern;
use pyo3::prelude::*;

use super::agents;
use super::clock::Clock;
use super::names;
use super::planning::PlanWithSteps;
use super::shared::Shared;
use crate::object::Object;
use crate::rates::{self, LoopRates, PyRateLimit};

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

/// The limits that a step's call passes: those of the step and of the runner, and its own of the `agent` that a plugin asked
/// for.
pub(super) fn of_call(
    py: Python<'_>,
    shared: &Shared,
    node: NodeId,
    agent: Option<&Object>,
) -> PyResult<Arc<[Arc<Bucket>]>> {
    let rates = shared.rates.as_ref();
    let step = rates.map_or_else(|| Arc::from([]), |rates| rates.step(node));
    let own = agent.map(|agent| of_agent(&agents::asked(&shared.plan.plan, agent.bind(py))?));
    let own = own.transpose()?;
    let Some(own) = own.flatten() else {
        return Ok(step);
    };
    let (own, now) = (&own.get().limit, shared.rate_time(py));
    let limits = match shared.own_loop(py) {
        None => StepRates::with_own(&rates::REGISTRY, &step, own, now),
        Some(event_loop) => {
            let loop_rates = LoopRates::of(event_loop)?;
            StepRates::with_own(&loop_rates.get().registry, &step, own, now)
        }
    };
    limits.or_else(|error| Err(refused(py, &error)?))
}

/// An agent's own limit.
pub(super) fn of_agent<'py>(agent: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyRateLimit>>> {
    let limit = agent.getattr_opt(intern!(agent.py(), "rate_limit"))?;
    // What is no limit of ours is the agent's own business.
    Ok(limit.and_then(|limit| limit.cast_into().ok()))
}

fn shared(
    py: Python<'_>,
    rates: Result<Option<StepRates>, RateLimitError>,
) -> PyResult<Option<Arc<StepRates>>> {
    match rates {
        Ok(rates) => Ok(rates.map(Arc::new)),
        Err(error) => Err(refused(py, &error)?),
    }
}

fn refused(py: Python<'_>, error: &RateLimitError) -> PyResult<PyErr> {
    let class = names::configuration_error(py)?;
    Ok(PyErr::from_value(class.call1((error.to_string(),))?))
}
