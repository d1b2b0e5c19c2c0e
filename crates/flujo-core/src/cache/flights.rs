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
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_leads_and_the_others_wait_in_order() {
        let mut flights = Flights::default();
        let turn = flights.join(CacheKey(1), || 'a').unwrap();
        assert_eq!(flights.join(CacheKey(1), || 'b'), None);
        assert_eq!(flights.join(CacheKey(1), || 'c'), None);
        assert!(
            flights.join(CacheKey(2), || 'd').is_some(),
            "another result has its own leader"
        );
        assert_eq!(flights.land(turn), ['b', 'c']);
        assert!(flights.land(turn).is_empty(), "a used turn does nothing");
        assert!(!flights.is_under_way(CacheKey(1)));
    }

    #[test]
    fn when_the_leader_gives_up_exactly_one_takes_over() {
        let mut flights = Flights::default();
        let first = flights.join(CacheKey(1), || 'a').unwrap();
        flights.join(CacheKey(1), || 'b');
        flights.join(CacheKey(1), || 'c');
        let (next, second) = flights.pass_on(first).unwrap();
        assert_eq!(next, 'b');
        assert_eq!(flights.pass_on(first), None, "nobody takes over twice");
        assert!(flights.land(first).is_empty(), "and the old leader lands nothing");
        let (next, third) = flights.pass_on(second).unwrap();
        assert_eq!(next, 'c');
        assert_eq!(flights.pass_on(third), None);
        assert!(flights.is_empty());
    }

    #[derive(Debug, Clone)]
    enum Act {
        Join(u128),
        Land(usize),
        PassOn(usize),
    }

    proptest! {
        /// Whatever happens in whatever order, also with turns that were used: each result has at most one leader, and
        /// everybody who came leads, is told of a result, or still waits, once.
        #[test]
        fn each_result_has_one_leader_and_nobody_is_lost(acts in proptest::collection::vec(
            prop_oneof![
                3 => (0..3_u128).prop_map(Act::Join),
                2 => (0..40_usize).prop_map(Act::Land),
                2 => (0..40_usize).prop_map(Act::PassOn),
            ],
            0..80,
        )) {
            let mut flights = Flights::default();
            let (mut came, mut led, mut told) = (0, 0, 0);
            let (mut turns, mut valid): (Vec<Turn>, HashMap<u128, Turn>) = (Vec::new(), HashMap::new());
            let mut waiting: HashMap<u128, usize> = HashMap::new();
            for act in acts {
                match act {
                    Act::Join(key) => {
                        came += 1;
                        match flights.join(CacheKey(key), || came) {
                            Some(turn) => {
                                prop_assert!(valid.insert(key, turn).is_none(), "two leaders");
                                turns.push(turn);
                                led += 1;
                            }
                            None => *waiting.entry(key).or_default() += 1,
                        }
                    }
                    Act::Land(place) => {
                        let Some(turn) = turns.get(place).copied() else { continue };
                        let landed = flights.land(turn);
                        if valid.get(&turn.key.0) == Some(&turn) {
                            prop_assert_eq!(landed.len(), waiting.remove(&turn.key.0).unwrap_or(0));
                            told += landed.len();
                            valid.remove(&turn.key.0);
                        } else {
                            prop_assert!(landed.is_empty());
                        }
                    }
                    Act::PassOn(place) => {
                        let Some(turn) = turns.get(place).copied() else { continue };
                        let is_valid = valid.get(&turn.key.0) == Some(&turn);
                        let next = flights.pass_on(turn);
                        if !is_valid {
                            prop_assert!(next.is_none());
                            continue;
                        }
                        let waits = waiting.entry(turn.key.0).or_default();
                        prop_assert_eq!(next.is_some(), *waits > 0);
                        match next {
                            Some((_, next)) => {
                                *waits -= 1;
                                led += 1;
                                turns.push(next);
                                valid.insert(turn.key.0, next);
                            }
                            None => drop(valid.remove(&turn.key.0)),
                        }
                    }
                }
                let still: usize = waiting.values().sum();
                prop_assert_eq!(led + told + still, came);
                prop_assert_eq!(flights.len(), valid.len());
            }
        }
    }
}
