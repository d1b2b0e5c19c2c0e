//! A global allocator that counts what is allocated and given back, while [`count`] asks for it; else each costs one look at
//! a flag more. A program that wants to know says so once:
//!
//! ```
//! #[global_allocator]
//! static ALLOCATOR: flujo_allocations::Counting<std::alloc::System> =
//!     flujo_allocations::Counting(std::alloc::System);
//!
//! let (_, counts) = flujo_allocations::count(|| vec![0_u8; 1000]);
//! assert_eq!(counts.map(|counts| counts.bytes >= 1000), Some(true));
//! ```

use std::alloc::{GlobalAlloc, Layout};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

static ON: AtomicBool = AtomicBool::new(false);
static BLOCKS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

/// An allocator that counts what it passes on to another.
pub struct Counting<A>(pub A);

/// What has been allocated, whether or not it has been given back, and what has been given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Allocations, growing an allocation included.
    pub blocks: u64,
    /// Bytes; of an allocation that grows, its new size.
    pub bytes: u64,
    /// Bytes given back; of an allocation that grows, its old size.
    pub freed: u64,
}

/// Does the work and gives what all threads allocated and gave back meanwhile; `None` where the program's allocator doesn't count.
pub fn count<T>(work: impl FnOnce() -> T) -> (T, Option<Counts>) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _held = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    BLOCKS.store(0, Ordering::Relaxed);
    BYTES.store(0, Ordering::Relaxed);
    ON.store(true, Ordering::SeqCst);
    let seen = BLOCKS.load(Ordering::Relaxed);
    drop(std::hint::black_box(Box::new(0_u64)));
    let counts = BLOCKS.load(Ordering::Relaxed) > seen;
    FREED.store(0, Ordering::Relaxed);
    BLOCKS.store(0, Ordering::Relaxed);
    BYTES.store(0, Ordering::Relaxed);
    let done = work();
    ON.store(false, Ordering::SeqCst);
    let counted = Counts {
        blocks: BLOCKS.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
        freed: FREED.load(Ordering::Relaxed),
    };
    (done, counts.then_some(counted))
}

#[inline]
fn note(bytes: usize) {
    if ON.load(Ordering::Relaxed) {
        BLOCKS.fetch_add(1, Ordering::Relaxed);
        BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

#[inline]
fn note_freed(bytes: usize) {
    if ON.load(Ordering::Relaxed) {
        FREED.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// SAFETY: each function passes its arguments on as they are; counting neither allocates nor panics.
#[allow(unsafe_code)]
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { self.0.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        note_freed(layout.size());
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { self.0.realloc(block, layout, size) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        note_freed(layout.size());
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { self.0.dealloc(block, layout) }
    }
}
