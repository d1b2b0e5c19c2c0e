//! A queue between those who ask and the threads that do it.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
    /// How many of them have been woken and aren't back yet: nobody wakes them once more.
    woken: usize,
    /// They needn't be woken before there is so much.
    wanted: usize,
    closed: bool,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            idle: 0,
            woken: 0,
            wanted: 0,
            closed: false,
        }
    }
}

impl<T> State<T> {
    /// Puts something behind the rest, and tells whether a thread is to be woken for it.
    fn put(&mut self, item: T) -> bool {
        self.waiting.push_back(item);
        let wakes = self.idle > self.woken && self.waiting.len() >= self.wanted;
        self.woken += usize::from(wakes);
        wakes
    }

    /// A thread that waited is back, because it was woken or of itself.
    fn back(&mut self) {
        self.idle -= 1;
        self.woken = self.woken.saturating_sub(1);
    }

    fn take(&mut self, most: usize) -> Vec<T> {
        let count = self.waiting.len().min(most);
        self.waiting.drain(..count).collect()
    }
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
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
        let wakes = state.put(item);
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// Waits for something and takes up to `most` of it, in order. `None` when the queue is closed and empty.
    pub(crate) fn take(&self, most: usize) -> Option<Vec<T>> {
        self.filled().map(|mut state| state.take(most))
    }

    /// Waits for something, and leaves it there. `false` when the queue is closed and empty.
    pub(crate) fn wait(&self) -> bool {
        self.filled().is_some()
    }

    fn filled(&self) -> Option<MutexGuard<'_, State<T>>> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state.idle += 1;
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.back();
        }
        Some(state)
    }

    /// Whether it is open, and there is nothing in it.
    pub(crate) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && !state.closed
    }

    /// Takes up to `most` of what is there by now; when that is less than is wanted, waits for so long until it is there. For
    /// a thread that takes alone.
    pub(crate) fn meanwhile(&self, most: usize, wanted: usize, patience: Duration) -> Vec<T> {
        let mut state = self.lock();
        if !patience.is_zero() && state.waiting.len() < wanted {
            state.idle += 1;
            state.wanted = wanted;
            (state, _) = self
                .changed
                .wait_timeout_while(state, patience, |state| state.waiting.len() < wanted)
                .unwrap_or_else(PoisonError::into_inner);
            state.wanted = 0;
            state.back();
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
