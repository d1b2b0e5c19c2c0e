//! The monitor without a lock: one bit for each threshold, so that a step that is neither slow nor was slow costs a
//! comparison, a look at its bit and a count.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::{Change, LOOKUPS, Monitor, MonitorStats};
use crate::stats::{MAX_NAMES, StepSlot};

/// A bit for each step name that is kept apart, and one for the rest.
const STEPS: usize = MAX_NAMES + 1;
const WORDS: usize = STEPS.div_ceil(64);

/// Keeps a bit for each threshold.
#[derive(Debug, Default)]
pub struct OptimizedMonitor {
    slow: Bits,
    missing: Bits,
    grown: AtomicBool,
    /// Look-ups of the hundred that is under way by step, hits in the upper half; made when somebody looks something up.
    lookups: OnceLock<Box<[AtomicU32]>>,
    records: AtomicU64,
    crossings: AtomicU64,
}

#[derive(Debug)]
struct Bits([AtomicU64; WORDS]);

impl Default for Bits {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }
}

impl Bits {
    /// Sets or clears a step's bit; whoever changes it is told of the change, and nobody else.
    #[inline]
    fn judge(&self, step: StepSlot, is_bad: bool) -> Change {
        let index = step.index().min(STEPS - 1);
        let (word, bit) = (&self.0[index / 64], 1_u64 << (index % 64));
        if (word.load(Ordering::Relaxed) & bit != 0) == is_bad {
            return Change::Stays;
        }
        let before = if is_bad {
            word.fetch_or(bit, Ordering::Relaxed)
        } else {
            word.fetch_and(!bit, Ordering::Relaxed)
        };
        Change::between(before & bit != 0, is_bad)
    }

    fn count(&self) -> u64 {
        let words = self.0.iter();
        words
            .map(|word| u64::from(word.load(Ordering::Relaxed).count_ones()))
            .sum()
    }

    fn clear(&self) {
        for word in &self.0 {
            word.store(0, Ordering::Relaxed);
        }
    }
}

impl OptimizedMonitor {
    #[inline]
    fn counted(&self, change: Change) -> Change {
        if change == Change::Crossed {
            self.crossings.fetch_add(1, Ordering::Relaxed);
        }
        change
    }
}

impl Monitor for OptimizedMonitor {
    #[inline]
    fn took(&self, step: StepSlot, latency: u64, limit: u64) -> Change {
        self.records.fetch_add(1, Ordering::Relaxed);
        self.counted(self.slow.judge(step, latency > limit))
    }

    fn looked_up(&self, step: StepSlot, hit: bool, least: f64) -> (Change, f64) {
        self.records.fetch_add(1, Ordering::Relaxed);
        let steps = self
            .lookups
            .get_or_init(|| (0..STEPS).map(|_| AtomicU32::new(0)).collect());
        let counts = &steps[step.index().min(STEPS - 1)];
        let one = 1 + (u32::from(hit) << 16);
        let mut full = None;
        // The update never refuses.
        let _ = counts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |counts| {
            let counts = counts + one;
            full = (counts & 0xFFFF == LOOKUPS).then_some(counts >> 16);
            Some(if full.is_some() { 0 } else { counts })
        });
        let Some(hits) = full else {
            return (Change::Stays, 0.0);
        };
        let share = f64::from(hits) / f64::from(LOOKUPS);
        (self.counted(self.missing.judge(step, share < least)), share)
    }

    fn grew(&self, bytes: u64, limit: u64) -> Change {
        self.records.fetch_add(1, Ordering::Relaxed);
        let is_bad = bytes > limit;
        let was_bad = self.grown.swap(is_bad, Ordering::Relaxed);
        self.counted(Change::between(was_bad, is_bad))
    }

    fn is_alarmed(&self) -> bool {
        self.slow.0.iter().any(|word| word.load(Ordering::Relaxed) != 0)
    }

    fn statistics(&self) -> MonitorStats {
        let grown = u64::from(self.grown.load(Ordering::Relaxed));
        MonitorStats {
            records: self.records.load(Ordering::Relaxed),
            crossings: self.crossings.load(Ordering::Relaxed),
            alarmed: self.slow.count() + self.missing.count() + grown,
        }
    }

    fn reset(&self) {
        self.slow.clear();
        self.missing.clear();
        self.grown.store(false, Ordering::Relaxed);
        for counts in self.lookups.get().into_iter().flatten() {
            counts.store(0, Ordering::Relaxed);
        }
        self.records.store(0, Ordering::Relaxed);
        self.crossings.store(0, Ordering::Relaxed);
    }
}
