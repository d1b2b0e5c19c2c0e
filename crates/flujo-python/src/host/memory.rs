//! Resident memory of the process, as the statistics show it.

use flujo_core::stats::MemoryStats;

/// What was resident when the runner was made.
pub(crate) struct Memory {
    at_start: u64,
}

impl Memory {
    pub(crate) fn at_start() -> Self {
        Self {
            at_start: resident("VmRSS:").unwrap_or(0),
        }
    }

    /// Now, at the most, and the growth since the runner was made; zeros where the system doesn't tell.
    pub(crate) fn stats(&self) -> MemoryStats {
        let current = resident("VmRSS:").unwrap_or(0);
        MemoryStats {
            current_rss_bytes: current,
            peak_rss_bytes: resident("VmHWM:").unwrap_or(current),
            growth_bytes: current.saturating_sub(self.at_start),
        }
    }
}

/// One line of Linux's `/proc/self/status`, in bytes.
fn resident(line: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|text| text.strip_prefix(line))?;
    value
        .trim()
        .trim_end_matches("kB")
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}
