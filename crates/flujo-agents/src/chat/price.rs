//! What tokens cost.

use flujo_core::usage::{Cost, CostError};
use serde::Deserialize;

/// A model's price in US dollars for a million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// For tokens of the prompt.
    pub prompt_per_million: f64,
    /// For tokens of the completion.
    pub completion_per_million: f64,
}

impl Price {
    /// The cost of so many tokens, rounded once to the nearest nano-dollar.
    ///
    /// # Errors
    /// [`CostError`] when the price is negative, infinite or not a number.
    pub fn cost(self, prompt_tokens: u64, completion_tokens: u64) -> Result<Cost, CostError> {
        Ok(Rates::new(self)?.cost(prompt_tokens, completion_tokens))
    }
}

/// A checked price, in exact amounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rates {
    prompt: Cost,
    completion: Cost,
}

impl Rates {
    pub(super) fn new(price: Price) -> Result<Self, CostError> {
        Ok(Self {
            prompt: Cost::from_dollars(price.prompt_per_million)?,
            completion: Cost::from_dollars(price.completion_per_million)?,
        })
    }

    /// The cost of so many tokens, rounded once to the nearest nano-dollar.
    pub(super) fn cost(self, prompt_tokens: u64, completion_tokens: u64) -> Cost {
        let nanos = i128::from(prompt_tokens) * i128::from(self.prompt.nanos())
            + i128::from(completion_tokens) * i128::from(self.completion.nanos());
        let rounded = (nanos + 500_000) / 1_000_000;
        Cost::from_nanos(i64::try_from(rounded).unwrap_or(i64::MAX)).unwrap_or(Cost::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::{Price, Rates};

    #[test]
    fn a_cost_is_exact_to_the_nano_dollar() {
        let rates = Rates::new(Price {
            prompt_per_million: 0.15,
            completion_per_million: 0.6,
        })
        .unwrap();
        assert_eq!(rates.cost(1_000, 500).nanos(), 450_000);
        assert_eq!(rates.cost(1, 0).nanos(), 150);
        assert_eq!(rates.cost(u64::MAX, u64::MAX).nanos(), i64::MAX);
    }
}
