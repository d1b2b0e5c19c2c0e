//! Waits that a run was in when its process ended: they go on while nobody runs it.

use flujo_core::machine::{Time, TimerId};
use flujo_core::store::WallTime;
use serde::{Deserialize, Serialize};

const NANOS_IN_A_MILLI: u64 = 1_000_000;

/// What a machine sleeps through: how long it had still to sleep at a time on the wall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sleeping {
    /// The timer.
    pub timer: TimerId,
    /// For so long, in nanoseconds.
    pub left: Time,
    /// From then on.
    pub since: WallTime,
}

impl Sleeping {
    /// For how much longer, in nanoseconds, it sleeps at `now`: no longer than it was to sleep, also where the clock was set
    /// back.
    pub fn left_at(&self, now: WallTime) -> Time {
        self.left.saturating_sub(passed(self.since, now))
    }
}

/// How many nanoseconds have passed from one time on the wall to another; none, when the clock was set back.
pub fn passed(since: WallTime, now: WallTime) -> Time {
    let millis = u64::try_from(now.saturating_sub(since)).unwrap_or_default();
    millis.saturating_mul(NANOS_IN_A_MILLI)
}
