//! How many calls may be made in a minute, and how many at once: by name, over all branches and runs that share it.
//!
//! A [`RateLimit`] is what somebody declares. A [`Bucket`] is what is known about it: what was let through lately, who
//! waits, in which order. An [`Admission`] is the way of one call through all its limits. Nothing here waits or reads a
//! clock: the time is handed in, in nanoseconds, and whoever has to wait is told until when and woken when it may be
//! sooner.
//!
//! A limit of 60 a minute lets no more than 60 requests arrive in any minute, and it lets them begin at once. Since nobody
//! here knows when a request arrives, it counts until a minute after its end, or six seconds and a minute after its
//! beginning where it takes longer. Tokens are counted as expected and corrected to what was used. Who asked first goes
//! first.
//!
//! A limit may be shared with other processes by a [`SharedCount`]: whoever is first in the line here is then let through by
//! it as well.
//!
//! This isn't one of the crates that shape traffic (such as `governor`, the generic cell rate algorithm): those neither
//! correct what a call was expected to use, nor hold everybody back when a server says so, nor keep an order, and their
//! bursts come on top of the rate, which a server that counts by the minute refuses.
//!
//! ```
//! use std::sync::Arc;
//! use std::task::Waker;
//! use flujo_core::rate::{Admission, Bucket, RateLimit, Turn};
//!
//! let two_a_minute = RateLimit::new("model").requests_per_minute(2.0).checked()?;
//! let limits: Arc<[_]> = Arc::from([Arc::new(Bucket::new(two_a_minute))]);
//! let call = || Admission::new(Arc::clone(&limits), 0);
//! let (mut one, mut two, mut three) = (call(), call(), call());
//! let second = 1_000_000_000;
//! assert_eq!((one.poll(0, Waker::noop()), two.poll(0, Waker::noop())), (Turn::Admitted, Turn::Admitted));
//! one.settle(0, None, 2 * second); // it took two seconds
//! assert_eq!(three.poll(3 * second, Waker::noop()), Turn::Wait(Some(62 * second)));
//! # Ok::<(), flujo_core::rate::RateLimitError>(())
//! ```

mod admission;
mod bucket;
mod registry;
mod sharing;
mod steps;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use admission::{Admission, Turn};
pub use bucket::Bucket;
pub use registry::Registry;
pub use sharing::{ALONE, Answer, CallEnd, SharedCount, Sharing, Verdict};
pub use steps::StepRates;

/// How many calls may be made. Whatever has the same name shares it. What is `None` is not limited.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Tells it from others.
    pub name: Arc<str>,
    /// Calls that begin in a minute, at most.
    #[serde(default)]
    pub requests_per_minute: Option<f64>,
    /// Tokens of calls that begin in a minute, at most: as expected, and as used once that is known.
    #[serde(default)]
    pub tokens_per_minute: Option<f64>,
    /// Calls under way at the same time, at most.
    #[serde(default)]
    pub max_concurrent: Option<u32>,
    /// Who keeps the count for several processes; `None` is this process by itself.
    #[serde(skip)]
    pub shared: Option<Sharing>,
}

/// Why a rate limit can't be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RateLimitError {
    /// A rate is zero, negative, not finite, or more than can be counted.
    #[error(
        "rate limit `{name}`: {field} must be a number above 0 and at most 1e15, not {value}: leave it out where it \
         isn't limited"
    )]
    Rate {
        /// The limit's name.
        name: Arc<str>,
        /// The field.
        field: &'static str,
        /// What it holds.
        value: f64,
    },
    /// No call could ever be made.
    #[error(
        "rate limit `{name}`: max_concurrent must be at least 1, not 0: leave it out where it isn't limited"
    )]
    NoneAtOnce {
        /// The limit's name.
        name: Arc<str>,
    },
    /// Nothing is limited.
    #[error(
        "rate limit `{name}` limits nothing: give it requests_per_minute, tokens_per_minute or max_concurrent"
    )]
    Nothing {
        /// The limit's name.
        name: Arc<str>,
    },
    /// It has no name.
    #[error("a rate limit needs a name: what has the same name shares it")]
    Nameless,
    /// Only calls of an agent have a rate.
    #[error(
        "step `{step}` calls no agent itself: give the rate limit `{name}` to the steps inside of it, to their agents or to \
         the runner"
    )]
    NoAgent {
        /// The step.
        step: Arc<str>,
        /// The limit's name.
        name: Arc<str>,
    },
    /// Two limits of one name say different things.
    #[error(
        "rate limit `{name}` is defined as {wanted} here and as {known} elsewhere: define it once and share it, or give \
         it another name"
    )]
    Conflict {
        /// The limit's name.
        name: Arc<str>,
        /// What was defined first.
        known: String,
        /// What is defined here.
        wanted: String,
    },
}

const MOST: f64 = 1e15;

impl RateLimit {
    /// A limit of this name that limits nothing yet.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            requests_per_minute: None,
            tokens_per_minute: None,
            max_concurrent: None,
            shared: None,
        }
    }

    /// The same with so many calls a minute, at most.
    #[must_use]
    pub fn requests_per_minute(mut self, requests: impl Into<f64>) -> Self {
        self.requests_per_minute = Some(requests.into());
        self
    }

    /// The same with so many tokens a minute, at most.
    #[must_use]
    pub fn tokens_per_minute(mut self, tokens: impl Into<f64>) -> Self {
        self.tokens_per_minute = Some(tokens.into());
        self
    }

    /// The same with so many calls at the same time, at most.
    #[must_use]
    pub fn max_concurrent(mut self, calls: u32) -> Self {
        self.max_concurrent = Some(calls);
        self
    }

    /// The same over all processes that let `count` keep it.
    #[must_use]
    pub fn shared_by(mut self, count: Arc<dyn SharedCount>) -> Self {
        self.shared = Some(Sharing(count));
        self
    }

    /// The limit, if it can be kept.
    ///
    /// # Errors
    /// [`RateLimitError`] for a rate that is zero, negative, NaN or infinite, and for a limit of nothing.
    pub fn checked(self) -> Result<Self, RateLimitError> {
        if self.name.is_empty() {
            return Err(RateLimitError::Nameless);
        }
        let name = || Arc::clone(&self.name);
        let rates = [
            ("requests_per_minute", self.requests_per_minute),
            ("tokens_per_minute", self.tokens_per_minute),
        ];
        for (field, rate) in rates {
            if let Some(value) = rate.filter(|rate| !(*rate > 0.0 && *rate <= MOST)) {
                let name = name();
                return Err(RateLimitError::Rate { name, field, value });
            }
        }
        match self.max_concurrent {
            Some(0) => Err(RateLimitError::NoneAtOnce { name: name() }),
            None if rates.iter().all(|(_, rate)| rate.is_none()) => {
                Err(RateLimitError::Nothing { name: name() })
            }
            _ => Ok(self),
        }
    }

    /// What it limits, for messages.
    fn described(&self) -> String {
        let rate = |rate: Option<f64>, unit| rate.map(|rate| format!("{rate} {unit} a minute"));
        let at_once = self.max_concurrent.map(|calls| format!("{calls} at once"));
        let parts = [
            rate(self.requests_per_minute, "requests"),
            rate(self.tokens_per_minute, "tokens"),
            at_once,
            self.shared
                .as_ref()
                .map(|shared| format!("counted by {}", shared.0.name())),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }
}
