//! What is promised, what was measured, and whether it holds.

use serde::Serialize;

use crate::{Comparison, Median};

/// What a row promises.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Promise {
    /// The optimised twin's figure is smaller by these shares of the plain one's.
    Less {
        /// What the seed says.
        seed: f64,
        /// What we aim at.
        target: f64,
    },
    /// The optimised twin does more in a second, by these shares of the plain one's rate. What is measured are seconds for
    /// one; what is shown is how many in a second.
    More {
        /// What the seed says.
        seed: f64,
        /// What we aim at.
        target: f64,
    },
    /// The optimised twin's figure is at most this; the seed gives no number.
    AtMost(f64),
}

/// Where a row was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Host {
    /// On tokio.
    Rust,
    /// On asyncio.
    Python,
}

/// A row of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Claim {
    /// What is claimed.
    pub name: String,
    /// The optimised part, or `all`.
    pub part: String,
    /// Where it was measured.
    pub host: Host,
    /// What the seed says, as a share of the plain twin's figure (0.25 is 25 %); `None` where it gives no number.
    pub seed: Option<f64>,
    /// What we aim at, as a share of the plain twin's figure; where the seed gives no number, the largest figure.
    pub target: f64,
    /// The plain twin's figure, the median.
    pub plain: f64,
    /// The optimised twin's figure, the median.
    pub optimized: f64,
    /// Of both figures.
    pub unit: String,
    /// What the optimised twin earns, as a share of the plain twin's figure: the median of the pairs.
    pub difference: f64,
    /// Between which values the difference lies with 95 % confidence; where the seed gives no number, the optimised twin's
    /// figure.
    pub interval: (f64, f64),
    /// Whether the whole interval lies beyond what the seed says.
    pub holds: bool,
    /// Whether the whole interval lies beyond what we aim at.
    pub reaches_target: bool,
    /// What the plain twin is of something outside Flujo that does the same.
    pub reference: Option<Reference>,
}

/// The plain twin beside something outside Flujo that does the same.
#[derive(Debug, Clone, Serialize)]
pub struct Reference {
    /// What.
    pub name: String,
    /// Its figure, the median.
    pub figure: f64,
    /// How many times as much the plain twin costs.
    pub ratio: f64,
    /// Whether the plain twin is as good, within 1.2 times.
    pub holds: bool,
}

/// Nothing was measured, or something that is no number.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("`{name}` could not be measured: {why}")]
pub struct NotMeasured {
    /// What is claimed.
    pub name: String,
    /// Why.
    pub why: String,
}

/// The most that the plain twin may cost of what does the same outside.
const AS_GOOD: f64 = 1.2;

impl Claim {
    /// Judges what was measured.
    ///
    /// # Errors
    /// [`NotMeasured`] when there are no figures of both twins, or some that are no positive numbers.
    pub fn judge(
        name: &str,
        part: &str,
        host: Host,
        unit: &str,
        promise: Promise,
        measured: &Comparison,
    ) -> Result<Self, NotMeasured> {
        let missing = |why: &str| NotMeasured {
            name: name.to_owned(),
            why: why.to_owned(),
        };
        let figures = |figures: &[f64], whose: &str| {
            let usable = figures.iter().all(|figure| figure.is_finite() && *figure >= 0.0);
            let median = Median::of(figures).filter(|_| usable);
            median.ok_or_else(|| missing(&format!("the figures of {whose} are {figures:?}")))
        };
        if measured.plain.len() != measured.optimized.len() || measured.plain.contains(&0.0) {
            return Err(missing(
                "the twins were not measured in pairs of positive figures",
            ));
        }
        let shown = |figures: &[f64]| -> Vec<f64> {
            match promise {
                Promise::Less { .. } | Promise::AtMost(_) => figures.to_vec(),
                Promise::More { .. } => figures.iter().map(|seconds| seconds.recip()).collect(),
            }
        };
        let plain = figures(&shown(&measured.plain), "the plain twin")?;
        let optimized = figures(&shown(&measured.optimized), "the optimized twin")?;
        let earned: Vec<f64> = match promise {
            Promise::Less { .. } | Promise::AtMost(_) => {
                measured.ratios().iter().map(|ratio| 1.0 - ratio).collect()
            }
            Promise::More { .. } => measured
                .ratios()
                .iter()
                .map(|ratio| ratio.recip() - 1.0)
                .collect(),
        };
        let difference =
            figures_of_difference(&earned).ok_or_else(|| missing("the differences are no numbers"))?;
        let (seed, target, interval, holds, reaches_target) = match promise {
            Promise::Less { seed, target } | Promise::More { seed, target } => {
                let interval = (difference.low, difference.high);
                (
                    Some(seed),
                    target,
                    interval,
                    difference.low > seed,
                    difference.low >= target,
                )
            }
            Promise::AtMost(most) => {
                let within = optimized.high <= most;
                (None, most, (optimized.low, optimized.high), within, within)
            }
        };
        let reference = match &measured.reference {
            None => None,
            Some((outside, sample)) => {
                let figure = figures(&shown(sample), outside)?.value;
                let ratio = match promise {
                    Promise::More { .. } => figure / plain.value,
                    Promise::Less { .. } | Promise::AtMost(_) => plain.value / figure,
                };
                Some(Reference {
                    name: outside.to_string(),
                    figure,
                    ratio,
                    holds: ratio <= AS_GOOD,
                })
            }
        };
        Ok(Self {
            name: name.to_owned(),
            part: part.to_owned(),
            host,
            seed,
            target,
            plain: plain.value,
            optimized: optimized.value,
            unit: unit.to_owned(),
            difference: difference.value,
            interval,
            holds,
            reaches_target,
            reference,
        })
    }
}

fn figures_of_difference(earned: &[f64]) -> Option<Median> {
    Median::of(earned).filter(|median| median.value.is_finite())
}
