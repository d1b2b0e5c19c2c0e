//! Amounts of usage and the limits set on them.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::{Deserialize, Serialize};

use crate::machine::LimitKind;

/// Money in nano-dollars (10⁻⁹ US dollars).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cost(i64);

/// Why an amount of money was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CostError {
    /// NaN or infinite.
    #[error("a cost must be a finite number of dollars, not {0}")]
    NotFinite(f64),
    /// Below zero.
    #[error("a cost must not be negative, but is {0} dollars")]
    Negative(f64),
    /// Beyond what nano-dollars in 64 bits can hold (about 9.2 billion dollars).
    #[error("a cost of {0} dollars is too large to be counted")]
    TooLarge(f64),
}

impl Cost {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From nano-dollars; `None` for a negative amount.
    pub fn from_nanos(nanos: i64) -> Option<Self> {
        (nanos >= 0).then_some(Self(nanos))
    }

    /// From dollars, rounded to the nearest nano-dollar.
    ///
    /// # Errors
    /// [`CostError`] for a negative, infinite or NaN amount, or one too large to count.
    pub fn from_dollars(dollars: f64) -> Result<Self, CostError> {
        if !dollars.is_finite() {
            return Err(CostError::NotFinite(dollars));
        }
        if dollars < 0.0 {
            return Err(CostError::Negative(dollars));
        }
        let nanos = (dollars * 1e9).round();
        if nanos >= 9.2e18 {
            return Err(CostError::TooLarge(dollars));
        }
        #[allow(clippy::cast_possible_truncation)] // bounded by the check above
        Ok(Self(nanos as i64))
    }

    /// Nano-dollars.
    pub fn nanos(self) -> i64 {
        self.0
    }

    /// Dollars, for display.
    #[allow(clippy::cast_precision_loss)] // a float is asked for
    pub fn dollars(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The sum, held at the largest amount that can be counted.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        write!(f, "${}", text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// What one call, step or run has used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Money spent.
    pub cost: Cost,
    /// Tokens, prompt and completion together.
    pub tokens: u64,
    /// Requests to a model or service.
    pub requests: u64,
    /// Whether some of it has a price that nobody has given: `cost` is then only the part that is known.
    #[serde(default)]
    pub unpriced: bool,
}

impl Usage {
    /// Nothing used.
    pub const ZERO: Self = Self {
        cost: Cost::ZERO,
        tokens: 0,
        requests: 0,
        unpriced: false,
    };

    /// Usage of tokens and money, with no request counted.
    pub fn new(cost: Cost, tokens: u64) -> Self {
        Self {
            cost,
            tokens,
            ..Self::ZERO
        }
    }

    /// What is in it beyond `part`, which is a part of it.
    #[must_use]
    pub fn beyond(self, part: Self) -> Self {
        Self {
            cost: Cost(self.cost.0.saturating_sub(part.cost.0).max(0)),
            tokens: self.tokens.saturating_sub(part.tokens),
            requests: self.requests.saturating_sub(part.requests),
            unpriced: self.unpriced,
        }
    }

    /// Whether nothing was used.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cost: self.cost.saturating_add(other.cost),
            tokens: self.tokens.saturating_add(other.tokens),
            requests: self.requests.saturating_add(other.requests),
            unpriced: self.unpriced || other.unpriced,
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Usage {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

/// The most that may be used. `None` is no limit; exactly at the limit is allowed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageLimits {
    /// Money.
    pub cost: Option<Cost>,
    /// Tokens.
    pub tokens: Option<u64>,
    /// Requests.
    pub requests: Option<u64>,
}

impl UsageLimits {
    /// The first limit that `used` passes; exactly at the limit is allowed. What has no price passes every limit on
    /// cost, since nobody can say that it doesn't.
    pub fn passed_by(&self, used: Usage) -> Option<LimitKind> {
        let over = |limit: Option<u64>, used: u64| limit.is_some_and(|limit| used > limit);
        if self.needs_price_of(used) {
            Some(LimitKind::Price)
        } else if self.cost.is_some_and(|limit| used.cost > limit) {
            Some(LimitKind::Cost)
        } else if over(self.tokens, used.tokens) {
            Some(LimitKind::Tokens)
        } else if over(self.requests, used.requests) {
            Some(LimitKind::Requests)
        } else {
            None
        }
    }

    /// The stricter of both, for each of what is limited.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            one.into_iter().chain(other).min()
        }
        Self {
            cost: least(self.cost, other.cost),
            tokens: least(self.tokens, other.tokens),
            requests: least(self.requests, other.requests),
        }
    }

    /// Whether cost is limited and some of `usage` has no known price.
    pub fn needs_price_of(&self, usage: Usage) -> bool {
        usage.unpriced && self.cost.is_some()
    }

    /// Whether nothing is limited.
    pub fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Cost, CostError};

    #[test]
    fn a_tenth_of_a_dollar_ten_times_is_exactly_a_dollar() {
        let tenth = Cost::from_dollars(0.1).unwrap();
        let sum = (0..10).fold(Cost::ZERO, |sum, _| sum.saturating_add(tenth));
        assert_eq!(sum, Cost::from_dollars(1.0).unwrap());
    }

    #[test]
    fn a_negative_or_unreal_cost_is_refused() {
        assert_eq!(Cost::from_dollars(-1.0), Err(CostError::Negative(-1.0)));
        assert!(matches!(
            Cost::from_dollars(f64::NAN),
            Err(CostError::NotFinite(_))
        ));
        assert!(matches!(
            Cost::from_dollars(f64::INFINITY),
            Err(CostError::NotFinite(_))
        ));
    }

    #[test]
    fn a_cost_is_shown_without_trailing_zeros() {
        assert_eq!(Cost::from_dollars(1.5).unwrap().to_string(), "$1.5");
        assert_eq!(Cost::from_dollars(2.0).unwrap().to_string(), "$2");
        assert_eq!(
            Cost::from_dollars(0.000_000_001).unwrap().to_string(),
            "$0.000000001"
        );
    }
}
