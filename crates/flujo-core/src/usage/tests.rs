//! What both twins promise, and that they promise the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::{
    Cost, MeterReading, MeterStatistics, OptimizedMeter, PlainMeter, Usage, UsageLimits, UsageMeter, meter,
    run_meter,
};
use crate::config::{Drills, Part, Twin, Twins};
use crate::machine::{LimitBreach, LimitKind};

fn tokens(tokens: u64) -> Usage {
    Usage {
        tokens,
        ..Usage::ZERO
    }
}

fn cost(cents: i64) -> Usage {
    Usage {
        cost: Cost::from_nanos(cents * 10_000_000).unwrap(),
        ..Usage::ZERO
    }
}

fn limit(tokens: u64) -> UsageLimits {
    UsageLimits {
        tokens: Some(tokens),
        ..UsageLimits::default()
    }
}

fn step() -> Arc<str> {
    Arc::from("s")
}

/// Both twins, each with nothing on it, and one that fails when it is first used.
fn twins(limits: UsageLimits) -> [Arc<dyn UsageMeter>; 3] {
    let drills = Drills::default();
    drills.begin(Part::Usage);
    [
        meter(Twin::Plain, limits, Usage::ZERO),
        meter(Twin::Optimized, limits, Usage::ZERO),
        run_meter(drills.of(Twins::OPTIMIZED), limits, Usage::ZERO),
    ]
}

#[test]
fn a_run_s_meter_says_why_it_gave_way_and_counts_on() {
    let drills = Drills::default();
    drills.begin(Part::Usage);
    let meter = run_meter(drills.of(Twins::OPTIMIZED), limit(10), tokens(3));
    assert_eq!((meter.fault(), meter.used()), (None, tokens(3)));
    assert_eq!(meter.reserve(&step(), tokens(7)), Ok(()));
    assert!(meter.fault().is_some_and(|fault| fault.contains("a drill")));
    let breach = meter.add(&step(), tokens(8)).unwrap_err();
    assert_eq!((breach.used, breach.reserved), (tokens(11), tokens(7)));
    for twins in [Twins::OPTIMIZED, Twins::PLAIN] {
        let meter = run_meter(twins, limit(10), Usage::ZERO);
        assert_eq!(meter.reserve(&step(), tokens(10)), Ok(()));
        assert_eq!(meter.fault(), None);
    }
}

#[test]
fn exactly_at_the_limit_is_allowed_and_one_more_is_refused() {
    for meter in twins(limit(10)) {
        assert_eq!(meter.reserve(&step(), tokens(10)), Ok(()));
        let breach = meter.reserve(&step(), tokens(1)).unwrap_err();
        assert_eq!((breach.which, breach.refused), (LimitKind::Tokens, true));
        assert_eq!(breach.reserved, tokens(10));
        assert_eq!(meter.settle(&step(), tokens(10), tokens(10)), Ok(()));
        assert_eq!((meter.used(), meter.reserved()), (tokens(10), Usage::ZERO));
    }
}

#[test]
fn what_was_not_used_is_free_again() {
    for meter in twins(limit(10)) {
        meter.reserve(&step(), tokens(8)).unwrap();
        meter.settle(&step(), tokens(8), tokens(3)).unwrap();
        assert_eq!(meter.reserve(&step(), tokens(7)), Ok(()));
        meter.refund(tokens(7));
        assert_eq!((meter.used(), meter.reserved()), (tokens(3), Usage::ZERO));
        let MeterStatistics {
            reserved,
            committed,
            refunded,
            batches,
        } = meter.statistics();
        assert_eq!(
            (reserved, committed, refunded),
            (tokens(15), tokens(3), tokens(12))
        );
        assert!(batches > 0);
    }
}

#[test]
fn usage_beyond_the_limit_counts_is_a_breach_and_the_next_call_is_refused() {
    for meter in twins(limit(10)) {
        meter.reserve(&step(), Usage::ZERO).unwrap();
        let breach = meter.settle(&step(), Usage::ZERO, tokens(12)).unwrap_err();
        assert_eq!((breach.used, breach.refused), (tokens(12), false));
        assert!(meter.reserve(&step(), Usage::ZERO).is_err());
        assert!(meter.add(&step(), Usage::ZERO).is_err());
    }
}

#[test]
fn what_is_given_back_makes_room_again_after_everything_was_held() {
    for meter in twins(limit(10)) {
        meter.reserve(&step(), tokens(8)).unwrap();
        meter.add(&step(), tokens(5)).unwrap(); // 5 are used, 13 are held
        assert!(meter.reserve(&step(), Usage::ZERO).is_err());
        meter.refund(tokens(8));
        assert_eq!(meter.reserve(&step(), tokens(5)), Ok(()));
        assert!(meter.reserve(&step(), tokens(1)).is_err());
    }
}

#[test]
fn a_refusal_leaves_nothing_reserved() {
    let limits = UsageLimits {
        requests: Some(0),
        ..limit(10)
    };
    for meter in twins(limits) {
        let one = Usage {
            requests: 1,
            ..tokens(5)
        };
        let breach = meter.reserve(&step(), one).unwrap_err();
        assert_eq!(breach.which, LimitKind::Requests);
        assert_eq!(meter.read(), MeterReading::default());
    }
}

#[test]
fn what_has_no_price_is_refused_under_a_limit_on_cost_and_only_there() {
    let unpriced = Usage {
        unpriced: true,
        ..tokens(5)
    };
    let costs = UsageLimits {
        cost: Some(Cost::ZERO),
        ..UsageLimits::default()
    };
    for meter in twins(costs) {
        let breach = meter.reserve(&step(), unpriced).unwrap_err();
        assert_eq!((breach.which, breach.refused), (LimitKind::Price, true));
        assert_eq!(meter.reserved(), Usage::ZERO);
        let breach = meter.settle(&step(), Usage::ZERO, unpriced).unwrap_err();
        assert_eq!((breach.which, breach.refused), (LimitKind::Price, false));
        assert_eq!(meter.used(), unpriced);
    }
    for meter in twins(limit(10)) {
        assert_eq!(meter.reserve(&step(), unpriced), Ok(()));
    }
}

#[test]
fn a_meter_that_goes_on_counts_what_was_used_before() {
    for twin in [Twin::Plain, Twin::Optimized] {
        let meter = meter(twin, limit(10), tokens(8));
        assert_eq!(meter.used(), tokens(8));
        assert!(meter.reserve(&step(), tokens(3)).is_err());
        assert_eq!(meter.add(&step(), tokens(2)), Ok(()));
        assert!(meter.add(&step(), tokens(1)).is_err());
    }
}

#[test]
fn more_than_can_be_counted_stays_at_the_most_that_can() {
    for meter in twins(limit(10)) {
        for _ in 0..3 {
            let breach = meter.add(&step(), tokens(u64::MAX)).unwrap_err();
            assert_eq!(breach.used.tokens, i64::MAX.unsigned_abs());
        }
    }
}

#[test]
fn threads_together_never_hold_more_than_the_limit_and_use_all_of_it() {
    for meter in twins(limit(1000)) {
        let granted: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let (step, mut granted) = (step(), 0);
                        while meter.reserve(&step, tokens(3)).is_ok() {
                            meter.settle(&step, tokens(3), tokens(3)).unwrap();
                            granted += 3;
                        }
                        granted
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(granted, 999);
        assert_eq!(meter.used(), tokens(999));
    }
}

/// P03: limit 0.10, eight branches that each expect 0.04 and start together.
#[test]
fn p03_only_two_of_eight_reservations_of_004_fit_under_010() {
    for meter in twins(UsageLimits {
        cost: Some(cost(10).cost),
        ..UsageLimits::default()
    }) {
        let (barrier, ended) = (std::sync::Barrier::new(8), AtomicBool::new(false));
        let granted = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !ended.load(Ordering::Acquire) {
                    let MeterReading { used, reserved } = meter.read();
                    assert!(used.cost.saturating_add(reserved.cost) <= cost(10).cost);
                }
            });
            let branches: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        meter.reserve(&step(), cost(4)).is_ok()
                    })
                })
                .collect();
            let granted = branches
                .into_iter()
                .filter(|_| true)
                .map(|branch| branch.join().unwrap());
            let granted = granted.filter(|granted| *granted).count();
            ended.store(true, Ordering::Release);
            watcher.join().unwrap();
            granted
        });
        assert_eq!((granted, meter.reserved()), (2, cost(8)));
        // Each used half of what it expected, and what it gave back lets two more in: 0.08 are used, 0.04 don't fit again.
        let mut calls = granted;
        for _ in 0..granted {
            meter.settle(&step(), cost(4), cost(2)).unwrap();
        }
        while meter.reserve(&step(), cost(4)).is_ok() {
            meter.settle(&step(), cost(4), cost(2)).unwrap();
            calls += 1;
        }
        assert_eq!((calls, meter.used()), (4, cost(8)));
    }
}

/// P38: no increment is lost, read while others count, also after one of them died.
#[test]
fn p38_64_threads_with_1000_batches_of_7_tokens_make_448_000() {
    const ALL: u64 = 64 * 1000 * 7;
    for meter in twins(limit(ALL)) {
        let (half, alive) = (std::sync::Barrier::new(65), std::sync::Barrier::new(65));
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..64)
                .map(|thread| {
                    let (meter, half, alive) = (&meter, &half, &alive);
                    scope.spawn(move || {
                        let step = step();
                        let add = |times| (0..times).for_each(|_| meter.add(&step, tokens(7)).unwrap());
                        add(500);
                        half.wait();
                        alive.wait();
                        add(500);
                        // Its counters are left as they are.
                        assert_ne!(thread, 13, "one of them dies");
                    })
                })
                .collect();
            half.wait();
            // Nothing is under way and nothing has been handed in: what each thread has counted is seen all the same.
            assert_eq!(meter.used(), tokens(ALL / 2));
            assert!(meter.reserve(&step(), tokens(ALL / 2 + 1)).is_err());
            alive.wait();
            let mut before = 0;
            while threads.iter().any(|thread| !thread.is_finished()) {
                let now = meter.used().tokens;
                assert!(before <= now && now <= ALL && now.is_multiple_of(7));
                before = now;
            }
            let died = threads
                .into_iter()
                .filter_map(|thread| thread.join().err())
                .count();
            assert_eq!(died, 1);
        });
        assert_eq!(meter.used(), tokens(ALL));
        assert!(meter.add(&step(), tokens(1)).is_err());
    }
}

#[derive(Debug, Clone, Copy)]
enum Does {
    Reserve(Usage),
    /// The oldest reservation there is.
    Settle(Usage),
    Refund,
    Add(Usage),
}

fn amount() -> impl Strategy<Value = Usage> {
    (0..60i64, 0..60u64, 0..4u64, prop::bool::weighted(0.05)).prop_map(
        |(cost, tokens, requests, unpriced)| Usage {
            cost: Cost::from_nanos(cost).unwrap(),
            tokens,
            requests,
            unpriced,
        },
    )
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        amount().prop_map(Does::Reserve),
        amount().prop_map(Does::Settle),
        Just(Does::Refund),
        amount().prop_map(Does::Add),
    ]
}

type Said = (Result<(), Arc<LimitBreach>>, MeterReading);

/// What a meter says to each operation, done by threads in turn.
fn said(meter: &dyn UsageMeter, operations: &[(usize, Does)]) -> (Vec<Said>, MeterStatistics) {
    said_with(meter, operations, |_| {})
}

/// The same, where something else happens before each.
fn said_with(
    meter: &dyn UsageMeter,
    operations: &[(usize, Does)],
    before: impl Fn(usize),
) -> (Vec<Said>, MeterStatistics) {
    let (mut reserved, step) = (std::collections::VecDeque::new(), step());
    let mut said = Vec::new();
    for (number, (_, does)) in operations.iter().enumerate() {
        before(number);
        let does = *does;
        // A thread of its own for each: it has another shard than the one before.
        let answer = std::thread::scope(|scope| {
            let one = scope.spawn(|| match does {
                Does::Reserve(estimate) => {
                    let answer = meter.reserve(&step, estimate);
                    if answer.is_ok() {
                        reserved.push_back(estimate);
                    }
                    answer
                }
                Does::Settle(actual) => match reserved.pop_front() {
                    Some(estimate) => meter.settle(&step, estimate, actual),
                    None => Ok(()),
                },
                Does::Refund => {
                    if let Some(estimate) = reserved.pop_front() {
                        meter.refund(estimate);
                    }
                    Ok(())
                }
                Does::Add(used) => meter.add(&step, used),
            });
            one.join().unwrap()
        });
        said.push((answer, meter.read()));
    }
    (said, meter.statistics())
}

proptest! {
    #[test]
    fn the_twins_give_the_same_answers(
        cost in prop::option::of(0..400i64),
        tokens in prop::option::of(0..400u64),
        requests in prop::option::of(0..20u64),
        operations in prop::collection::vec((0..8usize, does()), 1..40),
        fails_before in 0..20_usize,
    ) {
        let cost = cost.and_then(Cost::from_nanos);
        let limits = UsageLimits { cost, tokens, requests };
        let (plain, statistics) = said(&PlainMeter::new(limits), &operations);
        let (optimized, others) = said(&OptimizedMeter::new(limits), &operations);
        prop_assert_eq!(&plain, &optimized);
        let failing = OptimizedMeter::new(limits);
        let gives_way = |number| {
            if number == fails_before {
                failing.give_way();
            }
        };
        let (given_way, of_both) = said_with(&failing, &operations, gives_way);
        prop_assert_eq!(&plain, &given_way);
        prop_assert_eq!(statistics, MeterStatistics { batches: statistics.batches, ..of_both });
        // How often what is shared was updated is what the twins differ in.
        prop_assert_eq!(statistics, MeterStatistics { batches: statistics.batches, ..others });
    }
}
