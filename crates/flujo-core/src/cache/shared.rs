//! The cache of a runner's cached steps, or of several runners': the results, what they depend on, and who makes them now.
//!
//! Nothing here waits, reads a clock or knows a runtime. A host asks, and is told that there is a result, or that to make
//! it is its turn, or that somebody makes it: then a [`Waiter`] of the host's is told when the result is there or its turn
//! has come. It is told of a result with its key, since it may turn out to want another one: what a step reads of the
//! context is known only when it has run.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::reads::{self, Fields, ReadSet, SeenReads};
use super::{CacheKey, Flights, OptimizedCache, PlainCache, ResultCache, Turn, Uncached};
use crate::config::Twin;
use crate::machine::Time;
use crate::usage::Usage;

/// A result that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept<V> {
    /// The output.
    pub output: V,
    /// What the step used to make it.
    pub usage: Usage,
}

/// Which result is wanted.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Stands for the step, its input and its declared scope.
    pub primary: CacheKey,
    /// The context, where the result depends on what the step reads of it.
    pub fields: Option<&'a dyn Fields>,
}

/// What is known of a result that is wanted.
#[derive(Debug)]
pub enum Found<V> {
    /// It is there.
    Kept(Kept<V>),
    /// It is to be made now.
    Lead(Turn),
    /// Somebody makes it; the waiter will be told.
    UnderWay,
}

/// Somebody who waits for a result. Told once, outside of all locks.
pub trait Waiter<V> {
    /// A result is there. When it isn't [the one that is wanted](Landed::answers), that is to be looked for again.
    fn landed(self, landed: Arc<Landed<V>>);

    /// To make the result is its turn. False when it no longer waits: then somebody else's turn comes.
    fn turn(self, turn: Turn) -> bool;
}

/// A result that was waited for.
#[derive(Debug)]
pub struct Landed<V> {
    key: CacheKey,
    reads: ReadSet,
    kept: Kept<V>,
}

impl<V: Clone> Landed<V> {
    /// The result, when it is the one that is wanted.
    pub fn answers(&self, wanted: Wanted<'_>) -> Option<Kept<V>> {
        let key = wanted.key(&self.reads).ok()?;
        (key == self.key).then(|| self.kept.clone())
    }
}

impl Wanted<'_> {
    /// What a result is kept under that was made reading `reads`.
    ///
    /// # Errors
    /// [`Uncached`] when there were too many, or one has no plain form.
    pub fn key(&self, reads: &ReadSet) -> Result<CacheKey, Uncached> {
        match self.fields {
            Some(fields) => reads::secondary(self.primary, reads, fields),
            None => Ok(self.primary),
        }
    }
}

/// A result that was put.
#[derive(Debug)]
pub struct Stored {
    /// What it is kept under.
    pub key: CacheKey,
    /// All that results of this step and input were seen to depend on, when something was seen for the first time.
    pub reads: Option<Arc<[ReadSet]>>,
}

/// What happened in a cache of steps since it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepCacheStatistics {
    /// Results found, those included that were made by somebody else while they were waited for.
    pub hits: u64,
    /// Results that had to be made.
    pub misses: u64,
    /// Results that are kept now.
    pub kept: u64,
    /// Results let go because there was no room.
    pub evictions: u64,
    /// Results let go because their time was over.
    pub expirations: u64,
    /// How often a result was not kept, by [the reason's name](Uncached::name).
    pub uncached: BTreeMap<&'static str, u64>,
}

/// The cache of cached steps. `W` are those that wait.
pub struct StepCache<V, W> {
    results: Box<dyn ResultCache<Kept<V>>>,
    seen: Mutex<SeenReads>,
    flights: Mutex<Flights<W>>,
    hits: AtomicU64,
    misses: AtomicU64,
    uncached: [AtomicU64; Uncached::ALL.len()],
}

impl<V: Clone + Send + Sync + 'static, W: Waiter<V>> StepCache<V, W> {
    /// A cache of at most `capacity` results.
    pub fn new(twin: Twin, capacity: usize) -> Self {
        Self {
            results: match twin {
                Twin::Plain => Box::new(PlainCache::new(capacity)),
                Twin::Optimized => Box::new(OptimizedCache::new(capacity)),
            },
            seen: Mutex::new(SeenReads::new(capacity)),
            flights: Mutex::default(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            uncached: Default::default(),
        }
    }

    /// Looks for a result. When it isn't there, it is the asker's turn to make it, or what `waiter` gives waits.
    pub fn look(&self, wanted: Wanted<'_>, now: Time, waiter: impl FnOnce() -> W) -> Found<V> {
        let sets = self.reads_of(wanted);
        if let Some((_, _, kept)) = self.find(wanted, &sets, now) {
            return self.hit(kept);
        }
        let flight = match wanted.fields {
            Some(fields) => reads::shared(wanted.primary, &sets, fields),
            None => wanted.primary,
        };
        let turn = self.flights().join(flight, waiter);
        let Some(turn) = turn else {
            return Found::UnderWay;
        };
        // It may have come between the look and the turn.
        let sets = self.reads_of(wanted);
        if let Some((key, reads, kept)) = self.find(wanted, &sets, now) {
            self.land(turn, key, reads.clone(), kept.clone());
            return self.hit(kept);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        Found::Lead(turn)
    }

    /// A result, whoever makes it.
    pub fn get(&self, key: CacheKey, now: Time) -> Option<Kept<V>> {
        let found = self.results.get(key, now);
        let count = if found.is_some() { &self.hits } else { &self.misses };
        count.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps a result that nobody waits for.
    pub fn insert(&self, key: CacheKey, kept: Kept<V>, expires: Option<Time>, now: Time) {
        self.results.insert(key, kept, expires, now);
    }

    /// Lets a result go, and gives it.
    pub fn remove(&self, key: CacheKey) -> Option<Kept<V>> {
        self.results.remove(key)
    }

    /// The sets of fields that results of this step and input are known to depend on.
    pub fn reads_of(&self, wanted: Wanted<'_>) -> Arc<[ReadSet]> {
        match wanted.fields {
            Some(_) => self.seen().of(wanted.primary),
            None => Arc::from([ReadSet::default()]),
        }
    }

    fn find<'s>(
        &self,
        wanted: Wanted<'_>,
        sets: &'s [ReadSet],
        now: Time,
    ) -> Option<(CacheKey, &'s ReadSet, Kept<V>)> {
        sets.iter().find_map(|reads| {
            let key = wanted.key(reads).ok()?;
            Some((key, reads, self.results.get(key, now)?))
        })
    }

    fn hit(&self, kept: Kept<V>) -> Found<V> {
        self.hits.fetch_add(1, Ordering::Relaxed);
        Found::Kept(kept)
    }

    /// Somebody who waited was handed a result.
    pub fn count_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    /// Whoever was handed a turn found the result elsewhere, as in a second tier.
    pub fn count_found_elsewhere(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
        self.misses.fetch_sub(1, Ordering::Relaxed);
    }

    /// Somebody who waited was handed a turn.
    pub fn count_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Keeps a result until `expires`, and tells all that wait for it. `reads` is what was read of the context to make it.
    ///
    /// # Errors
    /// [`Uncached`], counted, when it can't be kept: then it is the next one's turn.
    pub fn put(
        &self,
        turn: Turn,
        wanted: Wanted<'_>,
        reads: ReadSet,
        kept: Kept<V>,
        expires: Option<Time>,
        now: Time,
    ) -> Result<Stored, Uncached> {
        let key = match wanted.key(&reads) {
            Ok(key) => key,
            Err(reason) => {
                self.release(turn, reason);
                return Err(reason);
            }
        };
        let sets = wanted
            .fields
            .and_then(|_| self.seen().note(wanted.primary, &reads));
        self.results.insert(key, kept.clone(), expires, now);
        self.land(turn, key, reads, kept);
        Ok(Stored { key, reads: sets })
    }

    fn land(&self, turn: Turn, key: CacheKey, reads: ReadSet, kept: Kept<V>) {
        let waiting = self.flights().land(turn);
        if waiting.is_empty() {
            return;
        }
        let landed = Arc::new(Landed { key, reads, kept });
        for waiter in waiting {
            waiter.landed(Arc::clone(&landed));
        }
    }

    /// A result will not be made after all, or not be kept: it is the turn of the one that waits longest. Counts why.
    pub fn release(&self, turn: Turn, reason: Uncached) {
        self.count(reason);
        let mut turn = turn;
        loop {
            let next = self.flights().pass_on(turn);
            let Some((waiter, its)) = next else { return };
            if waiter.turn(its) {
                return;
            }
            turn = its;
        }
    }

    /// Counts a result that isn't kept.
    pub fn count(&self, reason: Uncached) {
        if let Some(counter) = self.uncached.get(reason as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lets all results go. Those under way are kept when they are there; what was counted stays.
    pub fn clear(&self) {
        self.results.clear();
        self.seen().clear();
    }

    /// How many results are being made now.
    pub fn under_way(&self) -> usize {
        self.flights().len()
    }

    /// What happened so far.
    pub fn statistics(&self) -> StepCacheStatistics {
        let counted = self.results.statistics();
        let reasons = Uncached::ALL.iter().zip(&self.uncached);
        let uncached = reasons.map(|(reason, counter)| (reason.name(), counter.load(Ordering::Relaxed)));
        StepCacheStatistics {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            kept: self.results.len() as u64,
            evictions: counted.evictions,
            expirations: counted.expirations,
            uncached: uncached.filter(|(_, count)| *count > 0).collect(),
        }
    }

    fn seen(&self) -> MutexGuard<'_, SeenReads> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flights(&self) -> MutexGuard<'_, Flights<W>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
