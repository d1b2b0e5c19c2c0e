//! Analysis of steps: what is known about a pipeline before it runs, made anew for each run or kept until the pipeline
//! changes.
//!
//! What an analysis is belongs to the host: a plan and what it keeps beside it. Nothing is kept by name or address: an
//! analysis belongs to the runner whose pipeline it is of, and is told apart by a version that counts its changes.

mod optimized;
mod plain;
#[cfg(test)]
mod tests;

pub use optimized::OptimizedAnalysis;
pub use plain::PlainAnalysis;

use crate::config::Twin;
use crate::stats::AnalysisStats;

/// Gives the analysis of a definition that changes now and then.
pub trait Analysis<P> {
    /// The analysis of the definition as it is at `version`, by `analyse` unless it is known. `analyse` is called
    /// without a lock, and may give what is known already, when something else has changed.
    ///
    /// # Errors
    /// What `analyse` gives.
    fn of<E>(&self, version: u64, analyse: impl FnOnce() -> Result<P, E>) -> Result<P, E>;

    /// How often it analysed, and how often it didn't need to.
    fn statistics(&self) -> AnalysisStats;

    /// Counts anew; what is known stays known.
    fn reset(&self);
}

/// Both twins; a run uses the one that it starts with.
#[derive(Debug)]
pub struct Analyses<P> {
    plain: PlainAnalysis,
    optimized: OptimizedAnalysis<P>,
}

impl<P: Clone> Analyses<P> {
    /// Nothing is known yet. `same` tells whether two analyses are one.
    pub fn new(same: fn(&P, &P) -> bool) -> Self {
        Self {
            plain: PlainAnalysis::default(),
            optimized: OptimizedAnalysis::new(same),
        }
    }

    /// See [`Analysis::of`].
    ///
    /// # Errors
    /// What `analyse` gives.
    pub fn of<E>(&self, twin: Twin, version: u64, analyse: impl FnOnce() -> Result<P, E>) -> Result<P, E> {
        match twin {
            Twin::Plain => Analysis::of(&self.plain, version, analyse),
            Twin::Optimized => self.optimized.of(version, analyse),
        }
    }

    /// What is known, of whatever version.
    pub fn known(&self) -> Option<P> {
        self.optimized.known()
    }

    /// Gives up what is known, which turned out to be no good.
    pub fn forget(&self) {
        self.optimized.forget();
    }

    /// Both twins' counts together.
    pub fn statistics(&self) -> AnalysisStats {
        let plain = Analysis::<P>::statistics(&self.plain);
        let optimized = self.optimized.statistics();
        AnalysisStats {
            analyses: plain.analyses + optimized.analyses,
            reuses: optimized.reuses,
            invalidations: optimized.invalidations,
        }
    }

    /// Counts anew.
    pub fn reset(&self) {
        Analysis::<P>::reset(&self.plain);
        self.optimized.reset();
    }
}
