//! Resident memory of the process, measured when somebody asks, and now and then in the background while somebody
//! wants to hear of its growth.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use flujo_core::stats::MemoryStats;

/// How often memory is measured in the background.
const EVERY: Duration = Duration::from_millis(500);

/// What is resident now, beside what was when this was made.
#[derive(Debug)]
pub struct Memory {
    at_start: u64,
    peak: AtomicU64,
    /// The process whose background thread measures; another one after a fork, where threads don't come along.
    sampled_by: AtomicU32,
}

/// Who wants to hear what is measured in the background.
pub trait Sampled: Send + Sync + 'static {
    /// Where it is measured.
    fn memory(&self) -> &Memory;

    /// Takes in a measurement.
    fn sampled(&self, stats: MemoryStats);
}

impl Memory {
    /// Counts growth from what is resident now.
    pub fn at_start() -> Self {
        let at_start = resident();
        Self {
            at_start,
            peak: AtomicU64::new(at_start),
            sampled_by: AtomicU32::new(0),
        }
    }

    /// Now, the most there has been, and the growth; zeros where the system doesn't tell. The most is that of the whole
    /// process where the system knows it (Linux), else of what was measured here.
    pub fn stats(&self) -> MemoryStats {
        let current = resident();
        let measured = self.peak.fetch_max(current, Ordering::Relaxed).max(current);
        MemoryStats {
            current_rss_bytes: current,
            peak_rss_bytes: peak_of_process().map_or(measured, |peak| peak.max(current)),
            growth_bytes: current.saturating_sub(self.at_start),
        }
    }

    /// Measures in a thread of its own for as long as `who` lives. Once is enough; after a fork it begins again in the
    /// child when it is asked to.
    pub fn sample<S: Sampled>(who: &Arc<S>) {
        let process = std::process::id();
        if who.memory().sampled_by.swap(process, Ordering::Relaxed) == process {
            return;
        }
        let weak = Arc::downgrade(who);
        let thread = thread::Builder::new().name("flujo-memory".to_owned());
        // Without a thread memory is measured when a run ends.
        let _ = thread.spawn(move || watch(&weak));
    }
}

fn watch<S: Sampled>(who: &Weak<S>) {
    while let Some(who) = who.upgrade() {
        who.sampled(who.memory().stats());
        drop(who);
        thread::sleep(EVERY);
    }
}

fn resident() -> u64 {
    memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as u64)
}

/// What Linux knows.
fn peak_of_process() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = value.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}
