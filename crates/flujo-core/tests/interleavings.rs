//! What threads share, under every order of their steps that a scheduler can be made to choose: the very sources, with
//! the locks of `shuttle` in place of the system's.

mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use shuttle::sync::{Mutex, MutexGuard};

    pub(crate) type LatchGuard<'a, T> = MutexGuard<'a, T>;

    #[derive(Debug)]
    pub(crate) struct Latch<T>(Mutex<T>);

    impl<T> Latch<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> LatchGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    /// Threads that begin one after the other are neighbours, as they are outside.
    pub(crate) fn thread_number() -> usize {
        usize::from(shuttle::current::me())
    }
}

mod machine {
    pub(crate) use flujo_core::machine::{LimitBreach, LimitKind};
}

#[allow(
    dead_code,
    unreachable_pub,
    reason = "the very source of the crate, of which this test uses a part"
)]
#[path = "../src/usage/account.rs"]
mod account;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the very source of the crate, of which this test uses a part"
)]
#[path = "../src/usage/optimized.rs"]
mod optimized;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the very source of the crate, of which this test uses a part"
)]
#[path = "../src/usage/plain.rs"]
mod plain;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "the very source of the crate, of which this test uses a part"
)]
#[path = "../src/pool"]
mod pooling {
    pub(crate) use flujo_core::pool::{MOST_KEPT, Pool, PoolCounts};

    pub(crate) mod optimized;
}

use std::sync::Arc;

// The sources above look for these beside them.
use flujo_core::usage::{Cost, MeterReading, MeterStatistics, Usage, UsageLimits, UsageMeter};
use optimized::OptimizedMeter;
use pooling::Pool;
use pooling::optimized::OptimizedPool;
use shuttle::thread;

const SCHEDULES: usize = 1_000;

fn tokens(tokens: u64) -> Usage {
    Usage {
        tokens,
        ..Usage::ZERO
    }
}

fn meter(tokens: u64) -> Arc<OptimizedMeter> {
    let limits = UsageLimits {
        tokens: Some(tokens),
        ..UsageLimits::default()
    };
    Arc::new(OptimizedMeter::new(limits))
}

/// Runs `check` under schedules drawn at random, and under those that put a thread off at the worst of times.
fn under_many_schedules(check: fn()) {
    shuttle::check_random(check, SCHEDULES);
    shuttle::check_pct(check, SCHEDULES, 3);
}

#[test]
fn of_what_threads_reserve_at_once_exactly_as_much_is_granted_as_fits() {
    under_many_schedules(|| {
        let meter = meter(10);
        let reserving: Vec<_> = (0..3)
            .map(|_| {
                let meter = Arc::clone(&meter);
                thread::spawn(move || meter.reserve(&Arc::from("s"), tokens(4)).is_ok())
            })
            .collect();
        let granted = reserving.into_iter().filter_map(|one| one.join().ok());
        let granted = granted.filter(|granted| *granted).count() as u64;
        assert_eq!((granted, meter.reserved().tokens), (2, 8));
    });
}

#[test]
fn no_increment_is_lost_and_every_read_is_one_that_a_single_counter_could_give() {
    under_many_schedules(|| {
        let meter = meter(42);
        let adding: Vec<_> = (0..2)
            .map(|_| {
                let meter = Arc::clone(&meter);
                thread::spawn(move || (0..3).all(|_| meter.add(&Arc::from("s"), tokens(7)).is_ok()))
            })
            .collect();
        let mut before = 0;
        for _ in 0..2 {
            let now = meter.used().tokens;
            assert!(
                before <= now && now <= 42 && now.is_multiple_of(7),
                "{now} after {before}"
            );
            before = now;
        }
        assert!(adding.into_iter().all(|one| one.join().unwrap_or(false)));
        assert_eq!(meter.used().tokens, 42);
        assert!(meter.add(&Arc::from("s"), tokens(1)).is_err());
    });
}

#[test]
fn what_one_thread_gives_back_another_gets_and_the_limit_holds_at_every_moment() {
    under_many_schedules(|| {
        let meter = meter(9);
        let calling: Vec<_> = (0..2)
            .map(|_| {
                let meter = Arc::clone(&meter);
                thread::spawn(move || {
                    let step: Arc<str> = Arc::from("s");
                    let mut calls = 0;
                    while calls < 2 && meter.reserve(&step, tokens(3)).is_ok() {
                        assert!(meter.settle(&step, tokens(3), tokens(1)).is_ok());
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        for _ in 0..2 {
            let MeterReading { used, reserved } = meter.read();
            assert!(used.tokens + reserved.tokens <= 9);
        }
        let calls: u64 = calling.into_iter().filter_map(|one| one.join().ok()).sum();
        assert_eq!(meter.used().tokens, calls);
        assert_eq!(meter.reserved(), Usage::ZERO);
        // Three that are used, three that are reserved and three more fit: nothing is ever refused.
        assert_eq!(calls, 4);
    });
}

#[test]
fn a_meter_that_gives_way_while_threads_count_loses_nothing_and_counts_nothing_twice() {
    under_many_schedules(|| {
        let meter = meter(40);
        let adding: Vec<_> = (0..2)
            .map(|_| {
                let meter = Arc::clone(&meter);
                thread::spawn(move || {
                    let step: Arc<str> = Arc::from("s");
                    (0..2).all(|_| {
                        meter.reserve(&step, tokens(7)).is_ok()
                            && meter.settle(&step, tokens(7), tokens(5)).is_ok()
                    })
                })
            })
            .collect();
        let _ = meter.give_way();
        assert!(adding.into_iter().all(|one| one.join().unwrap_or(false)));
        let all = MeterReading {
            used: tokens(20),
            reserved: Usage::ZERO,
        };
        assert_eq!((meter.read(), meter.give_way().read()), (all, all));
        assert_eq!(meter.statistics().refunded.tokens, 8);
        assert!(meter.reserve(&Arc::from("s"), tokens(21)).is_err());
    });
}

#[test]
fn no_object_of_a_pool_is_out_twice_and_none_is_lost() {
    under_many_schedules(|| {
        let pool = Arc::new(OptimizedPool::new(2));
        pool.put(1);
        pool.put(2);
        let using: Vec<_> = (0..3)
            .map(|number| {
                let pool = Arc::clone(&pool);
                thread::spawn(move || {
                    let object = pool.take().unwrap_or(10 + number);
                    pool.put(object);
                    object
                })
            })
            .collect();
        let used: Vec<i32> = using.into_iter().filter_map(|one| one.join().ok()).collect();
        assert_eq!(used.len(), 3);
        let counts = pool.statistics();
        assert_eq!((counts.hits + counts.misses, counts.returned), (3, 5));
        assert_eq!(counts.retained + counts.overflow, 2 + counts.misses);
        let mut kept: Vec<i32> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(kept.len() as u64, counts.retained);
        kept.sort_unstable();
        kept.dedup();
        assert_eq!(kept.len() as u64, counts.retained);
        assert!(counts.retained <= 2);
    });
}
