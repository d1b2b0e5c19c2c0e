//! What the optimised cache keeps, and who is let go, in the way of W-TinyLFU (Einziger, Friedman and Manes, "`TinyLFU`: A
//! Highly Efficient Cache Admission Policy", 2017): what comes stays in a small window first; what leaves that is kept only
//! if it was asked for more often lately than the one that would have to go for it, which is the least of a few taken at
//! random, as in Ristretto. A hit changes nothing but a count of its own, so that readers can share a lock.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU8, Ordering};

use super::frequency::{Frequencies, MOST};
use super::{CacheKey, CacheStatistics, is_over};
use crate::machine::Time;

/// Of a hundred results, so many are in the window.
const WINDOW: usize = 1;
/// The one to go is the least of so many.
const LOOKED_AT: usize = 8;
/// Counts are halved after as many new results as this times the capacity.
const AGE: usize = 4;

/// Keys are digests: their bits are as good as any hash of them.
#[derive(Debug, Default)]
struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn write_u128(&mut self, digest: u128) {
        self.0 = mixed(digest);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// 64 bits of a key, for keys too that are small numbers.
#[allow(clippy::cast_possible_truncation)] // both halves are used
fn mixed(digest: u128) -> u64 {
    let folded = (digest as u64) ^ ((digest >> 64) as u64).rotate_left(32);
    let spread = (folded ^ (folded >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    spread ^ (spread >> 29)
}

/// What was found under a key.
pub(super) enum Found<V> {
    Result(V),
    Expired,
    Nothing,
}

#[derive(Debug)]
pub(super) struct Slot<V> {
    key: CacheKey,
    value: V,
    expires: Option<Time>,
    /// How often it was asked for lately, at most `MOST`.
    count: AtomicU8,
    in_window: bool,
}

impl<V> Slot<V> {
    fn count(&self) -> u8 {
        self.count.load(Ordering::Relaxed)
    }

    /// Counts a request. Two at the same time may count as one; what is asked for all the time is only read.
    fn asked(&self) {
        let count = self.count();
        if count < MOST {
            self.count.store(count + 1, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
pub(super) struct Kept<V> {
    places: HashMap<CacheKey, usize, BuildHasherDefault<DigestHasher>>,
    slots: Vec<Slot<V>>,
    /// Keys of the results in the window, oldest first.
    window: VecDeque<CacheKey>,
    frequencies: Frequencies,
    /// New results since the counts were halved.
    came: usize,
    random: u64,
    capacity: usize,
    statistics: CacheStatistics,
}

impl<V> Kept<V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            places: HashMap::default(),
            slots: Vec::new(),
            window: VecDeque::new(),
            frequencies: Frequencies::new(capacity),
            came: 0,
            random: 0x2545_f491_4f6c_dd1d,
            capacity,
            statistics: CacheStatistics::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Insertions, evictions and expirations.
    pub(super) fn statistics(&self) -> CacheStatistics {
        self.statistics
    }

    /// What is under a key; counts the request.
    pub(super) fn get(&self, key: CacheKey, now: Time) -> Found<&V> {
        match self.places.get(&key).and_then(|place| self.slots.get(*place)) {
            Some(slot) if !is_over(slot.expires, now) => {
                slot.asked();
                Found::Result(&slot.value)
            }
            Some(_) => Found::Expired,
            None => Found::Nothing,
        }
    }

    pub(super) fn remove(&mut self, key: CacheKey) -> Option<V> {
        let place = self.places.get(&key).copied()?;
        self.take(place)
    }

    /// Lets all results go, for the caller to drop.
    pub(super) fn clear(&mut self) -> Vec<Slot<V>> {
        self.places.clear();
        self.window.clear();
        std::mem::take(&mut self.slots)
    }

    /// Lets a result go that has expired; another thread may have brought a new one meanwhile.
    pub(super) fn take_expired(&mut self, key: CacheKey, now: Time) -> Option<V> {
        let place = self.places.get(&key).copied()?;
        self.slots.get(place).filter(|slot| is_over(slot.expires, now))?;
        self.statistics.expirations += 1;
        self.take(place)
    }

    /// Keeps a value; gives what went for it.
    pub(super) fn insert(&mut self, key: CacheKey, value: V, expires: Option<Time>, now: Time) -> Option<V> {
        self.statistics.insertions += 1;
        if let Some(place) = self.places.get(&key).copied()
            && let Some(slot) = self.slots.get_mut(place)
        {
            slot.expires = expires;
            return Some(std::mem::replace(&mut slot.value, value));
        }
        if self.capacity == 0 {
            self.statistics.evictions += 1;
            return Some(value);
        }
        self.grow_older();
        self.frequencies.add(mixed(key.0));
        let gone = if self.slots.len() < self.capacity {
            None
        } else {
            self.make_room(now)
        };
        self.places.insert(key, self.slots.len());
        self.slots.push(Slot {
            key,
            value,
            expires,
            count: AtomicU8::new(self.frequencies.of(mixed(key.0))),
            in_window: true,
        });
        self.window.push_back(key);
        while self.window.len() > self.window_size() {
            self.leave_window();
        }
        gone
    }

    fn window_size(&self) -> usize {
        (self.capacity.saturating_mul(WINDOW) / 100).max(1)
    }

    /// The oldest in the window is one of the others from now on.
    fn leave_window(&mut self) {
        let place = self
            .window
            .pop_front()
            .and_then(|key| self.places.get(&key).copied());
        if let Some(slot) = place.and_then(|place| self.slots.get_mut(place)) {
            slot.in_window = false;
        }
    }

    /// Of the oldest in the window and the least of some others, the one that was asked for less goes; what has expired
    /// goes first.
    fn make_room(&mut self, now: Time) -> Option<V> {
        let full = self.window.len() >= self.window_size();
        let candidate = self.window.front().filter(|_| full);
        let candidate = candidate.and_then(|key| self.places.get(key).copied());
        let worth = |slot: &Slot<V>| {
            let over = is_over(slot.expires, now);
            if over { -1 } else { i16::from(slot.count()) }
        };
        let mut least: Option<(usize, i16)> = None;
        for _ in 0..LOOKED_AT {
            let place = random_below(&mut self.random, self.slots.len());
            let Some(slot) = self.slots.get(place).filter(|slot| !slot.in_window) else {
                continue;
            };
            let worth = worth(slot);
            if least.is_none_or(|(_, least)| worth < least) {
                least = Some((place, worth));
            }
        }
        let oldest = || self.window.front().and_then(|key| self.places.get(key).copied());
        let goes = match (candidate, least) {
            (Some(candidate), Some((victim, worth_of_victim))) => {
                let worth_of_candidate = self.slots.get(candidate).map_or(-1, worth);
                if worth_of_candidate > worth_of_victim {
                    victim
                } else {
                    candidate
                }
            }
            (Some(only), None) | (None, Some((only, _))) => only,
            (None, None) => oldest().unwrap_or(0),
        };
        let over = self
            .slots
            .get(goes)
            .is_some_and(|slot| is_over(slot.expires, now));
        self.statistics.expirations += u64::from(over);
        self.statistics.evictions += u64::from(!over);
        self.take(goes)
    }

    /// Takes a result out; how often it was asked for is remembered. The last slot moves into its place.
    fn take(&mut self, place: usize) -> Option<V> {
        if place >= self.slots.len() {
            return None;
        }
        let slot = self.slots.swap_remove(place);
        self.places.remove(&slot.key);
        if let Some(moved) = self.slots.get(place) {
            self.places.insert(moved.key, place);
        }
        if slot.in_window {
            self.window.retain(|key| *key != slot.key);
        }
        self.frequencies.raise(mixed(slot.key.0), slot.count());
        Some(slot.value)
    }

    /// What was asked for long ago counts less and less.
    fn grow_older(&mut self) {
        self.came += 1;
        if self.came < self.capacity.saturating_mul(AGE) {
            return;
        }
        self.came = 0;
        self.frequencies.halve();
        for slot in &mut self.slots {
            let count = slot.count.get_mut();
            *count /= 2;
        }
    }
}

/// xorshift64* (Marsaglia 2003, Vigna 2016).
#[allow(clippy::cast_possible_truncation)] // below `bound`
fn random_below(state: &mut u64, bound: usize) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    let random = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
    ((u128::from(random) * bound as u128) >> 64) as usize
}
