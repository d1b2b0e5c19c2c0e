//! What both twins must do, and what only the one that keeps does.

use std::sync::Arc;

use proptest::prelude::*;

use super::{MOST_KEPT, OptimizedPool, PlainPool, Pool, Pools};
use crate::config::Twin;

fn both(max: usize, check: impl Fn(&dyn Pool<Arc<u32>>)) {
    check(&PlainPool::default());
    check(&OptimizedPool::new(max));
}

#[test]
fn what_is_given_back_is_counted_and_in_use_goes_back_to_none() {
    both(100, |pool| {
        let mut out = Vec::new();
        for number in 0..50 {
            out.push(pool.take().unwrap_or_else(|| Arc::new(number)));
        }
        assert_eq!(pool.statistics().in_use(), 50);
        drop(out.pop());
        pool.lost();
        for object in out {
            pool.put(object);
        }
        let counts = pool.statistics();
        assert_eq!((counts.in_use(), counts.misses, counts.returned), (0, 50, 50));
    });
}

#[test]
fn the_plain_twin_lets_go_at_once() {
    let pool = PlainPool::default();
    let object = Arc::new(1);
    pool.put(Arc::clone(&object));
    assert_eq!(Arc::strong_count(&object), 1);
    assert_eq!(Pool::<Arc<u32>>::take(&pool), None);
}

#[test]
fn the_optimized_twin_gives_again_what_it_got_up_to_its_bound() {
    for max in [0, 1, 7, 8, 100] {
        let pool = OptimizedPool::new(max);
        for number in 0..200_u32 {
            pool.put(Arc::new(number));
        }
        let counts = pool.statistics();
        assert_eq!((counts.retained, counts.overflow), (max as u64, 200 - max as u64));
        let mut seen: Vec<u32> = std::iter::from_fn(|| pool.take()).map(|object| *object).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), max, "each once");
        pool.put(Arc::new(1));
        pool.clear();
        assert_eq!(pool.take(), None);
    }
}

#[test]
fn a_bound_that_no_machine_has_room_for_is_taken_for_the_largest_there_is() {
    let pool: OptimizedPool<u8> = OptimizedPool::new(1_000_000_000_000);
    for _ in 0..MOST_KEPT + 10 {
        pool.put(0);
    }
    let counts = pool.statistics();
    assert_eq!((counts.retained, counts.overflow), (MOST_KEPT as u64, 10));
}

#[test]
fn threads_that_only_take_get_what_threads_that_only_give_have_given() {
    let pool = OptimizedPool::new(64);
    std::thread::scope(|scope| {
        scope.spawn(|| (0..64).for_each(|number| pool.put(Arc::new(number))));
    });
    let taken = std::thread::scope(|scope| {
        let takers: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| std::iter::from_fn(|| pool.take()).count()))
            .collect();
        takers
            .into_iter()
            .map(|taker| taker.join().unwrap())
            .sum::<usize>()
    });
    assert_eq!(taken, 64);
}

#[test]
fn a_run_takes_from_the_twin_it_started_with_and_the_counts_are_of_both() {
    let pools = Pools::new(10);
    pools.of(Twin::Optimized).put(Arc::new(1));
    assert_eq!(pools.of(Twin::Plain).take(), None);
    assert_eq!(pools.of(Twin::Optimized).take(), Some(Arc::new(1)));
    let counts = pools.statistics();
    assert_eq!((counts.hits, counts.misses, counts.returned), (1, 1, 1));
}

proptest! {
    #[test]
    fn no_object_is_ever_out_twice(turns in proptest::collection::vec(any::<bool>(), 0..300), max in 0..12_usize) {
        let pool = OptimizedPool::new(max);
        let (mut out, mut made) = (Vec::new(), 0);
        for takes in turns {
            if takes {
                out.push(pool.take().unwrap_or_else(|| {
                    made += 1;
                    made
                }));
                let mut seen = out.clone();
                seen.sort_unstable();
                seen.dedup();
                prop_assert_eq!(seen.len(), out.len());
            } else if let Some(object) = out.pop() {
                pool.put(object);
            }
            let counts = pool.statistics();
            prop_assert_eq!(counts.in_use(), out.len() as u64);
            prop_assert!(counts.retained <= max as u64);
        }
    }
}
