//! Object pooling: what is allocated again and again for runs is kept and used again.
//!
//! A pool holds objects of one kind by value, so an object that somebody can still see is never in it: whoever gives one
//! back gives up the last hold on it. Who gives it back has emptied it. How many are kept is bounded. An object may be
//! given back by another thread than took it.

mod optimized;
mod plain;
#[cfg(test)]
mod tests;

use std::fmt::Debug;

pub use optimized::OptimizedPool;
pub use plain::PlainPool;

use crate::config::Twin;

/// A pool keeps at most this many objects of a kind, whatever `max_pool_size` says: a larger number is taken for this
/// one.
pub const MOST_KEPT: usize = 1_000_000;

/// Objects of one kind to be used again.
pub trait Pool<T>: Debug + Send + Sync {
    /// An object that was given back; `None` where there is none, so that the caller makes one.
    fn take(&self) -> Option<T>;

    /// Takes back an object that is empty again, or was made for a `take` that gave `None`.
    fn put(&self, object: T);

    /// Counts an object that was taken and won't come back.
    fn lost(&self);

    /// What it has given and got.
    fn statistics(&self) -> PoolCounts;

    /// Lets go of everything it keeps.
    fn clear(&self);
}

/// What a pool has given and got since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Objects taken out of it.
    pub hits: u64,
    /// Objects made because it had none.
    pub misses: u64,
    /// Objects given back and let go because it was full.
    pub overflow: u64,
    /// Objects given back, or lost.
    pub returned: u64,
    /// Objects it keeps now.
    pub retained: u64,
}

impl PoolCounts {
    /// Objects out of the pool now.
    pub fn in_use(&self) -> u64 {
        (self.hits + self.misses).saturating_sub(self.returned)
    }
}

impl std::ops::AddAssign for PoolCounts {
    fn add_assign(&mut self, other: Self) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.overflow += other.overflow;
        self.returned += other.returned;
        self.retained += other.retained;
    }
}

/// Both twins; a run uses the one that it started with.
#[derive(Debug)]
pub struct Pools<T> {
    plain: PlainPool,
    optimized: OptimizedPool<T>,
}

impl<T: Send> Pools<T> {
    /// Pools that keep at most `max_pool_size` objects, and never more than [`MOST_KEPT`].
    pub fn new(max_pool_size: usize) -> Self {
        Self {
            plain: PlainPool::default(),
            optimized: OptimizedPool::new(max_pool_size),
        }
    }

    /// The pool a run uses.
    pub fn of(&self, twin: Twin) -> &dyn Pool<T> {
        match twin {
            Twin::Plain => &self.plain,
            Twin::Optimized => &self.optimized,
        }
    }

    /// What both twins have given and got.
    pub fn statistics(&self) -> PoolCounts {
        let mut counts = Pool::<T>::statistics(&self.plain);
        counts += self.optimized.statistics();
        counts
    }
}
