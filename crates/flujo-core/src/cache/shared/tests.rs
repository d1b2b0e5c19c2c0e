//! What a cache of steps promises to those that use it at the same time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier};

use super::*;
use crate::cache::MOST_FIELDS;
use crate::config::Twin;
use crate::context::Context;
use crate::usage::Usage;
use crate::value::Value;

enum Told {
    Landed(Arc<Landed<u32>>),
    Turn(Turn),
}

/// Tells whoever waits through a channel; who has gone no longer listens.
struct Seat(Sender<Told>);

impl Waiter<u32> for Seat {
    fn landed(self, landed: Arc<Landed<u32>>) {
        let _ = self.0.send(Told::Landed(landed));
    }

    fn turn(self, turn: Turn) -> bool {
        self.0.send(Told::Turn(turn)).is_ok()
    }
}

type Steps = StepCache<u32, Seat>;

fn caches(capacity: usize) -> [Steps; 2] {
    [Twin::Plain, Twin::Optimized].map(|twin| Steps::new(twin, capacity))
}

fn kept(output: u32) -> Kept<u32> {
    Kept {
        output,
        usage: Usage {
            tokens: 5,
            ..Usage::ZERO
        },
    }
}

fn by_input(primary: u128) -> Wanted<'static> {
    Wanted {
        primary: CacheKey(primary),
        fields: None,
    }
}

fn lead(cache: &Steps, wanted: Wanted<'_>, now: u64) -> Turn {
    match cache.look(wanted, now, || unreachable!("nobody makes it")) {
        Found::Lead(turn) => turn,
        other => unreachable!("{other:?}"),
    }
}

fn found(cache: &Steps, wanted: Wanted<'_>, now: u64) -> Option<u32> {
    match cache.look(wanted, now, || unreachable!("nobody makes it")) {
        Found::Kept(kept) => Some(kept.output),
        Found::Lead(turn) => {
            cache.release(turn, Uncached::Stopped);
            None
        }
        Found::UnderWay => unreachable!("nobody makes it"),
    }
}

#[test]
fn a_result_is_made_once_and_found_until_its_time_is_over() {
    for cache in caches(8) {
        let turn = lead(&cache, by_input(1), 0);
        let stored = cache
            .put(turn, by_input(1), ReadSet::default(), kept(7), Some(10), 0)
            .unwrap();
        assert_eq!((stored.key, stored.reads), (CacheKey(1), None));
        assert_eq!(found(&cache, by_input(1), 9), Some(7));
        assert_eq!(found(&cache, by_input(2), 9), None);
        assert_eq!(found(&cache, by_input(1), 10), None);
        let counted = cache.statistics();
        assert_eq!(
            (counted.hits, counted.misses, counted.kept, counted.expirations),
            (1, 3, 0, 1)
        );
        assert_eq!(counted.uncached, BTreeMap::from([("stopped", 2)]));
        assert_eq!(cache.under_way(), 0);
    }
}

#[test]
fn whoever_waits_is_told_of_the_result_and_whoever_has_gone_is_passed_over() {
    for cache in caches(0) {
        let turn = lead(&cache, by_input(1), 0);
        let wait = || {
            let (sender, receiver) = channel();
            assert!(matches!(
                cache.look(by_input(1), 0, || Seat(sender)),
                Found::UnderWay
            ));
            receiver
        };
        let (gone, second, third) = (wait(), wait(), wait());
        drop(gone);
        cache.release(turn, Uncached::Failed);
        let Ok(Told::Turn(turn)) = second.try_recv() else {
            unreachable!("it is its turn")
        };
        assert!(third.try_recv().is_err(), "it waits still");
        // Also where nothing is kept, who waits gets the result.
        cache
            .put(turn, by_input(1), ReadSet::default(), kept(7), None, 0)
            .unwrap();
        let Ok(Told::Landed(landed)) = third.try_recv() else {
            unreachable!("the result is there")
        };
        assert_eq!(landed.answers(by_input(1)), Some(kept(7)));
        assert_eq!(landed.answers(by_input(2)), None);
        assert_eq!((cache.under_way(), cache.statistics().kept), (0, 0));
    }
}

#[test]
fn a_result_is_found_by_the_fields_it_was_seen_to_depend_on() {
    fn context(fields: &[(&str, i64)]) -> Context {
        let fields = fields
            .iter()
            .map(|(name, value)| (Arc::from(*name), Value::Int(*value)));
        fields.collect()
    }
    fn wanted(fields: &Context) -> Wanted<'_> {
        Wanted {
            primary: CacheKey(1),
            fields: Some(fields),
        }
    }
    let reads = |names: &[&str]| ReadSet::Fields(names.iter().map(|name| Arc::from(*name)).collect());
    for cache in caches(8) {
        let first = context(&[("mode", 1), ("left", 10), ("other", 0)]);
        let put = |fields: &Context, reads, output| {
            let turn = lead(&cache, wanted(fields), 0);
            cache.put(turn, wanted(fields), reads, kept(output), None, 0)
        };
        let sets = put(&first, reads(&["mode", "left"]), 1).unwrap().reads.unwrap();
        assert_eq!(*sets, [reads(&["mode", "left"])]);
        // What was not read makes no difference, what was read does.
        assert_eq!(
            found(
                &cache,
                wanted(&context(&[("mode", 1), ("left", 10), ("other", 5)])),
                0
            ),
            Some(1)
        );
        assert_eq!(
            found(&cache, wanted(&context(&[("mode", 1), ("left", 11)])), 0),
            None
        );
        // Another mode reads another field: both sets are tried from now on.
        let second = context(&[("mode", 2), ("left", 10), ("right", 20)]);
        assert_eq!(
            put(&second, reads(&["mode", "right"]), 2)
                .unwrap()
                .reads
                .unwrap()
                .len(),
            2
        );
        assert_eq!(
            found(
                &cache,
                wanted(&context(&[("mode", 2), ("left", 99), ("right", 20)])),
                0
            ),
            Some(2)
        );
        assert_eq!(found(&cache, wanted(&first), 0), Some(1));
        // All of it was read: another field makes a difference now.
        let third = context(&[("mode", 3)]);
        put(&third, ReadSet::Whole, 3).unwrap();
        assert_eq!(found(&cache, wanted(&third), 0), Some(3));
        assert_eq!(found(&cache, wanted(&context(&[("mode", 3), ("x", 0)])), 0), None);
        // Too much to look at for each result, and what can't be compared, are not kept, and counted.
        let names: Vec<String> = (0..=MOST_FIELDS).map(|number| format!("field{number}")).collect();
        let many = reads(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let fourth = context(&[("mode", 4)]);
        assert_eq!(put(&fourth, many, 4).unwrap_err(), Uncached::TooManyFields);
        let mut opaque = context(&[("mode", 5)]);
        opaque.set("left", Value::opaque(()));
        assert_eq!(put(&opaque, reads(&["left"]), 5).unwrap_err(), Uncached::Field);
        assert_eq!(cache.under_way(), 0);
    }
}

#[test]
fn who_waited_for_a_result_that_turns_out_another_one_looks_again() {
    let context =
        |tenant: i64| -> Context { [(Arc::from("tenant"), Value::Int(tenant))].into_iter().collect() };
    let reads = ReadSet::Fields([Arc::from("tenant")].into());
    for cache in caches(8) {
        let (one, two) = (context(1), context(2));
        let of = |fields| Wanted {
            primary: CacheKey(1),
            fields: Some(fields),
        };
        // Nothing is known of what the step reads, so that other contexts wait for nobody.
        let (first, second) = (lead(&cache, of(&one), 0), lead(&cache, of(&two), 0));
        let (sender, receiver) = channel();
        assert!(matches!(
            cache.look(of(&one), 0, || Seat(sender)),
            Found::UnderWay
        ));
        cache
            .put(first, of(&one), reads.clone(), kept(1), None, 0)
            .unwrap();
        let Ok(Told::Landed(landed)) = receiver.try_recv() else {
            unreachable!("the result is there")
        };
        assert_eq!(landed.answers(of(&one)), Some(kept(1)));
        assert_eq!(landed.answers(of(&two)), None);
        cache
            .put(second, of(&two), reads.clone(), kept(2), None, 0)
            .unwrap();
        assert_eq!(
            (found(&cache, of(&one), 0), found(&cache, of(&two), 0)),
            (Some(1), Some(2))
        );
    }
}

#[test]
fn threads_that_want_the_same_results_make_each_once_also_when_makers_give_up() {
    const KEYS: u32 = 300;
    const THREADS: u32 = 4;
    for cache in caches(KEYS as usize * 2) {
        let made: Vec<AtomicU32> = (0..KEYS).map(|_| AtomicU32::new(0)).collect();
        let begin = Barrier::new(THREADS as usize);
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (cache, made, begin) = (&cache, &made, &begin);
                scope.spawn(move || {
                    for key in 0..KEYS {
                        begin.wait();
                        let wanted = by_input(u128::from(key));
                        let (sender, receiver) = channel();
                        let mut turn = match cache.look(wanted, 0, || Seat(sender)) {
                            Found::Kept(kept) => {
                                assert_eq!(kept.output, key);
                                continue;
                            }
                            Found::Lead(turn) => Some(turn),
                            Found::UnderWay => None,
                        };
                        // Every third time somebody gives up, waiting or making it.
                        let gives_up = (key + thread).is_multiple_of(3);
                        if turn.is_none() && gives_up {
                            drop(receiver);
                            continue;
                        }
                        if turn.is_none() {
                            match receiver.recv().unwrap() {
                                Told::Landed(landed) => {
                                    assert_eq!(landed.answers(wanted).unwrap().output, key);
                                    continue;
                                }
                                Told::Turn(its) => turn = Some(its),
                            }
                        }
                        let turn = turn.unwrap();
                        if gives_up {
                            cache.release(turn, Uncached::Failed);
                        } else {
                            made[key as usize].fetch_add(1, Ordering::Relaxed);
                            cache
                                .put(turn, wanted, ReadSet::default(), kept(key), None, 0)
                                .unwrap();
                        }
                    }
                });
            }
        });
        let made: Vec<u32> = made.iter().map(|made| made.load(Ordering::Relaxed)).collect();
        assert_eq!(made, vec![1; KEYS as usize]);
        assert_eq!(cache.under_way(), 0);
    }
}
