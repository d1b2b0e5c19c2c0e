//! Locks, and the numbers that keep threads apart. The test of interleavings has others in their place.

use std::sync::atomic::{AtomicUsize, Ordering};

pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// The number of the thread that asks: those that began one after the other are neighbours.
#[inline]
pub(crate) fn thread_number() -> usize {
    NUMBER.with(|number| *number)
}
