//! The way of one call through the limits that hold for it.

use std::sync::Arc;
use std::task::Waker;

use super::bucket::{Permit, Ticket};
use super::{ALONE, Bucket};
use crate::machine::Time;

/// Whether a call may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It may.
    Admitted,
    /// Not before this time, at the earliest; without one it has to wait for others. It is woken when it may be sooner.
    Wait(Option<Time>),
}

/// A call that waits for its turn by several limits, or that has begun. It passes them one after the other, all calls in
/// the same order, so that no two wait for one another. Dropped, it waits no longer, or has ended.
#[derive(Debug)]
pub struct Admission {
    limits: Arc<[Arc<Bucket>]>,
    tokens: u64,
    passed: Vec<Permit>,
    waiting: Option<Ticket>,
}

impl Admission {
    /// A call that is expected to use so many tokens. `limits` are in an order that is the same everywhere, such as that
    /// of [`Registry::buckets`](super::Registry::buckets).
    pub fn new(limits: Arc<[Arc<Bucket>]>, tokens: u64) -> Self {
        Self {
            limits,
            tokens,
            passed: Vec::new(),
            waiting: None,
        }
    }

    /// Goes as far as it may at `now`; `waker` is woken when it may go further than it has been told.
    pub fn poll(&mut self, now: Time, waker: &Waker) -> Turn {
        while let Some(bucket) = self.limits.get(self.passed.len()) {
            let ticket = *self
                .waiting
                .get_or_insert_with(|| bucket.join(self.tokens, waker));
            match bucket.ask(ticket, now, waker) {
                Ok(permit) => {
                    self.waiting = None;
                    self.passed.push(permit);
                }
                Err(turn) => return turn,
            }
        }
        Turn::Admitted
    }

    /// Whether all limits that are to be shared with other processes are; else which isn't, and why. `None` where none is to
    /// be.
    pub fn shared(&self) -> Option<Result<(), String>> {
        let mut shared = None;
        for bucket in self.limits.iter() {
            match bucket.shared() {
                Some(Err(why)) => {
                    let name = &bucket.limit().name;
                    return Some(Err(format!("{ALONE}, `{name}`: {why}")));
                }
                Some(Ok(())) => shared = Some(Ok(())),
                None => {}
            }
        }
        shared
    }

    /// The call has ended at `now`, having used so many tokens. When it was told to come back later, everybody else who
    /// shares its limits waits until `hold` too.
    pub fn settle(mut self, tokens: u64, hold: Option<Time>, now: Time) {
        for (bucket, permit) in self.limits.iter().zip(self.passed.drain(..)) {
            bucket.settle(permit, tokens, hold, now);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if let (Some(ticket), Some(bucket)) = (self.waiting.take(), self.limits.get(self.passed.len())) {
            bucket.leave(ticket);
        }
        for (bucket, permit) in self.limits.iter().zip(self.passed.drain(..)) {
            bucket.give_up(permit);
        }
    }
}
