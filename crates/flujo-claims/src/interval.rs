//! The median of a sample and an interval for it that supposes nothing about the distribution.

/// The middle of a sample, and between which values the middle of everything lies with at least 95 % confidence.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Median {
    /// The middle value.
    pub value: f64,
    /// The lower bound.
    pub low: f64,
    /// The upper bound.
    pub high: f64,
}

impl Median {
    /// Of a sample; `None` of an empty one or one with a value that is no number.
    ///
    /// The bounds are the order statistics whose ranks the binomial distribution of "how many of the sample lie below the
    /// median" gives (David and Nagaraja, *Order Statistics*, 3rd ed., section 7.1). Below 6 values no ranks reach 95 %, and
    /// the bounds are the smallest and the largest.
    pub fn of(sample: &[f64]) -> Option<Self> {
        if sample.is_empty() || sample.iter().any(|value| value.is_nan()) {
            return None;
        }
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        let outside = ranks_outside(sorted.len());
        Some(Self {
            value: middle(&sorted),
            low: sorted[outside],
            high: sorted[sorted.len() - 1 - outside],
        })
    }
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[half]
    } else {
        f64::midpoint(sorted[half - 1], sorted[half])
    }
}

/// How many values may be left out at each end, so that both tails together have at most 5 %.
fn ranks_outside(size: usize) -> usize {
    let mut probability = 0.5_f64.powi(i32::try_from(size).unwrap_or(i32::MAX));
    let mut tail = 0.0;
    for below in 0..size / 2 {
        tail += probability; // at most `below` values of the sample lie below the median
        if tail > 0.025 {
            return below.saturating_sub(1);
        }
        #[allow(clippy::cast_precision_loss)] // of small numbers
        let next = (size - below) as f64 / (below + 1) as f64;
        probability *= next;
    }
    0 // of one value
}

#[cfg(test)]
mod tests;
