//! Both twins measured in turn, so that what the machine does meanwhile falls on both.

use std::borrow::Cow;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Samples of each twin.
    pub pairs: usize,
    /// The optimised twin's work is done so many times where once would do: to see that a claim can fail.
    pub repeated: u32,
}

impl Effort {
    /// What a claim is judged by: 30 samples of each twin.
    pub const FULL: Self = Self {
        pairs: 30,
        repeated: 1,
    };
    /// To see that a claim can be measured at all.
    pub const QUICK: Self = Self {
        pairs: 6,
        repeated: 1,
    };

    /// Measures both in turn, each first every other time. The closures give a figure of their work, such as nanoseconds
    /// for each step.
    pub fn compare(self, mut plain: impl FnMut() -> f64, mut optimized: impl FnMut() -> f64) -> Comparison {
        // The first time pays for what is made once.
        let _ = (plain(), optimized());
        let mut optimized = || (0..self.repeated.max(1)).map(|_| optimized()).sum::<f64>();
        let mut comparison = Comparison::default();
        for pair in 0..self.pairs.max(1) {
            let (before, after) = if pair % 2 == 0 {
                let before = plain();
                (before, optimized())
            } else {
                let after = optimized();
                (plain(), after)
            };
            comparison.plain.push(before);
            comparison.optimized.push(after);
        }
        comparison
    }

    /// As many samples of something else.
    pub fn sample(self, mut figure: impl FnMut() -> f64) -> Vec<f64> {
        let _ = figure();
        (0..self.pairs.max(1)).map(|_| figure()).collect()
    }
}

/// Figures of both twins, the n-th of each measured side by side.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// Of the plain twin.
    pub plain: Vec<f64>,
    /// Of the optimised twin.
    pub optimized: Vec<f64>,
    /// Of something outside Flujo that does what the plain twin does: its name and figures.
    pub reference: Option<(Cow<'static, str>, Vec<f64>)>,
}

impl Comparison {
    /// With figures of something outside Flujo.
    #[must_use]
    pub fn beside(mut self, name: &'static str, figures: Vec<f64>) -> Self {
        self.reference = Some((Cow::Borrowed(name), figures));
        self
    }

    /// What the optimised twin is of the plain one, pair by pair.
    pub fn ratios(&self) -> Vec<f64> {
        let pairs = self.plain.iter().zip(&self.optimized);
        pairs.map(|(plain, optimized)| optimized / plain).collect()
    }
}
