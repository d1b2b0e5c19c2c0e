//! What many wait for together.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use flujo_core::store::{StoreError, StoreFuture};
use futures_util::FutureExt;
use futures_util::future::Shared;

#[cfg(test)]
mod tests;

/// What a store was asked for, for as many as like to wait: each polls a clone of its own.
///
/// [`Shared`] by itself takes it that whoever polls comes back when it is woken. One that comes while another one polls
/// isn't told to come again: when that one only looks, or waits no longer, nobody ever is. So they poll one after the
/// other here.
#[derive(Debug, Clone)]
pub struct Together<T: Clone> {
    asked: Shared<StoreFuture<T>>,
    polls: Arc<Mutex<()>>,
}

impl<T: Clone> Together<T> {
    /// To be waited for by many.
    pub fn new(asked: StoreFuture<T>) -> Self {
        Self {
            asked: asked.shared(),
            polls: Arc::default(),
        }
    }

    /// What has come of it, as far as somebody has found that out.
    pub fn peek(&self) -> Option<&Result<T, StoreError>> {
        self.asked.peek()
    }

    /// Whether both are of one and the same question.
    pub fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.polls, &other.polls)
    }
}

impl<T: Clone> Future for Together<T> {
    type Output = Result<T, StoreError>;

    fn poll(mut self: Pin<&mut Self>, poller: &mut Context<'_>) -> Poll<Self::Output> {
        let polls = Arc::clone(&self.polls);
        // It guards nothing by itself.
        let _alone = polls.lock().unwrap_or_else(PoisonError::into_inner);
        self.asked.poll_unpin(poller)
    }
}
