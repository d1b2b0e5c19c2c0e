//! Steps of stories.

use std::time::Duration;

use flujo_core::plan::{Backoff, Rejection};
use flujo_core::rate::RateLimit;
use flujo_core::usage::{Cost, UsageLimits};

use super::MILLISECOND;
use crate::case::{CachedBy, StepSpec, retries};
use crate::{Act, Does, Object, OnCancel, Script, Spec, Write};

/// A step under construction. What is said of the call holds for every attempt, unless said otherwise.
#[derive(Debug, Clone)]
pub struct Step {
    spec: StepSpec,
    act: Act,
    fails: usize,
    permanent: bool,
    retry_after: Option<u64>,
}

/// A step that gives its input, at once, without retries.
pub fn step(name: &str) -> Step {
    Step {
        spec: StepSpec {
            name: name.to_owned(),
            policy: retries(0),
            ..StepSpec::default()
        },
        act: Act::default(),
        fails: 0,
        permanent: false,
        retry_after: None,
    }
}

impl Step {
    /// Its results are kept.
    pub fn cached(mut self, by: CachedBy) -> Self {
        self.spec.cached = Some(by);
        self
    }

    /// Gives this value.
    pub fn returns(mut self, value: impl Into<Object>) -> Self {
        self.act.does = Does::Return(value.into());
        self
    }

    /// Gives its input plus this number.
    pub fn adds(mut self, number: i64) -> Self {
        self.act.does = Does::Add(number);
        self
    }

    /// What comes of the call.
    pub fn does(mut self, does: Does) -> Self {
        self.act.does = does;
        self
    }

    /// The first `times` calls raise an error.
    pub fn fails(mut self, times: usize) -> Self {
        self.fails = times;
        self
    }

    /// Every call raises an error.
    pub fn always_fails(self) -> Self {
        self.fails(usize::MAX)
    }

    /// The error must not be retried.
    pub fn permanently(mut self) -> Self {
        self.permanent = true;
        self
    }

    /// The error asks for a wait.
    pub fn asks_to_wait(mut self, milliseconds: u64) -> Self {
        self.retry_after = Some(milliseconds * MILLISECOND);
        self
    }

    /// A call takes this long.
    pub fn takes(mut self, milliseconds: u64) -> Self {
        self.act.takes = milliseconds * MILLISECOND;
        self
    }

    /// Nothing can end a call early.
    pub fn inline(mut self) -> Self {
        self.act.inline = true;
        self
    }

    /// What a call does when it is told to end early.
    pub fn on_cancel(mut self, on_cancel: OnCancel) -> Self {
        self.act.on_cancel = on_cancel;
        self
    }

    /// A call writes this, also one that fails.
    pub fn writes(mut self, field: &str, value: impl Into<Object>) -> Self {
        self.act.writes.push((field.to_owned(), Write::Set(value.into())));
        self
    }

    /// A call appends this to a list.
    pub fn appends(mut self, field: &str, value: impl Into<Object>) -> Self {
        self.act
            .writes
            .push((field.to_owned(), Write::Append(value.into())));
        self
    }

    /// A call uses this many tokens, also one that fails.
    pub fn uses(mut self, tokens: u64) -> Self {
        self.act.usage.tokens = tokens;
        self
    }

    /// A call is expected to use this many tokens.
    pub fn expects(mut self, tokens: u64) -> Self {
        self.spec.estimate.tokens = tokens;
        self
    }

    /// A call has to be let through by this limit.
    pub fn rate(mut self, limit: RateLimit) -> Self {
        self.spec.rates.push(limit);
        self
    }

    /// Nobody has said what a call costs.
    pub fn unpriced(mut self) -> Self {
        self.spec.estimate.unpriced = true;
        self.uses_unpriced()
    }

    /// A call turns out to have no price.
    pub fn uses_unpriced(mut self) -> Self {
        self.act.usage.unpriced = true;
        self
    }

    /// The step itself may cost at most nothing.
    pub fn own_cost_limit(mut self) -> Self {
        self.spec.limits = Some(UsageLimits {
            cost: Some(Cost::ZERO),
            ..UsageLimits::default()
        });
        self
    }

    /// The step itself may use at most this many tokens.
    pub fn own_token_limit(mut self, tokens: u64) -> Self {
        self.spec.limits = Some(UsageLimits {
            tokens: Some(tokens),
            ..UsageLimits::default()
        });
        self
    }

    /// What it means that a validator rejects.
    pub fn on_rejection(mut self, rejection: Rejection) -> Self {
        self.spec.on_rejection = rejection;
        self
    }

    /// Retries after the first attempt.
    pub fn retries(mut self, times: u32) -> Self {
        self.spec.policy.max_retries = times;
        self
    }

    /// The time limit of one attempt.
    pub fn timeout(mut self, milliseconds: u64) -> Self {
        self.spec.policy.timeout = Some(Duration::from_millis(milliseconds));
        self
    }

    /// The wait between attempts.
    pub fn backoff(mut self, milliseconds: u64) -> Self {
        self.spec.policy.backoff = Backoff::Fixed(Duration::from_millis(milliseconds));
        self
    }

    /// The deadline of the whole step.
    pub fn deadline(mut self, milliseconds: u64) -> Self {
        self.spec.deadline = Some(milliseconds * MILLISECOND);
        self
    }

    /// A prompt processor.
    pub fn prompt(mut self, script: impl Into<Script>) -> Self {
        self.spec.prompt.push(script.into());
        self
    }

    /// An output processor.
    pub fn output(mut self, script: impl Into<Script>) -> Self {
        self.spec.output.push(script.into());
        self
    }

    /// A plugin.
    pub fn plugin(mut self, script: impl Into<Script>) -> Self {
        self.spec.plugins.push(script.into());
        self
    }

    /// A validator.
    pub fn validator(mut self, script: impl Into<Script>) -> Self {
        self.spec.validators.push(script.into());
        self
    }

    /// Writes the output into the field of the step's name.
    pub fn applies(mut self) -> Self {
        self.spec.apply = Some(Script::default());
        self
    }

    /// Writes the output as the script says.
    pub fn applies_with(mut self, script: impl Into<Script>) -> Self {
        self.spec.apply = Some(script.into());
        self
    }

    /// Writes the feedback of a failure into `<name>.feedback`.
    pub fn persists(mut self) -> Self {
        self.spec.persist = Some(Script::default());
        self
    }

    /// This does the work in place of the agent.
    pub fn body(mut self, body: impl Into<Spec>) -> Self {
        self.spec.body = Some(Box::new(body.into()));
        self
    }

    /// Runs when all attempts have failed.
    pub fn fallback(mut self, fallback: impl Into<Spec>) -> Self {
        self.spec.fallback = Some(Box::new(fallback.into()));
        self
    }
}

impl From<Step> for Spec {
    fn from(step: Step) -> Self {
        let mut spec = step.spec;
        let failing = Act {
            does: Does::Fail {
                permanent: step.permanent,
                retry_after: step.retry_after,
            },
            ..step.act.clone()
        };
        spec.agent.acts = if step.fails == usize::MAX {
            vec![failing]
        } else {
            let mut acts = vec![failing; step.fails];
            acts.push(step.act);
            acts
        };
        Self::Step(Box::new(spec))
    }
}
