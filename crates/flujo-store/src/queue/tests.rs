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

#[test]
fn nothing_is_left_by_many_who_put_and_many_who_take() {
    const EACH: u32 = 20_000;
    let queue = Arc::new(Queue::default());
    let takers = [(); 3].map(|()| {
        let queue = Arc::clone(&queue);
        thread::spawn(move || {
            let mut sum = 0;
            while let Some(taken) = queue.take(2) {
                sum += taken.into_iter().map(u64::from).sum::<u64>();
                let more = queue.meanwhile(4, 3, Duration::from_micros(5));
                sum += more.into_iter().map(u64::from).sum::<u64>();
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
    let sums = takers.map(|thread| thread.join().unwrap());
    assert_eq!(
        sums.iter().sum::<u64>(),
        3 * u64::from(EACH) * u64::from(EACH + 1) / 2
    );
    let state = queue.lock();
    assert_eq!((state.idle, state.woken), (0, 0));
}
