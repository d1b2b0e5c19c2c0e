//! A queue between those who ask and the threads that do it.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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

impl<T> State<T> {
    fn take(&mut self, most: usize) -> Vec<T> {
        let count = self.waiting.len().min(most);
        self.waiting.drain(..count).collect()
    }
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
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
        Some(state.take(most))
    }

    /// Takes up to `most` of what is there by now; when there is nothing, lets others run for so long until there is.
    pub(crate) fn meanwhile(&self, most: usize, patience: Duration) -> Vec<T> {
        let mut state = self.lock();
        if state.waiting.is_empty() && !patience.is_zero() {
            let begin = Instant::now();
            while state.waiting.is_empty() && begin.elapsed() < patience {
                drop(state);
                std::thread::yield_now();
                state = self.lock();
            }
        }
        state.take(most)
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
