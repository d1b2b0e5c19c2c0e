//! Whoever waits is woken once, and nothing is left lying.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use super::{Queue, State};

/// Waits until so many threads wait.
fn until_idle(queue: &Queue<u32>, count: usize) {
    while queue.lock().idle < count {
        thread::yield_now();
    }
}

#[test]
fn each_thing_wakes_a_thread_of_its_own_while_one_waits() {
    for _ in 0..100 {
        let queue = Arc::new(Queue::default());
        // Neither of the two is back before both are there.
        let both = Arc::new(Barrier::new(2));
        let threads = [(); 2].map(|()| {
            let (queue, both) = (Arc::clone(&queue), Arc::clone(&both));
            thread::spawn(move || {
                let taken = queue.take(1).unwrap();
                both.wait();
                taken[0]
            })
        });
        until_idle(&queue, 2);
        queue.push(1).unwrap();
        queue.push(2).unwrap();
        let mut taken = threads.map(|thread| thread.join().unwrap());
        taken.sort_unstable();
        assert_eq!(taken, [1, 2]);
    }
}

#[test]
fn a_thread_that_is_on_its_way_is_not_woken_again() {
    let mut state = State {
        idle: 1,
        wanted: 2,
        ..State::default()
    };
    assert_eq!([1, 2, 3].map(|item| state.put(item)), [false, true, false]);
    state.back();
    assert_eq!((state.idle, state.woken), (0, 0));
    // Two wait, and one of them comes back of itself, as another one is woken: the other is woken for the next.
    state.idle = 2;
    assert!(state.put(4));
    state.back();
    assert!(state.put(5));
    assert!(!state.put(6));
    state.back();
    assert_eq!((state.idle, state.woken), (0, 0));
}

/// What `takers` get that take from a queue that three threads fill.
fn sum_of<const TAKERS: usize>(
    take: impl Fn(&Queue<u32>) -> Option<Vec<u32>> + Copy + Send + 'static,
) -> u64 {
    let queue = Arc::new(Queue::default());
    let takers = [(); TAKERS].map(|()| {
        let queue = Arc::clone(&queue);
        thread::spawn(move || {
            let mut sum = 0;
            while let Some(taken) = take(&queue) {
                sum += taken.into_iter().map(u64::from).sum::<u64>();
            }
            sum
        })
    });
    let putters = [(); 3].map(|()| {
        let queue = Arc::clone(&queue);
        thread::spawn(move || (1..=EACH).for_each(|number| queue.push(number).unwrap()))
    });
    for putter in putters {
        putter.join().unwrap();
    }
    queue.close();
    let sums = takers.map(|taker| taker.join().unwrap());
    let state = queue.lock();
    assert_eq!((state.idle, state.woken), (0, 0));
    sums.iter().sum()
}

const EACH: u32 = 20_000;

#[test]
fn nothing_is_left_by_those_who_put_and_those_who_take() {
    let all = 3 * u64::from(EACH) * u64::from(EACH + 1) / 2;
    assert_eq!(sum_of::<3>(|queue| queue.take(2)), all);
    let alone = |queue: &Queue<u32>| {
        let there = queue.wait();
        there.then(|| queue.meanwhile(64, 8, Duration::from_micros(50)))
    };
    assert_eq!(sum_of::<1>(alone), all);
}
