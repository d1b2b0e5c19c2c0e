//! What every store must do.
#![allow(
    dead_code,
    reason = "every test binary compiles the whole of it and uses a part"
)]

pub(crate) mod redis_server;

use std::sync::Arc;
use std::time::Duration;

use flujo_core::cache::{CacheKey, SecondTier, TierEntry};
use flujo_shared::cache::{ResultStore, Tier};

pub(crate) const HOUR: Duration = Duration::from_hours(1);

pub(crate) fn bytes_of<S: ResultStore>(store: &S, key: u128) -> Option<Vec<u8>> {
    store
        .get(CacheKey(key))
        .unwrap()
        .map(|entry| entry.bytes.to_vec())
}

/// The contract of a store, given an empty one and a way to let an hour pass for a key.
pub(crate) fn conforms<S: ResultStore>(store: S, an_hour_passes: impl Fn(CacheKey)) {
    keeps_bytes_as_they_are(&store);
    keeps_for_a_time(&store, an_hour_passes);
    removes_and_clears(&store);
    is_shared_by_threads(&store);
    is_a_tier(store);
}

fn keeps_bytes_as_they_are<S: ResultStore>(store: &S) {
    let long: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let values = [
        (0, Vec::new()),
        (1, vec![0]),
        (u128::MAX, b"\0\xff\r\n$5\r\n".to_vec()),
        (7, long),
    ];
    for (key, _) in &values {
        assert_eq!(bytes_of(store, *key), None);
    }
    for (key, value) in &values {
        store.put(CacheKey(*key), value, None).unwrap();
    }
    for (key, value) in &values {
        let entry = store.get(CacheKey(*key)).unwrap();
        let right = TierEntry {
            bytes: value.clone().into(),
            expires_in: None,
        };
        assert_eq!(entry, Some(right));
    }
    store.put(CacheKey(1), b"another", None).unwrap();
    assert_eq!(bytes_of(store, 1), Some(b"another".to_vec()));
}

fn keeps_for_a_time<S: ResultStore>(store: &S, an_hour_passes: impl Fn(CacheKey)) {
    let key = CacheKey(20);
    store.put(key, b"soon over", Some(HOUR)).unwrap();
    let left = store.get(key).unwrap().unwrap().expires_in.unwrap();
    assert!(!left.is_zero() && left <= HOUR, "{left:?}");
    an_hour_passes(key);
    assert_eq!(store.get(key).unwrap(), None, "given out though it has expired");
    store.put(key, b"for two hours", Some(2 * HOUR)).unwrap();
    an_hour_passes(key);
    let left = store.get(key).unwrap().unwrap().expires_in.unwrap();
    assert!(!left.is_zero() && left <= HOUR, "{left:?}");
    store.put(key, b"for ever", None).unwrap();
    assert_eq!(store.get(key).unwrap().unwrap().expires_in, None);
    store.put(key, b"for no time", Some(Duration::ZERO)).unwrap();
    assert_eq!(store.get(key).unwrap(), None);
    store
        .put(key, b"as good as for ever", Some(Duration::MAX))
        .unwrap();
    assert_eq!(bytes_of(store, 20), Some(b"as good as for ever".to_vec()));
}

fn removes_and_clears<S: ResultStore>(store: &S) {
    store.put(CacheKey(30), b"one", None).unwrap();
    assert!(store.remove(CacheKey(30)).unwrap());
    assert!(!store.remove(CacheKey(30)).unwrap());
    assert_eq!(bytes_of(store, 30), None);
    for key in 0..2_000 {
        store.put(CacheKey(key), b"many", Some(HOUR)).unwrap();
    }
    store.clear().unwrap();
    for key in 0..2_000 {
        assert_eq!(bytes_of(store, key), None);
    }
    store.clear().unwrap();
}

/// Whatever threads do at the same time, each finds whole values under their own keys.
fn is_shared_by_threads<S: ResultStore>(store: &S) {
    let value = |key: u128, turn: u8| {
        let mut value = vec![turn; 3_000];
        value.extend(key.to_be_bytes());
        value
    };
    std::thread::scope(|scope| {
        for turn in 0..6 {
            scope.spawn(move || {
                for key in 0..40 {
                    store.put(CacheKey(key), &value(key, turn), None).unwrap();
                    let found = bytes_of(store, key).unwrap();
                    assert_eq!(found, value(key, found[0]), "not whole, or another key's");
                }
            });
        }
    });
}

fn is_a_tier<S: ResultStore>(store: S) {
    let name = store.name();
    let tier: Arc<dyn SecondTier> = Arc::new(Tier::new(store));
    assert_eq!(tier.name(), name);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let key = CacheKey(50);
        assert_eq!(tier.get(key).await, Ok(None));
        tier.put(key, b"told".as_slice().into(), None).await.unwrap();
        assert_eq!(&*tier.get(key).await.unwrap().unwrap().bytes, b"told");
        // Nobody waits for this one; the store is whole all the same.
        drop(tier.put(key, b"given up".as_slice().into(), None));
        assert_eq!(&*tier.get(key).await.unwrap().unwrap().bytes, b"told");
    });
}
