//! A queue between those who ask and the threads that do it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Less than a disk takes.
const MOMENT: Duration = Duration::from_micros(100);

/// A queue that several threads may take from. Closing it lets them finish what is in it.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    /// How many threads wait for something: without any, waking them costs nothing.
    idle: usize,
    closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                idle: 0,
                closed: false,
            }),
            changed: Condvar::new(),
        }
    }
}

impl<T> Queue<T> {
    /// Puts something behind the rest; gives it back when the queue is closed.
    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut state = self.lock();
        if state.closed {
            return Err(item);
        }
        state.waiting.push_back(item);
        let idle = state.idle > 0;
        drop(state);
        if idle {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits for something and takes up to `most` of it, in order. `None` when the queue is closed and empty.
    pub(crate) fn take(&self, most: usize) -> Option<Vec<T>> {
        self.gather(most, 1)
    }

    /// The same, but lets others run for a moment while fewer than `expected` wait: it pays where what is done with all of
    /// them together takes longer than that.
    pub(crate) fn gather(&self, most: usize, expected: usize) -> Option<Vec<T>> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
        if state.waiting.len() < expected {
            let begin = Instant::now();
            while state.waiting.len() < expected && begin.elapsed() < MOMENT {
                drop(state);
                std::thread::yield_now();
                state = self.lock();
            }
        }
        let count = state.waiting.len().min(most);
        Some(state.waiting.drain(..count).collect())
    }

    /// Nothing is let in any more.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
