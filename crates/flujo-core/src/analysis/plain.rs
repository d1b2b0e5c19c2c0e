//! The plain way: each run analyses its pipeline.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Analysis;
use crate::stats::AnalysisStats;

/// Knows nothing.
#[derive(Debug, Default)]
pub struct PlainAnalysis {
    analyses: AtomicU64,
}

impl<P> Analysis<P> for PlainAnalysis {
    fn of<E>(&self, _version: u64, analyse: impl FnOnce() -> Result<P, E>) -> Result<P, E> {
        let made = analyse()?;
        self.analyses.fetch_add(1, Ordering::Relaxed);
        Ok(made)
    }

    fn statistics(&self) -> AnalysisStats {
        AnalysisStats {
            analyses: self.analyses.load(Ordering::Relaxed),
            ..AnalysisStats::default()
        }
    }

    fn reset(&self) {
        self.analyses.store(0, Ordering::Relaxed);
    }
}
