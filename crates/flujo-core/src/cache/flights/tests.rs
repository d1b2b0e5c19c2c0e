//! Single flight, move by move.

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
