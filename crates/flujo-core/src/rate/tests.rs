//! What a rate limit promises, on handed-in time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use proptest::prelude::*;

use super::{Admission, Bucket, RateLimit, RateLimitError, Registry, Turn};
use crate::machine::Time;

const SECOND: Time = 1_000_000_000;
const MINUTE: Time = 60 * SECOND;

type Limits = Arc<[Arc<Bucket>]>;

fn limits(limits: impl IntoIterator<Item = RateLimit>) -> Limits {
    limits
        .into_iter()
        .map(|limit| Arc::new(Bucket::new(limit)))
        .collect()
}

fn requests(rate: f64) -> Limits {
    limits([RateLimit::new("r").requests_per_minute(rate)])
}

fn call(limits: &Limits, tokens: u64) -> Admission {
    Admission::new(Arc::clone(limits), tokens)
}

fn poll(admission: &mut Admission, now: Time) -> Turn {
    admission.poll(now, Waker::noop())
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn as_many_as_fit_in_a_minute_begin_at_once_and_the_next_a_minute_after_the_first_has_ended() {
    let limits = requests(3.0);
    let mut calls: Vec<_> = (0..5).map(|_| call(&limits, 0)).collect();
    let turns: Vec<_> = calls.iter_mut().map(|call| poll(call, SECOND)).collect();
    // As long as they are under way they may arrive late, though by no more than a tenth of the minute.
    let later = Turn::Wait(Some(67 * SECOND));
    let none = Turn::Wait(None);
    assert_eq!(
        turns,
        [Turn::Admitted, Turn::Admitted, Turn::Admitted, later, none]
    );
    calls.remove(1).settle(0, None, 3 * SECOND);
    let (mut fourth, mut fifth) = (calls.remove(2), calls.remove(2));
    assert_eq!(poll(&mut fourth, 4 * SECOND), Turn::Wait(Some(63 * SECOND)));
    assert_eq!(poll(&mut fourth, 63 * SECOND), Turn::Admitted);
    assert_eq!(poll(&mut fifth, 63 * SECOND), Turn::Wait(Some(67 * SECOND)));
    assert_eq!(poll(&mut fifth, 67 * SECOND), Turn::Admitted);
}

#[test]
fn a_rate_below_one_a_minute_takes_its_time() {
    let limits = requests(0.5);
    let mut one = call(&limits, 0);
    assert_eq!(poll(&mut one, 0), Turn::Admitted);
    one.settle(0, None, SECOND);
    assert_eq!(
        poll(&mut call(&limits, 0), SECOND),
        Turn::Wait(Some(121 * SECOND))
    );
}

#[test]
fn who_asked_first_goes_first_and_who_leaves_lets_the_next_one_pass() {
    let limits = requests(1.0);
    let (mut first, mut second, mut third) = (call(&limits, 0), call(&limits, 0), call(&limits, 0));
    assert_eq!(poll(&mut first, 0), Turn::Admitted);
    let woken = Arc::new(Woken::default());
    assert_eq!(poll(&mut second, 0), Turn::Wait(Some(66 * SECOND)));
    assert_eq!(third.poll(0, &Waker::from(Arc::clone(&woken))), Turn::Wait(None));
    // Later in the line, whenever it asks.
    assert_eq!(poll(&mut third, 2 * MINUTE), Turn::Wait(None));
    assert_eq!(third.poll(0, &Waker::from(Arc::clone(&woken))), Turn::Wait(None));
    drop(second);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert_eq!(poll(&mut third, 2 * MINUTE), Turn::Admitted);
}

#[test]
fn so_many_at_once_and_the_next_when_one_has_ended_or_was_dropped() {
    let limits = limits([RateLimit::new("r").max_concurrent(2)]);
    let (mut one, mut two, mut three) = (call(&limits, 0), call(&limits, 0), call(&limits, 0));
    assert_eq!(
        (poll(&mut one, 0), poll(&mut two, 0)),
        (Turn::Admitted, Turn::Admitted)
    );
    assert_eq!(poll(&mut three, 0), Turn::Wait(None));
    one.settle(0, None, 1);
    assert_eq!(poll(&mut three, 1), Turn::Admitted);
    let mut four = call(&limits, 0);
    assert_eq!(poll(&mut four, 1), Turn::Wait(None));
    drop(two);
    assert_eq!(poll(&mut four, 1), Turn::Admitted);
    assert_eq!(limits[0].load(), (2, 0));
}

#[test]
fn tokens_count_as_expected_and_then_as_used() {
    let limits = limits([RateLimit::new("r").tokens_per_minute(1000.0)]);
    let mut one = call(&limits, 800);
    assert_eq!(poll(&mut one, 0), Turn::Admitted);
    let mut two = call(&limits, 300);
    assert_eq!(poll(&mut two, 0), Turn::Wait(Some(66 * SECOND)));
    one.settle(700, None, SECOND); // 300 are free
    assert_eq!(poll(&mut two, SECOND), Turn::Admitted);
    two.settle(900, None, 2 * SECOND); // 1,600 were used
    let mut three = call(&limits, 0);
    assert_eq!(poll(&mut three, 3 * SECOND), Turn::Wait(Some(61 * SECOND)));
    assert_eq!(poll(&mut three, 61 * SECOND), Turn::Admitted);
    // What is known of it is 1, beside the 900.
    let mut four = call(&limits, 100);
    assert_eq!(poll(&mut four, 61 * SECOND), Turn::Wait(Some(62 * SECOND)));
}

#[test]
fn a_call_that_expects_more_than_a_minute_allows_goes_alone() {
    let limits = limits([RateLimit::new("r").tokens_per_minute(100.0)]);
    let (mut small, mut large) = (call(&limits, 10), call(&limits, 5000));
    assert_eq!(poll(&mut small, 0), Turn::Admitted);
    small.settle(10, None, SECOND);
    assert_eq!(poll(&mut large, SECOND), Turn::Wait(Some(61 * SECOND)));
    assert_eq!(poll(&mut large, 61 * SECOND), Turn::Admitted);
    assert_eq!(
        poll(&mut call(&limits, 1), 62 * SECOND),
        Turn::Wait(Some(127 * SECOND))
    );
    large.settle(8000, None, 200 * SECOND); // its minute is over: what came on top counts now
    assert_eq!(
        poll(&mut call(&limits, 1), 200 * SECOND),
        Turn::Wait(Some(260 * SECOND))
    );
}

#[test]
fn what_takes_long_counts_from_a_tenth_of_a_minute_and_its_tokens_are_corrected_there() {
    let limits = limits([RateLimit::new("r").tokens_per_minute(100.0)]);
    let mut long = call(&limits, 60);
    assert_eq!(poll(&mut long, 0), Turn::Admitted);
    assert_eq!(
        poll(&mut call(&limits, 50), 40 * SECOND),
        Turn::Wait(Some(66 * SECOND))
    );
    long.settle(40, None, 50 * SECOND);
    assert_eq!(poll(&mut call(&limits, 50), 50 * SECOND), Turn::Admitted);
}

#[test]
fn when_a_server_says_wait_everybody_does_and_what_others_have_is_kept() {
    let limits = limits([RateLimit::new("r").requests_per_minute(10.0).max_concurrent(3)]);
    let (mut one, mut two) = (call(&limits, 0), call(&limits, 0));
    assert_eq!(
        (poll(&mut one, 0), poll(&mut two, 0)),
        (Turn::Admitted, Turn::Admitted)
    );
    one.settle(0, Some(7 * SECOND), SECOND);
    let mut three = call(&limits, 0);
    assert_eq!(poll(&mut three, SECOND), Turn::Wait(Some(7 * SECOND)));
    two.settle(0, Some(5 * SECOND), SECOND); // sooner than the other one was told
    assert_eq!(poll(&mut three, 6 * SECOND), Turn::Wait(Some(7 * SECOND)));
    assert_eq!(poll(&mut three, 7 * SECOND), Turn::Admitted);
}

#[test]
fn a_call_passes_all_its_limits_and_holds_none_it_has_left() {
    let limits = limits([
        RateLimit::new("a").max_concurrent(1),
        RateLimit::new("b").max_concurrent(1),
    ]);
    let only_b: Limits = Arc::from([Arc::clone(&limits[1])]);
    let (mut other, mut both) = (call(&only_b, 0), call(&limits, 0));
    assert_eq!(poll(&mut other, 0), Turn::Admitted);
    assert_eq!(poll(&mut both, 0), Turn::Wait(None));
    assert_eq!((limits[0].load(), limits[1].load()), ((1, 0), (1, 1)));
    drop(both);
    assert_eq!((limits[0].load(), limits[1].load()), ((0, 0), (1, 0)));
}

#[test]
fn limits_that_cannot_be_kept_say_which_field_and_why() {
    for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let requests = RateLimit::new("r")
            .requests_per_minute(rate)
            .checked()
            .unwrap_err();
        assert!(
            requests
                .to_string()
                .contains("rate limit `r`: requests_per_minute must be a number above 0")
        );
        let tokens = RateLimit::new("r").tokens_per_minute(rate).checked().unwrap_err();
        assert!(tokens.to_string().contains("tokens_per_minute"));
    }
    let none = RateLimit::new("r").max_concurrent(0).checked().unwrap_err();
    assert!(none.to_string().contains("max_concurrent must be at least 1"));
    assert!(matches!(
        RateLimit::new("r").checked(),
        Err(RateLimitError::Nothing { .. })
    ));
    assert!(matches!(
        RateLimit::new("").max_concurrent(1).checked(),
        Err(RateLimitError::Nameless)
    ));
}

#[test]
fn one_name_is_one_bucket_and_two_definitions_of_it_are_refused_while_it_is_used() {
    let registry = Registry::new();
    let sixty = RateLimit::new("model").requests_per_minute(60.0);
    let other = RateLimit::new("model").requests_per_minute(30.0);
    let second = RateLimit::new("a second one").max_concurrent(1);
    let one = registry.buckets([&sixty], 0).unwrap();
    let two = registry.buckets([&sixty, &second, &sixty], 0).unwrap();
    assert!(Arc::ptr_eq(&one[0], &two[1]) && two.len() == 2);
    let conflict = registry.buckets([&other], 0).unwrap_err().to_string();
    assert!(
        conflict.contains(
            "`model` is defined as 30 requests a minute here and as 60 requests a minute elsewhere"
        ),
        "{conflict}"
    );
    assert!(
        registry
            .buckets([&second, &RateLimit::new("a second one").max_concurrent(2)], 0)
            .is_err()
    );
    drop((one, two));
    assert!(registry.buckets([&other], 0).is_ok());
}

#[test]
fn what_was_counted_is_kept_while_it_matters_though_nobody_uses_it() {
    let registry = Registry::new();
    let one = RateLimit::new("model").requests_per_minute(1.0);
    let turn = |now| {
        poll(
            &mut Admission::new(registry.buckets([&one], now).unwrap(), 0),
            now,
        )
    };
    assert_eq!(turn(0), Turn::Admitted);
    assert_eq!(turn(SECOND), Turn::Wait(Some(66 * SECOND)));
    assert_eq!(turn(66 * SECOND), Turn::Admitted);
}

proptest! {
    /// However calls come, travel, end and give up: in no minute more arrive than may, nobody overtakes, nobody is forgotten.
    #[test]
    fn no_minute_ever_has_more_than_it_may_and_everybody_gets_a_turn(
        rate in 1..30u32,
        most in prop::option::of(1..5u32),
        arrivals in prop::collection::vec((0..20_000u64, 0..90_000u64, prop::bool::weighted(0.1)), 1..80),
    ) {
        let mut limit = RateLimit::new("r").requests_per_minute(rate);
        limit.max_concurrent = most;
        let limits = limits([limit]);
        let milli = 1_000_000;
        let (mut now, mut line, mut begun) = (0, Vec::new(), Vec::new());
        let mut under_way: Vec<(Time, Admission)> = Vec::new();
        let mut arrivals = arrivals.into_iter().scan(0, |at, (gap, takes, gives_up)| {
            *at += gap * milli;
            Some((*at, takes * milli, gives_up))
        }).peekable();
        loop {
            let ended = under_way.extract_if(.., |(end, _)| *end <= now);
            ended.for_each(|(_, call)| call.settle(0, None, now));
            while let Some((_, takes, gives_up)) = arrivals.next_if(|(at, _, _)| *at <= now) {
                line.push((takes, gives_up, call(&limits, 0)));
            }
            let mut soonest = Time::MAX;
            line.retain_mut(|(_, gives_up, call)| {
                let waits = call.poll(now, Waker::noop()) != Turn::Admitted;
                !(waits && *gives_up)
            });
            let mut waiting = Vec::new();
            for (takes, gives_up, mut call) in line.drain(..) {
                match call.poll(now, Waker::noop()) {
                    Turn::Admitted => {
                        prop_assert!(waiting.is_empty(), "nobody overtakes");
                        // It arrives at its end, though no later than may be.
                        begun.push(now + takes.min(MINUTE / 10));
                        under_way.push((now + takes, call));
                    }
                    Turn::Wait(until) => {
                        soonest = soonest.min(until.unwrap_or(Time::MAX));
                        waiting.push((takes, gives_up, call));
                    }
                }
            }
            line = waiting;
            prop_assert!(most.is_none_or(|most| under_way.len() <= most as usize));
            let next = arrivals.peek().map_or(Time::MAX, |(at, _, _)| *at);
            // One that takes no time ends in the next round.
            let ends = under_way.iter().map(|(end, _)| *end).min();
            let next = next.min(soonest).min(ends.unwrap_or(Time::MAX));
            if next == Time::MAX {
                break;
            }
            now = next.max(now + 1);
        }
        prop_assert!(line.is_empty(), "nobody is forgotten");
        begun.sort_unstable();
        for (place, first) in begun.iter().enumerate() {
            let within = begun[place..].iter().take_while(|at| **at < first + MINUTE).count();
            prop_assert!(within <= rate as usize);
        }
    }
}
