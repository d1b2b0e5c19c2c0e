//! A second tier that fails quietly, in virtual time.
#![allow(clippy::unwrap_used)] // a test fails by panicking

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use flujo_core::agent::BoxFuture;
use flujo_core::cache::{CacheKey, SecondTier, TierEntry, TierError};
use flujo_shared::cache::{Guarded, Patience};

const KEY: CacheKey = CacheKey(1);
const GOOD: u8 = 0;
const FAILS: u8 = 1;
const HANGS: u8 = 2;

/// Does as it is told, and counts the calls.
#[derive(Default)]
struct Moody {
    mood: AtomicU8,
    calls: AtomicU64,
}

impl Moody {
    async fn answer<T>(&self, answer: T) -> Result<T, TierError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        match self.mood.load(Ordering::SeqCst) {
            FAILS => Err(TierError::new("the shelf is gone")),
            HANGS => pending().await,
            _ => Ok(answer),
        }
    }
}

/// A tier that its test still holds.
struct Held(Arc<Shelf>);

impl SecondTier for Held {
    fn name(&self) -> &'static str {
        "shelf"
    }

    fn get(&self, _key: CacheKey) -> BoxFuture<'_, Result<Option<TierEntry>, TierError>> {
        Box::pin(self.0.0.answer(None))
    }

    fn put(
        &self,
        _key: CacheKey,
        _bytes: Arc<[u8]>,
        _ttl: Option<Duration>,
    ) -> BoxFuture<'_, Result<(), TierError>> {
        Box::pin(self.0.0.answer(()))
    }
}

#[derive(Default)]
struct Shelf(Moody);

fn shelf() -> (Arc<Shelf>, Guarded) {
    let shelf = Arc::new(Shelf::default());
    let guarded = Guarded::new(Arc::new(Held(Arc::clone(&shelf))), Patience::default());
    (shelf, guarded)
}

fn is(shelf: &Shelf, mood: u8) {
    shelf.0.mood.store(mood, Ordering::SeqCst);
}

fn calls(shelf: &Shelf) -> u64 {
    shelf.0.calls.load(Ordering::SeqCst)
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_failed_is_left_alone_for_longer_and_longer_until_it_answers() {
    let (shelf, guarded) = shelf();
    is(&shelf, FAILS);
    for (asked, pause) in [1, 2, 4, 8, 16, 30, 30].into_iter().enumerate() {
        let pause = Duration::from_secs(pause);
        assert_eq!(guarded.get(KEY).await, None);
        assert_eq!(calls(&shelf), asked as u64 + 1);
        tokio::time::advance(pause.checked_sub(Duration::from_millis(1)).unwrap()).await;
        assert!(!guarded.put(KEY, b"x".as_slice().into(), None).await);
        assert_eq!(calls(&shelf), asked as u64 + 1, "asked before the pause was over");
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert_eq!(guarded.trouble().as_deref(), Some("the shelf is gone"));
    is(&shelf, GOOD);
    assert!(guarded.put(KEY, b"x".as_slice().into(), None).await);
    assert_eq!(guarded.trouble(), None);
    is(&shelf, FAILS);
    assert_eq!(guarded.get(KEY).await, None);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(guarded.is_ready(), "the pause begins anew");
    let counted = guarded.statistics();
    assert_eq!((counted.errors, counted.skipped, counted.stored), (8, 7, 1));
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_says_nothing_is_not_waited_for() {
    let (shelf, guarded) = shelf();
    is(&shelf, HANGS);
    assert_eq!(guarded.get(KEY).await, None);
    let said = guarded.trouble().unwrap();
    assert!(said.contains("shelf") && said.contains("2s"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_fail_together_count_as_one_failure() {
    let (shelf, guarded) = shelf();
    is(&shelf, HANGS);
    tokio::join!(guarded.get(KEY), guarded.get(KEY), guarded.get(KEY));
    assert_eq!(guarded.statistics().errors, 3);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(guarded.is_ready());
}
