//! Who makes which result, and who waits for it: of those that want one result at the same time, one makes it.
//!
//! A plain structure that its owner locks. Waiters are tokens, of whatever kind wakes those that wait.

use std::collections::{HashMap, VecDeque};

use super::CacheKey;

/// The right to make a result, until it is there or somebody else's turn comes. Of a result there is one at a time; one
/// that has been used does nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Turn {
    key: CacheKey,
    number: u64,
}

/// Results under way.
#[derive(Debug)]
pub struct Flights<W> {
    under_way: HashMap<CacheKey, Flight<W>>,
    turns: u64,
}

#[derive(Debug)]
struct Flight<W> {
    turn: u64,
    waiting: VecDeque<W>,
}

impl<W> Default for Flights<W> {
    fn default() -> Self {
        Self {
            under_way: HashMap::new(),
            turns: 0,
        }
    }
}

impl<W> Flights<W> {
    /// Somebody wants a result: it is their turn when nobody makes it yet, else what `waiter` gives waits.
    pub fn join(&mut self, key: CacheKey, waiter: impl FnOnce() -> W) -> Option<Turn> {
        if let Some(flight) = self.under_way.get_mut(&key) {
            flight.waiting.push_back(waiter());
            return None;
        }
        let number = self.next_turn();
        let waiting = VecDeque::new();
        self.under_way.insert(
            key,
            Flight {
                turn: number,
                waiting,
            },
        );
        Some(Turn { key, number })
    }

    /// Whether somebody makes the result now.
    pub fn is_under_way(&self, key: CacheKey) -> bool {
        self.under_way.contains_key(&key)
    }

    /// The result is there: gives those that waited for it, in the order in which they came.
    pub fn land(&mut self, turn: Turn) -> VecDeque<W> {
        match self.flight(turn) {
            Some(_) => self.under_way.remove(&turn.key).map(|flight| flight.waiting),
            None => None,
        }
        .unwrap_or_default()
    }

    /// There is no result: it is the turn of the one that waits longest, if any does. Whoever no longer waits is to be
    /// passed over by handing the turn it was given back here.
    pub fn pass_on(&mut self, turn: Turn) -> Option<(W, Turn)> {
        let number = self.next_turn();
        let flight = self.flight(turn)?;
        let Some(next) = flight.waiting.pop_front() else {
            self.under_way.remove(&turn.key);
            return None;
        };
        flight.turn = number;
        Some((
            next,
            Turn {
                key: turn.key,
                number,
            },
        ))
    }

    /// How many results are being made.
    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    fn flight(&mut self, turn: Turn) -> Option<&mut Flight<W>> {
        let flight = self.under_way.get_mut(&turn.key)?;
        (flight.turn == turn.number).then_some(flight)
    }

    fn next_turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }
}

#[cfg(test)]
mod tests;
