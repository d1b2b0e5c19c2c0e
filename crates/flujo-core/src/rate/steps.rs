//! Which limits hold for which step of a plan.

use std::sync::Arc;

use super::{Bucket, RateLimit, RateLimitError, Registry};
use crate::machine::Time;
use crate::plan::{Kind, NodeId, Plan, Work};

/// The limits of a plan's steps, and those that hold for all of them.
#[derive(Debug)]
pub struct StepRates {
    /// By node.
    steps: Vec<Option<Arc<[Arc<Bucket>]>>>,
    all: bool,
}

impl StepRates {
    /// The limits of each step of a plan with those that hold `for_all` of them; `None` when nothing is limited.
    ///
    /// # Errors
    /// [`RateLimitError`] when a limit can't be kept, or is defined differently elsewhere.
    pub fn of<C>(
        registry: &Registry,
        plan: &Plan<C>,
        for_all: &[RateLimit],
        now: Time,
    ) -> Result<Option<Self>, RateLimitError> {
        let steps = plan.nodes().map(|(_, node)| match &node.kind {
            // It calls no agent itself, and yet a plugin may ask for one in its place.
            Kind::Step(step) if matches!(step.work, Work::Body(_)) && !step.rates.is_empty() => {
                Err(RateLimitError::NoAgent {
                    step: Arc::clone(&node.name),
                    name: Arc::clone(&step.rates[0].name),
                })
            }
            Kind::Step(step) if !(step.rates.is_empty() && for_all.is_empty()) => {
                registry.buckets(step.rates.iter().chain(for_all), now).map(Some)
            }
            _ => Ok(None),
        });
        let steps: Vec<_> = steps.collect::<Result<_, _>>()?;
        let all = !for_all.is_empty();
        Ok(steps.iter().any(Option::is_some).then_some(Self { steps, all }))
    }

    /// Whether some limit holds for all steps.
    pub fn hold_for_all(&self) -> bool {
        self.all
    }

    /// Those of one step's limits, and the agent's own, when a plugin asked for another agent at this step.
    ///
    /// # Errors
    /// [`RateLimitError`] when the agent's limit can't be kept, or is defined differently elsewhere.
    pub fn with_own(
        registry: &Registry,
        step: &[Arc<Bucket>],
        own: &RateLimit,
        now: Time,
    ) -> Result<Arc<[Arc<Bucket>]>, RateLimitError> {
        registry.buckets(step.iter().map(|bucket| bucket.limit()).chain([own]), now)
    }

    /// Those of one step, in the order in which they are to be passed.
    pub fn step(&self, node: NodeId) -> Arc<[Arc<Bucket>]> {
        let found = self.steps.get(node.0 as usize).and_then(Option::as_ref);
        found.map_or_else(|| Arc::from([]), Arc::clone)
    }
}
