//! What a runner counts of its runs beside their times: look-ups in caches, and what contexts cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::context::CloneCounts;

/// How often results were found in the cache.
#[derive(Default)]
pub(super) struct CachedCounts {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
}

impl CachedCounts {
    pub(super) fn looked_up(&self, hit: bool) {
        let count = if hit { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often contexts were isolated and merged.
#[derive(Default)]
pub(crate) struct ContextCounts {
    pub(crate) forks: AtomicU64,
    pub(crate) merges: AtomicU64,
    pub(crate) conflicts: AtomicU64,
    pub(super) clones: Arc<CloneCounts>,
}

impl ContextCounts {
    pub(super) fn reset(&self) {
        let clones = &self.clones;
        for count in [
            &self.forks,
            &self.merges,
            &self.conflicts,
            &clones.fields,
            &clones.bytes,
        ] {
            count.store(0, Ordering::Relaxed);
        }
    }
}
