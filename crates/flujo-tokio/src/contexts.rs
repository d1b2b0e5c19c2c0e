//! How often contexts were isolated and merged, over all runs of a runner.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flujo_core::context::CopyCounts;
use flujo_core::stats::ContextStats;

#[derive(Debug, Default)]
pub(crate) struct ContextCounts {
    forks: AtomicU64,
    merges: AtomicU64,
    conflicts: AtomicU64,
    copies: Arc<CopyCounts>,
}

impl ContextCounts {
    /// Where contexts that are isolated by copying count.
    pub(crate) fn copies(&self) -> &Arc<CopyCounts> {
        &self.copies
    }

    /// A call of user code or a lane has got a context of its own.
    pub(crate) fn forked(&self) {
        self.forks.fetch_add(1, Ordering::Relaxed);
    }

    /// The contexts of lanes were merged, or couldn't be.
    pub(crate) fn merged(&self, succeeded: bool) {
        let count = if succeeded { &self.merges } else { &self.conflicts };
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn stats(&self) -> ContextStats {
        ContextStats {
            forks: self.forks.load(Ordering::Relaxed),
            fields_cloned: self.copies.fields(),
            bytes_cloned: self.copies.bytes(),
            merges: self.merges.load(Ordering::Relaxed),
            conflicts: self.conflicts.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn reset(&self) {
        for count in [&self.forks, &self.merges, &self.conflicts] {
            count.store(0, Ordering::Relaxed);
        }
        self.copies.reset();
    }
}
