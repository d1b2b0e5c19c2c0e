//! Locks, and the numbers that keep threads apart. The test of interleavings has others in their place.

use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock for a few instructions at a time, taken by a thread that hardly ever meets another one: half the price of a
/// `Mutex` then. Whoever finds it taken lets others run, and tries again.
pub(crate) type Latch<T> = spin::mutex::SpinMutex<T, spin::Yield>;
/// What a latch gives access to, until it is dropped.
pub(crate) type LatchGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T, spin::Yield>;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// The number of the thread that asks: those that began one after the other are neighbours.
#[inline]
pub(crate) fn thread_number() -> usize {
    NUMBER.with(|number| *number)
}
