//! The obvious monitor: tables behind a lock.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Change, LOOKUPS, Monitor, MonitorStats};
use crate::stats::StepSlot;

/// Keeps which thresholds are crossed in tables behind one lock.
#[derive(Debug, Default)]
pub struct PlainMonitor {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    slow: HashSet<StepSlot>,
    missing: HashSet<StepSlot>,
    grown: HashSet<()>,
    /// Hits and look-ups of the hundred that is under way.
    lookups: HashMap<StepSlot, (u32, u32)>,
    records: u64,
    crossings: u64,
}

impl Seen {
    fn judge<K: Eq + Hash>(bad: &mut HashSet<K>, crossings: &mut u64, key: K, is_bad: bool) -> Change {
        let was_bad = if is_bad {
            !bad.insert(key)
        } else {
            bad.remove(&key)
        };
        *crossings += u64::from(is_bad && !was_bad);
        Change::between(was_bad, is_bad)
    }
}

impl PlainMonitor {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        // Nothing of somebody else's runs under the lock.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Monitor for PlainMonitor {
    fn took(&self, step: StepSlot, latency: u64, limit: u64) -> Change {
        let mut seen = self.lock();
        let seen = &mut *seen;
        seen.records += 1;
        Seen::judge(&mut seen.slow, &mut seen.crossings, step, latency > limit)
    }

    fn looked_up(&self, step: StepSlot, hit: bool, least: f64) -> (Change, f64) {
        let mut seen = self.lock();
        let seen = &mut *seen;
        seen.records += 1;
        let (hits, lookups) = seen.lookups.entry(step).or_default();
        *hits += u32::from(hit);
        *lookups += 1;
        if *lookups < LOOKUPS {
            return (Change::Stays, 0.0);
        }
        let share = f64::from(*hits) / f64::from(LOOKUPS);
        (*hits, *lookups) = (0, 0);
        let change = Seen::judge(&mut seen.missing, &mut seen.crossings, step, share < least);
        (change, share)
    }

    fn grew(&self, bytes: u64, limit: u64) -> Change {
        let mut seen = self.lock();
        let seen = &mut *seen;
        seen.records += 1;
        Seen::judge(&mut seen.grown, &mut seen.crossings, (), bytes > limit)
    }

    fn is_alarmed(&self) -> bool {
        !self.lock().slow.is_empty()
    }

    fn statistics(&self) -> MonitorStats {
        let seen = self.lock();
        MonitorStats {
            records: seen.records,
            crossings: seen.crossings,
            alarmed: (seen.slow.len() + seen.missing.len() + seen.grown.len()) as u64,
        }
    }

    fn reset(&self) {
        *self.lock() = Seen::default();
    }
}
