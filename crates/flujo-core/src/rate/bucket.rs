//! One rate limit with all who share it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use super::sharing::{Asked, CallEnd, Verdict};
use super::window::Window;
use super::{RateLimit, Turn};
use crate::machine::Time;

/// What is known about one rate limit: what was let through lately, what is under way, who waits.
#[derive(Debug)]
pub struct Bucket {
    limit: RateLimit,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    requests: Option<Window>,
    tokens: Option<Window>,
    under_way: u32,
    /// Nobody is let through before that time: a server asked for it.
    held_until: Time,
    waiting: VecDeque<Waiting>,
    tickets: u64,
    /// How far the first of those who wait has got with whoever counts for several processes.
    asked: Option<(Ticket, Asked)>,
    /// Why this process keeps the limit by itself, where it is to be shared.
    alone: Option<Arc<str>>,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    tokens: u64,
    waker: Waker,
}

/// A place among those who wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

/// A call that was let through and has not ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Permit {
    number: u64,
    /// Whether whoever counts for several processes knows of it.
    counted: bool,
}

impl Bucket {
    /// A limit by which nothing was let through yet.
    pub fn new(limit: RateLimit) -> Self {
        let state = State {
            requests: limit.requests_per_minute.map(Window::new),
            tokens: limit.tokens_per_minute.map(Window::new),
            under_way: 0,
            held_until: 0,
            waiting: VecDeque::new(),
            tickets: 0,
            asked: None,
            alone: None,
        };
        Self {
            limit,
            state: Mutex::new(state),
        }
    }

    /// What is limited.
    pub fn limit(&self) -> &RateLimit {
        &self.limit
    }

    /// How many calls are under way, and how many wait.
    pub fn load(&self) -> (usize, usize) {
        let state = self.lock();
        (state.under_way as usize, state.waiting.len())
    }

    /// Whether nothing that it has counted matters any more.
    pub(super) fn is_idle(&self, now: Time) -> bool {
        let mut state = self.lock();
        let idle = |window: &mut Option<Window>| window.as_mut().is_none_or(|window| window.is_idle(now));
        let counted = !idle(&mut state.requests) || !idle(&mut state.tokens);
        !counted && state.under_way == 0 && state.waiting.is_empty() && state.held_until <= now
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins those who wait, as the last.
    pub(super) fn join(&self, tokens: u64, waker: &Waker) -> Ticket {
        let mut state = self.lock();
        state.tickets += 1;
        let ticket = Ticket(state.tickets);
        state.waiting.push_back(Waiting {
            ticket,
            tokens: tokens.max(1), // what isn't known is at least something
            waker: waker.clone(),
        });
        ticket
    }

    /// Whether it is the turn of the one with this ticket; else until when it has to wait, or that it is woken.
    pub(super) fn ask(self: &Arc<Self>, ticket: Ticket, now: Time, waker: &Waker) -> Result<Permit, Turn> {
        let mut state = self.lock();
        let Some(place) = state.place_of(ticket) else {
            return Err(Turn::Wait(None));
        };
        state.waiting[place].waker.clone_from(waker);
        let busy = self
            .limit
            .max_concurrent
            .is_some_and(|most| state.under_way >= most);
        if place > 0 || busy {
            return Err(Turn::Wait(None));
        }
        let tokens = state.waiting[0].tokens;
        let room = |window: &mut Option<Window>, amount| {
            window.as_mut().map_or(now, |window| window.room(amount, now))
        };
        let (requests, of_tokens) = (room(&mut state.requests, 1), room(&mut state.tokens, tokens));
        let at = requests.max(of_tokens).max(state.held_until);
        if at > now {
            return Err(Turn::Wait(Some(at)));
        }
        let counted = match (&self.limit.shared, state.asked.filter(|(of, _)| *of == ticket)) {
            (None, _) => false,
            (_, Some((_, Asked::Granted(counted)))) => counted,
            (_, Some((_, Asked::UnderWay))) => return Err(Turn::Wait(None)),
            (_, Some((_, Asked::Until(at)))) if at > now => return Err(Turn::Wait(Some(at))),
            (Some(shared), _) => {
                state.asked = Some((ticket, Asked::UnderWay));
                drop(state);
                let bucket = Arc::downgrade(self);
                let answer = move |verdict| {
                    if let Some(bucket) = bucket.upgrade() {
                        bucket.answered(ticket, verdict, now);
                    }
                };
                shared.0.ask(&self.limit, ticket.0, tokens, Box::new(answer));
                return Err(Turn::Wait(None));
            }
        };
        state.asked = None;
        state.waiting.pop_front();
        state.under_way += 1;
        let number = ticket.0;
        if let Some(requests) = &mut state.requests {
            requests.begin(number, 1, now);
        }
        if let Some(window) = &mut state.tokens {
            window.begin(number, tokens, now);
        }
        wake_next(state);
        Ok(Permit { number, counted })
    }

    /// The one with this ticket waits no longer.
    pub(super) fn leave(&self, ticket: Ticket) {
        let mut state = self.lock();
        if let Some(place) = state.place_of(ticket) {
            state.waiting.remove(place);
        }
        let asked = state.asked.take_if(|(of, _)| *of == ticket);
        wake_next(state);
        if let Some((_, Asked::Granted(true))) = asked {
            self.tell(ticket.0, CallEnd::NotMade);
        }
    }

    /// What whoever counts for several processes said of a call that it was asked for at `asked_at`.
    fn answered(&self, ticket: Ticket, verdict: Verdict, asked_at: Time) {
        let mut state = self.lock();
        let (asked, alone) = match verdict {
            Verdict::Admitted => (Asked::Granted(true), None),
            Verdict::Wait(wait) => {
                let wait = Time::try_from(wait.as_nanos()).unwrap_or(Time::MAX);
                (Asked::Until(asked_at.saturating_add(wait)), None)
            }
            Verdict::Alone(why) => (Asked::Granted(false), Some(why)),
        };
        state.alone = alone;
        if state.asked == Some((ticket, Asked::UnderWay)) {
            state.asked = Some((ticket, asked));
            return wake_next(state);
        }
        drop(state);
        if asked == Asked::Granted(true) {
            self.tell(ticket.0, CallEnd::NotMade);
        }
    }

    fn tell(&self, call: u64, end: CallEnd) {
        if let Some(shared) = &self.limit.shared {
            shared.0.tell(&self.limit, call, end);
        }
    }

    /// Whether other processes share it; else why it isn't so. `None` where nobody wants that.
    pub(super) fn shared(&self) -> Option<Result<(), Arc<str>>> {
        self.limit.shared.as_ref()?;
        Some(self.lock().alone.clone().map_or(Ok(()), Err))
    }

    /// A call has ended that used so many tokens. Everybody waits until `hold`, if it says so.
    pub(super) fn settle(&self, permit: Permit, tokens: u64, hold: Option<Time>, now: Time) {
        let mut state = self.lock();
        state.under_way = state.under_way.saturating_sub(1);
        if let Some(window) = &mut state.requests {
            window.end(permit.number, 1, now);
        }
        if let Some(window) = &mut state.tokens {
            window.end(permit.number, tokens, now);
        }
        state.held_until = state.held_until.max(hold.unwrap_or(0));
        wake_next(state);
        if permit.counted {
            let hold = hold.map(|until| Duration::from_nanos(until.saturating_sub(now)));
            self.tell(permit.number, CallEnd::Used { tokens, hold });
        }
    }

    /// A call has ended, and nobody knows what it used: what was expected stays counted.
    pub(super) fn give_up(&self, permit: Permit) {
        let mut state = self.lock();
        let State { requests, tokens, .. } = &mut *state;
        for window in [requests, tokens].into_iter().flatten() {
            window.forget(permit.number);
        }
        state.under_way = state.under_way.saturating_sub(1);
        wake_next(state);
        if permit.counted {
            self.tell(permit.number, CallEnd::Unknown);
        }
    }
}

impl State {
    /// Tickets are given out in the order of the line.
    fn place_of(&self, ticket: Ticket) -> Option<usize> {
        self.waiting
            .binary_search_by_key(&ticket, |waiting| waiting.ticket)
            .ok()
    }
}

/// Whoever is first has another look. Woken outside of the lock, since it may be asked for at once.
fn wake_next(state: MutexGuard<'_, State>) {
    let next = state.waiting.front().map(|waiting| waiting.waker.clone());
    drop(state);
    if let Some(next) = next {
        next.wake();
    }
}
