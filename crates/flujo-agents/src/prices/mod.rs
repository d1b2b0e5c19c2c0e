//! Prices of models, from the table `[cost]` of a `flujo.toml`.
//!
//! ```toml
//! [cost.providers.openai.gpt-4o]
//! prompt_tokens_per_1k = 0.0025
//! completion_tokens_per_1k = 0.01
//! ```
//!
//! A price that nobody has given isn't zero: [`Prices::of`] says `None`, and a run whose cost is limited is refused.

mod file;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::chat::Price;

/// The name of the file that settings and prices are in.
const NAME: &str = "flujo.toml";

/// What models cost, by provider and name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prices {
    providers: BTreeMap<String, BTreeMap<String, Price>>,
    strict: bool,
}

/// Why prices can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PricesError {
    /// The file can't be read at all.
    #[error("`{}` can't be read: {reason}; make it UTF-8 text that you may read, or remove it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Something in it can't be used.
    #[error("{}", in_lines(path, faults))]
    Faults {
        /// The file.
        path: PathBuf,
        /// All that is wrong, in the order of lines.
        faults: Vec<PriceFault>,
    },
}

/// One thing that is wrong with prices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceFault {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// The key, its value, and what is wrong with it.
    pub message: String,
    /// What is allowed.
    pub hint: String,
}

impl fmt::Display for PriceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.hint)
    }
}

fn in_lines(path: &Path, faults: &[PriceFault]) -> String {
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| format!("{}:{}: {fault}", path.display(), fault.line))
        .collect();
    lines.join("\n")
}

impl Prices {
    /// The file that holds in a folder: its own `flujo.toml`, or that of the closest folder above.
    pub fn nearest_file(folder: &Path) -> Option<PathBuf> {
        let mut files = folder.ancestors().map(|folder| folder.join(NAME));
        files.find(|path| path.is_file())
    }

    /// The prices that hold in a folder; none where there is no file.
    ///
    /// # Errors
    /// As [`Prices::read`].
    pub fn nearest(folder: &Path) -> Result<Self, PricesError> {
        Self::nearest_file(folder).map_or_else(|| Ok(Self::default()), |path| Self::read(&path))
    }

    /// The prices in a file. What else it holds is left alone.
    ///
    /// # Errors
    /// [`PricesError`] when the file can't be read, isn't TOML, or has a price that is no number of dollars, is negative,
    /// infinite, not a number or only half given.
    pub fn read(path: &Path) -> Result<Self, PricesError> {
        let text = std::fs::read_to_string(path).map_err(|error| PricesError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Self::parse(path, &text)
    }

    /// The prices in the text of a file; `path` names it in errors.
    ///
    /// # Errors
    /// As [`Prices::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, PricesError> {
        file::parse(text).map_err(|faults| PricesError::Faults {
            path: path.to_owned(),
            faults,
        })
    }

    /// Whether no model has a price, and none has to.
    pub fn is_empty(&self) -> bool {
        !self.strict && self.providers.is_empty()
    }

    /// Whether a model without a price is refused even where cost isn't limited: `strict = true`.
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// The price of a model. Without a provider it's that of the only one that has such a model, or of the one that the
    /// name begins with, as in `openai:gpt-4o`. Of two different prices neither is taken.
    pub fn of(&self, provider: Option<&str>, model: &str) -> Option<Price> {
        if let Some(provider) = provider {
            return self.providers.get(provider)?.get(model).copied();
        }
        let mut known = self.providers.values().filter_map(|models| models.get(model));
        if let Some(price) = known.next() {
            return known.all(|other| other == price).then_some(*price);
        }
        let (provider, model) = model.split_once(':')?;
        self.of(Some(provider), model)
    }
}
