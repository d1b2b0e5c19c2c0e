//! What a runner has been alerted of: the last alerts, and which parts have given way to their plain twins.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::LOOKUPS;
use crate::config::{Part, TwinInUse};
use crate::stats::{Alert, AlertKind, AlertStats};

/// How many alerts are kept; of older ones only their number is.
const KEPT: usize = 100;

/// The alerts of one runner. Shared by all its runs.
///
/// ```
/// use std::time::Duration;
/// use flujo_core::config::Part;
/// use flujo_core::monitor::Alerts;
///
/// let alerts = Alerts::default();
/// let now = Duration::from_secs(1_700_000_000);
/// assert!(alerts.degraded(Part::Cache, "Redis doesn't answer", now).is_some());
/// assert!(alerts.degraded(Part::Cache, "Redis doesn't answer", now).is_none(), "told once");
/// alerts.recovered(Part::Cache);
/// assert!(alerts.degraded(Part::Cache, "Redis doesn't answer", now).is_some());
/// assert_eq!(alerts.kept().len(), 2);
/// ```
#[derive(Debug, Default)]
pub struct Alerts {
    state: Mutex<State>,
    failed_callbacks: AtomicU64,
    skipped_callbacks: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    raised: u64,
    kept: VecDeque<Alert>,
    /// Parts that use their plain twin because the optimised one failed, and why.
    degraded: BTreeMap<Part, Arc<str>>,
}

impl Alerts {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing of somebody else's runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an alert.
    pub fn raise(&self, alert: Alert) {
        self.lock().raise(alert);
    }

    /// Notes that a part has given way to its plain twin. Gives the alert to tell of, and `None` when the same has been
    /// told before and the part hasn't [recovered](Self::recovered) since.
    pub fn degraded(&self, part: Part, reason: &str, now: Duration) -> Option<Alert> {
        let mut state = self.lock();
        if state.degraded.get(&part).is_some_and(|known| **known == *reason) {
            return None;
        }
        state.degraded.insert(part, Arc::from(reason));
        let alert = Alert::degraded(part, reason, now);
        state.raise(alert.clone());
        Some(alert)
    }

    /// Takes in that a part works again, if what was wrong with it was this.
    pub fn recovered_from(&self, part: Part, is: impl FnOnce(&str) -> bool) {
        let mut state = self.lock();
        if state.degraded.get(&part).is_some_and(|reason| is(reason)) {
            state.degraded.remove(&part);
        }
    }

    /// Notes that the optimised twin of a part works again.
    pub fn recovered(&self, part: Part) {
        self.lock().degraded.remove(&part);
    }

    /// The last alerts, oldest first.
    pub fn kept(&self) -> Vec<Alert> {
        self.lock().kept.iter().cloned().collect()
    }

    /// Says in place of what was decided which parts have given way, and why.
    pub fn correct(&self, in_use: &mut BTreeMap<Part, TwinInUse>) {
        for (part, reason) in &self.lock().degraded {
            in_use.insert(*part, TwinInUse::degraded(reason));
        }
    }

    /// Counts a callback that failed.
    pub fn callback_failed(&self) {
        self.failed_callbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an alert that a callback wasn't told of, since it is still busy with earlier ones.
    pub fn callback_skipped(&self) {
        self.skipped_callbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were, and what became of the callbacks.
    pub fn statistics(&self) -> AlertStats {
        AlertStats {
            raised: self.lock().raised,
            callbacks_failed: self.failed_callbacks.load(Ordering::Relaxed),
            callbacks_skipped: self.skipped_callbacks.load(Ordering::Relaxed),
        }
    }

    /// Starts anew. Which parts have given way is no count, and stays.
    pub fn reset(&self) {
        let mut state = self.lock();
        state.raised = 0;
        state.kept.clear();
        drop(state);
        self.failed_callbacks.store(0, Ordering::Relaxed);
        self.skipped_callbacks.store(0, Ordering::Relaxed);
    }
}

impl State {
    fn raise(&mut self, alert: Alert) {
        self.raised += 1;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(alert);
    }
}

impl Alert {
    /// A step took longer than it is allowed, both in nanoseconds.
    pub fn slow(step: &Arc<str>, latency: u64, limit: u64, now: Duration) -> Self {
        let (value, threshold) = (seconds(latency), seconds(limit));
        Self {
            kind: AlertKind::ExecutionTime,
            part: Part::Monitor,
            value: Some(value),
            threshold: Some(threshold),
            step: Some(Arc::clone(step)),
            time: now.as_secs_f64(),
            message: format!("step `{step}` took {value:.3} s, more than the {threshold} s it is watched by"),
        }
    }

    /// Resident memory has grown by more than is allowed, both in bytes.
    pub fn memory(growth: u64, limit: u64, now: Duration) -> Self {
        let (value, threshold) = (megabytes(growth), megabytes(limit));
        Self {
            kind: AlertKind::MemoryUsage,
            part: Part::Monitor,
            value: Some(value),
            threshold: Some(threshold),
            step: None,
            time: now.as_secs_f64(),
            message: format!(
                "resident memory has grown by {value:.1} MB since the runner was made, more than {threshold} MB"
            ),
        }
    }

    /// Too few of a step's look-ups were found in its cache.
    pub fn misses(step: &Arc<str>, share: f64, least: f64, now: Duration) -> Self {
        Self {
            kind: AlertKind::CacheHitRate,
            part: Part::Cache,
            value: Some(share),
            threshold: Some(least),
            step: Some(Arc::clone(step)),
            time: now.as_secs_f64(),
            message: format!(
                "of the last {LOOKUPS} look-ups of step `{step}` {:.0} % were found in its cache, less than {:.0} %",
                share * 100.0,
                least * 100.0
            ),
        }
    }

    /// A part has given way to its plain twin.
    pub fn degraded(part: Part, reason: &str, now: Duration) -> Self {
        Self {
            kind: AlertKind::Degraded,
            part,
            value: None,
            threshold: None,
            step: None,
            time: now.as_secs_f64(),
            message: format!(
                "the optimized {} has failed and its plain form has taken over: {reason}",
                part.name()
            ),
        }
    }
}

#[allow(clippy::cast_precision_loss)] // for people to read
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

#[allow(clippy::cast_precision_loss)] // for people to read
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
