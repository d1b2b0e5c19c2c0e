//! A second tier as a host asks it: for a bounded time, and not for a while after it failed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flujo_core::cache::{CacheKey, SecondTier, TierEntry, TierError};
use tokio::time::Instant;

/// How patient a host is with a tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Patience {
    /// The longest time a call may take.
    pub timeout: Duration,
    /// For how long a tier that failed isn't asked, at first; twice as long each time it fails again.
    pub pause: Duration,
    /// The longest such time.
    pub longest_pause: Duration,
}

impl Default for Patience {
    /// Two seconds for a call, pauses from one second to thirty.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(2),
            pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
        }
    }
}

/// What happened with a tier so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TierStatistics {
    /// Entries found.
    pub hits: u64,
    /// Entries looked for and not found.
    pub misses: u64,
    /// Entries stored.
    pub stored: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Calls that weren't made, because one before had failed.
    pub skipped: u64,
    /// What the last call that failed said.
    pub last_error: Option<String>,
}

/// A second tier that fails quietly: what it can't give isn't there.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// use std::sync::Arc;
/// use flujo_core::cache::CacheKey;
/// use flujo_shared::cache::{Guarded, Patience, SqliteOptions, SqliteStore, Tier};
///
/// let folder = tempfile::tempdir().unwrap();
/// let store = SqliteStore::open(folder.path().join("results.db"), SqliteOptions::default()).unwrap();
/// let tier = Guarded::new(Arc::new(Tier::new(store)), Patience::default());
/// assert!(tier.put(CacheKey(1), b"a result".as_slice().into(), None).await);
/// assert_eq!(&*tier.get(CacheKey(1)).await.unwrap().bytes, b"a result");
/// # });
/// ```
pub struct Guarded {
    tier: Arc<dyn SecondTier>,
    patience: Patience,
    state: Mutex<State>,
    hits: AtomicU64,
    misses: AtomicU64,
    stored: AtomicU64,
    skipped: AtomicU64,
}

#[derive(Default)]
struct State {
    errors: u64,
    last_error: Option<String>,
    /// The pause after the last failure, and its end; nothing since it answered.
    pause: Option<(Duration, Instant)>,
}

impl Guarded {
    /// A tier, with this much patience.
    pub fn new(tier: Arc<dyn SecondTier>, patience: Patience) -> Self {
        Self {
            tier,
            patience,
            state: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
        }
    }

    /// What the tier is called.
    pub fn name(&self) -> &'static str {
        self.tier.name()
    }

    /// Whether it would be asked now.
    pub fn is_ready(&self) -> bool {
        self.state().pause.is_none_or(|(_, end)| Instant::now() >= end)
    }

    /// What it said when it failed, until it answers again.
    pub fn trouble(&self) -> Option<String> {
        let state = self.state();
        state.pause.and_then(|_| state.last_error.clone())
    }

    /// What is kept under a key; nothing where the tier can't tell.
    pub async fn get(&self, key: CacheKey) -> Option<TierEntry> {
        let found = self.bounded(self.tier.get(key)).await??;
        let count = if found.is_some() { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps bytes; tells whether they are kept.
    pub async fn put(&self, key: CacheKey, bytes: Arc<[u8]>, ttl: Option<Duration>) -> bool {
        let kept = self.bounded(self.tier.put(key, bytes, ttl)).await;
        let kept = matches!(kept, Some(Some(())));
        self.stored.fetch_add(u64::from(kept), Ordering::Relaxed);
        kept
    }

    /// What happened so far.
    pub fn statistics(&self) -> TierStatistics {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let state = self.state();
        TierStatistics {
            hits: count(&self.hits),
            misses: count(&self.misses),
            stored: count(&self.stored),
            errors: state.errors,
            skipped: count(&self.skipped),
            last_error: state.last_error.clone(),
        }
    }

    /// The answer of a call; `None` when it isn't made, `Some(None)` when it failed.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T, TierError>>) -> Option<Option<T>> {
        if !self.is_ready() {
            self.skipped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let timeout = self.patience.timeout;
        let answer = tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| {
            let name = self.name();
            Err(TierError::new(format!(
                "the second tier {name} of the cache didn't answer within {timeout:?}"
            )))
        });
        match answer {
            Ok(answer) => {
                self.state().pause = None;
                Some(Some(answer))
            }
            Err(error) => {
                self.failed(error.message);
                Some(None)
            }
        }
    }

    fn failed(&self, message: String) {
        let now = Instant::now();
        let mut state = self.state();
        state.errors += 1;
        state.last_error = Some(message);
        // Calls that were under way together count as one failure.
        let pause = match state.pause {
            Some((pause, end)) if now < end => {
                state.pause = Some((pause, end));
                return;
            }
            Some((pause, _)) => (pause * 2).min(self.patience.longest_pause),
            None => self.patience.pause,
        };
        state.pause = Some((pause, now + pause));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Guarded {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Guarded")
            .field("tier", &self.name())
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
