//! What is kept of runs that have ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use flujo_core::store::{PurgeQuery, RunStatus, WallTime};

/// What becomes of a pipeline's runs in the store once they have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Retention {
    /// They stay until somebody purges them.
    #[default]
    Keep,
    /// A run that completes is deleted in the transaction that would write its end. One that failed or was stopped stays.
    DeleteOnCompletion,
    /// Those that ended longer ago than this are deleted.
    For(Duration),
    /// All but this many of the newest are deleted.
    Latest(u64),
}

/// Old runs are looked for each time so many have ended.
const EVERY: u32 = 16;
/// At most so many are deleted at once, so that nobody waits for long: more than end meanwhile.
const AT_MOST: u32 = 64;

/// When a runner's old runs are to be deleted.
#[derive(Debug, Default)]
pub struct Purging {
    retention: Retention,
    ended: AtomicU32,
}

impl Purging {
    /// With this retention.
    pub fn new(retention: Retention) -> Self {
        let ended = AtomicU32::new(0);
        Self { retention, ended }
    }

    /// Whether a run that ended like this is deleted with its end.
    pub fn deletes(&self, status: RunStatus) -> bool {
        self.retention == Retention::DeleteOnCompletion && status == RunStatus::Completed
    }

    /// A run of the pipeline has ended: what is to be purged now, if anything.
    pub fn ended(&self, pipeline: &Arc<str>, now: WallTime) -> Option<PurgeQuery> {
        let (updated_before, keep) = match self.retention {
            Retention::Keep | Retention::DeleteOnCompletion => return None,
            Retention::For(time) => {
                let time = WallTime::try_from(time.as_millis()).unwrap_or(WallTime::MAX);
                (Some(now.saturating_sub(time)), None)
            }
            Retention::Latest(count) => (None, Some(count)),
        };
        if !self.ended.fetch_add(1, Ordering::Relaxed).is_multiple_of(EVERY) {
            return None;
        }
        Some(PurgeQuery {
            pipeline: Some(Arc::clone(pipeline)),
            updated_before,
            keep,
            at_most: Some(AT_MOST),
            ..PurgeQuery::default()
        })
    }
}
