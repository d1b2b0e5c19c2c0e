//! The plain way: nothing is kept, the allocator does its work.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Pool, PoolCounts};

/// Keeps nothing.
#[derive(Debug, Default)]
pub struct PlainPool {
    made: AtomicU64,
    returned: AtomicU64,
}

impl<T> Pool<T> for PlainPool {
    fn take(&self) -> Option<T> {
        self.made.fetch_add(1, Ordering::Relaxed);
        None
    }

    fn put(&self, object: T) {
        self.returned.fetch_add(1, Ordering::Relaxed);
        drop(object);
    }

    fn lost(&self) {
        self.returned.fetch_add(1, Ordering::Relaxed);
    }

    fn statistics(&self) -> PoolCounts {
        PoolCounts {
            misses: self.made.load(Ordering::Relaxed),
            returned: self.returned.load(Ordering::Relaxed),
            ..PoolCounts::default()
        }
    }

    fn clear(&self) {}
}
