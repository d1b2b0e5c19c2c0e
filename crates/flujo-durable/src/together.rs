//! What many wait for together.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use flujo_core::store::{StoreError, StoreFuture};

#[cfg(test)]
mod tests;

/// What a store was asked for, for as many as like to wait: each polls a clone of its own.
///
/// They poll one after the other, and each time it is woken all who have polled it since are: whoever only looks takes no
/// wake-up away from those who wait. `futures_util`'s `Shared` tells one that comes while another one polls nothing.
pub struct Together<T: Clone> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    answer: OnceLock<Result<T, StoreError>>,
    /// Until it is there.
    asked: Mutex<Option<StoreFuture<T>>>,
    waiting: Arc<Waiting>,
}

/// Those who are to be woken. Most often it is one.
#[derive(Default)]
struct Waiting(Mutex<(Option<Waker>, Vec<Waker>)>);

impl Waiting {
    /// Has one woken the next time, once; nobody who only looks.
    fn add(&self, waker: &Waker) {
        if waker.will_wake(Waker::noop()) {
            return;
        }
        let mut all = lock(&self.0);
        let (first, others) = &mut *all;
        match first {
            None => *first = Some(waker.clone()),
            Some(first) if first.will_wake(waker) => {}
            Some(_) if others.iter().any(|other| other.will_wake(waker)) => {}
            Some(_) => others.push(waker.clone()),
        }
    }

    /// Wakes all but the one who knows.
    fn wake_others(&self, knows: &Waker) {
        let all = self.take();
        all.filter(|waker| !waker.will_wake(knows)).for_each(Waker::wake);
    }

    fn take(&self) -> impl Iterator<Item = Waker> + use<> {
        let (first, others) = std::mem::take(&mut *lock(&self.0));
        first.into_iter().chain(others)
    }
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.take().for_each(Waker::wake);
    }
}

/// What is in one is whole also after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Clone> Together<T> {
    /// To be waited for by many.
    pub fn new(asked: StoreFuture<T>) -> Self {
        let inner = Inner {
            answer: OnceLock::new(),
            asked: Mutex::new(Some(asked)),
            waiting: Arc::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// What has come of it, as far as somebody has found that out.
    pub fn peek(&self) -> Option<&Result<T, StoreError>> {
        self.inner.answer.get()
    }

    /// Whether both are of one and the same question.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl<T: Clone> Clone for Together<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl<T: Clone> Future for Together<T> {
    type Output = Result<T, StoreError>;

    fn poll(self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = &*self.inner;
        if let Some(answer) = inner.answer.get() {
            return Poll::Ready(answer.clone());
        }
        let mut asked = lock(&inner.asked);
        if let Some(future) = &mut *asked {
            inner.waiting.add(poller.waker());
            let waker = Waker::from(Arc::clone(&inner.waiting));
            let Poll::Ready(answer) = future.as_mut().poll(&mut Context::from_waker(&waker)) else {
                return Poll::Pending;
            };
            let _first = inner.answer.set(answer);
            let done = asked.take();
            drop(asked);
            drop(done);
            inner.waiting.wake_others(poller.waker());
        }
        match inner.answer.get() {
            Some(answer) => Poll::Ready(answer.clone()),
            None => Poll::Pending,
        }
    }
}

impl<T: Clone + fmt::Debug> fmt::Debug for Together<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Together").field(&self.peek()).finish()
    }
}
