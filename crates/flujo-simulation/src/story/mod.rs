//! Cases written by hand, so that a test reads like a story:
//!
//! ```
//! use flujo_simulation::story::{step, story};
//!
//! story([step("draft").adds(1).fails(2).retries(3), step("review")])
//!     .run(1)
//!     .completed(2)
//!     .calls("draft", 3)
//!     .calls("review", 1);
//! ```
//!
//! Times are in virtual milliseconds.
#![allow(clippy::missing_panics_doc)] // an expectation that does not hold fails its test
#![allow(clippy::return_self_not_must_use)] // a story ends with its last expectation

mod constructs;
mod step;
mod told;

use flujo_core::rate::RateLimit;
use flujo_core::usage::{Cost, UsageLimits};

pub use constructs::*;
pub use step::{Step, step};
pub use told::Told;

use crate::{Act, Case, Context, Does, Object, Script, Simulation, Spec, Stuck, Ties};

const MILLISECOND: u64 = 1_000_000;

impl<T: Into<Spec>, const N: usize> From<[T; N]> for Spec {
    fn from(parts: [T; N]) -> Self {
        Self::Sequence(parts.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Spec>> From<Vec<T>> for Spec {
    fn from(parts: Vec<T>) -> Self {
        Self::Sequence(parts.into_iter().map(Into::into).collect())
    }
}

/// A part of a sequence, where parts of different kinds stand together.
pub fn part(part: impl Into<Spec>) -> Spec {
    part.into()
}

/// Scripts whose acts differ from call to call.
pub fn calls<const N: usize>(acts: [Does; N]) -> Script {
    Script {
        acts: acts
            .into_iter()
            .map(|does| Act {
                does,
                ..Act::default()
            })
            .collect(),
    }
}

/// An error that may be retried.
pub fn fail() -> Does {
    Does::Fail {
        permanent: false,
        retry_after: None,
    }
}

/// A case to be run.
#[derive(Debug, Clone)]
pub struct Story(pub Case);

/// The story of a pipeline.
pub fn story(pipeline: impl Into<Spec>) -> Story {
    Story(Case::new(pipeline, Object::Null))
}

impl Story {
    /// The interleaving's seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.schedule.seed = seed;
        self
    }

    /// Which of what is due at the same time comes first.
    pub fn ties(mut self, ties: Ties) -> Self {
        self.0.schedule.ties = ties;
        self
    }

    /// The context it starts with.
    pub fn context<const N: usize>(mut self, fields: [(&str, Object); N]) -> Self {
        self.0.context = Context::from(fields);
        self
    }

    /// Hooks are told, and do this.
    pub fn hooks(mut self, script: impl Into<Script>) -> Self {
        self.0.hooks = true;
        self.0.hook = script.into();
        self
    }

    /// At most this many tokens.
    pub fn token_limit(mut self, tokens: u64) -> Self {
        self.0.limits = UsageLimits {
            tokens: Some(tokens),
            ..UsageLimits::default()
        };
        self
    }

    /// Every call of an agent has to be let through by this limit.
    pub fn rate(mut self, limit: RateLimit) -> Self {
        self.0.rates.push(limit);
        self
    }

    /// Every call of the agent that plugins ask for by this identity has to be let through by this limit.
    pub fn agent_rate(mut self, identity: u64, limit: RateLimit) -> Self {
        self.0.agent_rates.insert(identity, limit);
        self
    }

    /// The run may cost at most nothing.
    pub fn cost_limit(mut self) -> Self {
        self.0.limits = UsageLimits {
            cost: Some(Cost::ZERO),
            ..UsageLimits::default()
        };
        self
    }

    /// The deadline of the run.
    pub fn deadline(mut self, milliseconds: u64) -> Self {
        self.0.deadline = Some(milliseconds * MILLISECOND);
        self
    }

    /// Cancelled after this many commands.
    pub fn cancel_after(mut self, commands: u32) -> Self {
        self.0.schedule.cancel_after = Some(commands);
        self
    }

    /// Saved and restored after each of these numbers of commands.
    pub fn save_after(mut self, commands: impl IntoIterator<Item = u32>) -> Self {
        self.0.schedule.save_after = commands.into_iter().collect();
        self
    }

    /// Runs it.
    #[track_caller]
    pub fn run(mut self, input: impl Into<Object>) -> Told {
        self.0.input = input.into();
        self.told(Simulation::new(&self.0))
    }

    /// Goes on with a run that was stopped, as this story says.
    #[track_caller]
    pub fn go_on(&self, stopped: Told) -> Told {
        self.told(Simulation::going_on(&self.0, stopped.ran))
    }

    #[track_caller]
    fn told(&self, simulation: Result<Simulation, Stuck>) -> Told {
        let plan = self.0.plan();
        let ran = simulation.and_then(Simulation::run);
        match (plan, ran) {
            (Ok(plan), Ok(ran)) => Told { plan, ran },
            (plan, ran) => unreachable!("the story does not end: {:?} {:?}", plan.err(), ran.err()),
        }
    }
}
