//! What both twins must do, and what the optimised one earns.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // of small numbers

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::traces::{self, CAPACITY, Random};
use super::{CacheKey, CacheStatistics, OptimizedCache, PlainCache, ResultCache};
use crate::machine::Time;

type Made<V> = Box<dyn ResultCache<V>>;

/// Both twins of a size.
fn twins<V: Clone + Send + Sync + 'static>(capacity: usize) -> [(&'static str, Made<V>); 2] {
    [
        ("plain", Box::new(PlainCache::new(capacity))),
        ("optimized", Box::new(OptimizedCache::new(capacity))),
    ]
}

#[test]
fn a_result_is_found_until_it_expires_or_is_removed_or_replaced() {
    for (name, cache) in twins(8) {
        let (one, two) = (CacheKey(1), CacheKey(2));
        cache.insert(one, "a", Some(10), 0);
        cache.insert(two, "b", None, 0);
        assert_eq!(
            (cache.get(one, 9), cache.get(two, 9)),
            (Some("a"), Some("b")),
            "{name}"
        );
        assert_eq!((cache.get(one, 10), cache.get(one, 11)), (None, None), "{name}");
        assert_eq!(cache.get(two, Time::MAX), Some("b"), "{name}");
        cache.insert(two, "c", Some(20), 12);
        assert_eq!((cache.get(two, 13), cache.len()), (Some("c"), 1), "{name}");
        assert_eq!(
            (cache.remove(two), cache.remove(two), cache.is_empty()),
            (Some("c"), None, true),
            "{name}"
        );
        let expected = CacheStatistics {
            hits: 4,
            misses: 2,
            insertions: 3,
            evictions: 0,
            expirations: 1,
        };
        assert_eq!(cache.statistics(), expected, "{name}");
    }
}

#[test]
fn a_cache_of_any_size_stays_within_it_and_counts_what_goes() {
    for capacity in [0, 1, 2, 3, 7, 100, 300, 1_000, 5_000] {
        for (name, cache) in twins(capacity) {
            assert_eq!(cache.capacity(), capacity);
            for key in 0..3 * capacity as u128 + 5 {
                cache.insert(CacheKey(key), key, None, 0);
                assert!(cache.len() <= capacity, "{name} {capacity}");
            }
            let counted = cache.statistics();
            assert_eq!(
                counted.insertions - counted.evictions,
                cache.len() as u64,
                "{name} {capacity}"
            );
            cache.clear();
            assert_eq!(
                (cache.len(), cache.get(CacheKey(1), 0)),
                (0, None),
                "{name} {capacity}"
            );
            cache.insert(CacheKey(1), 1, None, 0);
            assert_eq!(
                cache.get(CacheKey(1), 0),
                (capacity > 0).then_some(1),
                "{name} {capacity}"
            );
        }
    }
}

#[test]
fn what_goes_is_dropped_and_may_use_the_cache_itself() {
    /// Looks into the cache when it goes.
    #[derive(Clone)]
    struct Nosy(std::sync::Weak<Made<Nosy>>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            if let Some(cache) = self.0.upgrade() {
                let _ = cache.len();
            }
        }
    }
    for (_, cache) in twins::<Nosy>(2) {
        let cache = Arc::new(cache);
        for key in 0..10 {
            cache.insert(CacheKey(key), Nosy(Arc::downgrade(&cache)), Some(1), 0);
            cache.insert(CacheKey(key), Nosy(Arc::downgrade(&cache)), Some(1), 0);
        }
        for key in 0..10 {
            drop(cache.get(CacheKey(key), 1));
        }
        cache.insert(CacheKey(1), Nosy(Arc::downgrade(&cache)), None, 2);
        drop(cache.remove(CacheKey(1)));
        cache.insert(CacheKey(1), Nosy(Arc::downgrade(&cache)), None, 2);
        cache.clear();
        assert!(cache.is_empty());
    }
}

#[test]
fn threads_share_a_cache_and_every_request_is_counted() {
    for (name, cache) in twins(600) {
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let cache = &cache;
                scope.spawn(move || {
                    let mut random = Random(thread + 1);
                    for _ in 0..20_000 {
                        let key = u128::from(random.below(1_000));
                        match cache.get(CacheKey(key), 0) {
                            Some(value) => assert_eq!(value, key, "another key's result"),
                            None => cache.insert(CacheKey(key), key, None, 0),
                        }
                    }
                });
            }
        });
        let counted = cache.statistics();
        assert_eq!(counted.hits + counted.misses, 80_000, "{name}");
        assert_eq!(counted.misses, counted.insertions, "{name}");
    }
}

#[derive(Debug, Clone)]
enum Act {
    Get(u128),
    Insert(u128, Option<Time>),
    Remove(u128),
    Wait(Time),
    Clear,
}

fn act() -> impl Strategy<Value = Act> {
    let key = 0..12_u128;
    prop_oneof![
        4 => key.clone().prop_map(Act::Get),
        4 => (key.clone(), proptest::option::of(1..20_u64)).prop_map(|(key, ttl)| Act::Insert(key, ttl)),
        1 => key.prop_map(Act::Remove),
        2 => (1..10_u64).prop_map(Act::Wait),
        1 => Just(Act::Clear),
    ]
}

#[test]
fn a_capacity_that_no_machine_has_room_for_takes_room_for_what_is_kept() {
    for capacity in [1_000_000_000_000, usize::MAX] {
        for (name, cache) in twins(capacity) {
            for key in 0..1_000 {
                cache.insert(CacheKey(key), key, None, 0);
            }
            assert_eq!(cache.len(), 1_000, "{name}");
            assert_eq!(cache.get(CacheKey(1), 0), Some(1), "{name}");
            cache.clear();
            assert_eq!(cache.len(), 0, "{name}");
        }
    }
}

proptest! {
    /// Whatever is done, a cache gives what was kept last under a key and hasn't expired, or nothing.
    #[test]
    fn a_cache_never_gives_anything_else(
        capacity in 0..10_usize, acts in proptest::collection::vec(act(), 0..200),
    ) {
        for (name, cache) in twins::<usize>(capacity) {
            let mut known: HashMap<u128, (usize, Option<Time>)> = HashMap::new();
            let (mut now, mut gets) = (0, 0);
            for (place, act) in acts.iter().enumerate() {
                match *act {
                    Act::Get(key) => {
                        gets += 1;
                        let right = known.get(&key).filter(|(_, expires)| expires.is_none_or(|at| now < at));
                        let found = cache.get(CacheKey(key), now);
                        prop_assert!(found.is_none() || found == right.map(|(value, _)| *value), "{}", name);
                    }
                    Act::Insert(key, ttl) => {
                        let expires = ttl.map(|ttl| now + ttl);
                        known.insert(key, (place, expires));
                        cache.insert(CacheKey(key), place, expires, now);
                    }
                    Act::Remove(key) => {
                        let removed = cache.remove(CacheKey(key));
                        let right = known.remove(&key).map(|(value, _)| value);
                        prop_assert!(removed.is_none() || removed == right, "{}", name);
                    }
                    Act::Wait(time) => now += time,
                    Act::Clear => {
                        cache.clear();
                        known.clear();
                    }
                }
                prop_assert!(cache.len() <= capacity.min(known.len()), "{}", name);
            }
            let counted = cache.statistics();
            prop_assert_eq!(counted.hits + counted.misses, gets, "{}", name);
        }
    }
}

/// How many misses the optimised twin has for one of the plain one.
fn share_of_misses(trace: &[CacheKey]) -> f64 {
    let [(_, plain), (_, optimized)] = twins(CAPACITY);
    traces::misses(&*optimized, trace) / traces::misses(&*plain, trace)
}

#[test]
fn the_optimized_twin_misses_less_on_skewed_requests_and_much_less_beside_scans() {
    for skew in [0.9, 1.0, 1.1] {
        let (alone, beside) = (
            share_of_misses(&traces::zipf(skew, 0, 42)),
            share_of_misses(&traces::zipf(skew, 20, 42)),
        );
        assert!(alone <= 1.0, "skew {skew}: {alone:.3}");
        assert!(beside <= 0.88, "skew {skew} beside scans: {beside:.3}");
    }
}

#[test]
fn the_optimized_twin_keeps_a_part_of_what_comes_round_and_round() {
    let little_more = share_of_misses(&traces::round_and_round(CAPACITY * 12 / 10));
    assert!(little_more <= 0.4, "1.2 times the capacity: {little_more:.3}");
    let much_more = share_of_misses(&traces::round_and_round(CAPACITY * 10));
    assert!(much_more <= 1.0, "10 times the capacity: {much_more:.3}");
}
