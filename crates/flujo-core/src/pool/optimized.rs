//! The optimised twin: shelves with a lock each. A thread takes from its own shelf and gives back to it; only when that
//! is empty or full does it look at the others.

use std::fmt;

use crossbeam_utils::CachePadded;

use super::{MOST_KEPT, Pool, PoolCounts};
use crate::sync::{Mutex, MutexGuard, PoisonError, thread_number};

/// So many threads don't wait for one another.
const SHELVES: usize = 8;

/// Keeps what is given back, up to a bound.
pub struct OptimizedPool<T> {
    shelves: Box<[CachePadded<Mutex<Shelf<T>>>]>,
}

struct Shelf<T> {
    objects: Vec<T>,
    /// How many it has room for; those of all shelves together are the pool's bound.
    room: usize,
    hits: u64,
    misses: u64,
    overflow: u64,
    returned: u64,
}

impl<T> fmt::Debug for OptimizedPool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptimizedPool").finish_non_exhaustive()
    }
}

impl<T> OptimizedPool<T> {
    /// A pool that keeps at most `max` objects, and never more than [`MOST_KEPT`]; 0 keeps none.
    pub fn new(max: usize) -> Self {
        let max = max.min(MOST_KEPT);
        let shelf = |place: usize| Shelf {
            objects: Vec::new(),
            room: max / SHELVES + usize::from(place < max % SHELVES),
            hits: 0,
            misses: 0,
            overflow: 0,
            returned: 0,
        };
        Self {
            shelves: (0..SHELVES)
                .map(|place| CachePadded::new(Mutex::new(shelf(place))))
                .collect(),
        }
    }

    fn shelf(&self, place: usize) -> MutexGuard<'_, Shelf<T>> {
        // No foreign code runs under the lock: a shelf is whole also after a panic.
        self.shelves[place % SHELVES]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The places of the other shelves, from one's neighbour on.
    fn others(own: usize) -> impl Iterator<Item = usize> {
        (1..SHELVES).map(move |step| own + step)
    }
}

impl<T: Send> Pool<T> for OptimizedPool<T> {
    #[inline]
    fn take(&self) -> Option<T> {
        let own = thread_number();
        {
            let mut shelf = self.shelf(own);
            if let Some(object) = shelf.objects.pop() {
                shelf.hits += 1;
                return Some(object);
            }
        }
        let found = Self::others(own).find_map(|place| self.shelf(place).objects.pop());
        let mut shelf = self.shelf(own);
        match found {
            Some(_) => shelf.hits += 1,
            None => shelf.misses += 1,
        }
        found
    }

    #[inline]
    fn put(&self, object: T) {
        let own = thread_number();
        {
            let mut shelf = self.shelf(own);
            shelf.returned += 1;
            if shelf.objects.len() < shelf.room {
                shelf.objects.push(object);
                return;
            }
        }
        for place in Self::others(own) {
            let mut shelf = self.shelf(place);
            if shelf.objects.len() < shelf.room {
                shelf.objects.push(object);
                return;
            }
        }
        self.shelf(own).overflow += 1;
        drop(object); // without a lock: what it holds may be somebody else's
    }

    fn lost(&self) {
        self.shelf(thread_number()).returned += 1;
    }

    fn statistics(&self) -> PoolCounts {
        let mut counts = PoolCounts::default();
        for place in 0..SHELVES {
            let shelf = self.shelf(place);
            counts += PoolCounts {
                hits: shelf.hits,
                misses: shelf.misses,
                overflow: shelf.overflow,
                returned: shelf.returned,
                retained: shelf.objects.len() as u64,
            };
        }
        counts
    }

    fn clear(&self) {
        for place in 0..SHELVES {
            let objects = std::mem::take(&mut self.shelf(place).objects);
            drop(objects);
        }
    }
}
