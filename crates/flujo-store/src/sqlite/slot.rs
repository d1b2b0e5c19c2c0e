//! Connections, and how they are kept out of a fork's way.
//!
//! `SQLite` keeps what it knows of open files and locks in the process; a child that a fork has made would believe to hold
//! locks that are its parent's. So nothing may be open while a process forks: [`before_fork`] waits for what is being
//! done, closes all connections and lets nothing be opened until [`after_fork`]. They are opened anew when needed.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rusqlite::Connection;

/// The place of one thread's connection.
#[derive(Debug, Default)]
pub(super) struct Slot {
    connection: Mutex<Option<Connection>>,
}

/// All of this process. Whoever holds it keeps everybody from beginning something.
static SLOTS: Mutex<Vec<Weak<Slot>>> = Mutex::new(Vec::new());

thread_local! {
    static FORKING: RefCell<Option<MutexGuard<'static, Vec<Weak<Slot>>>>> = const { RefCell::new(None) };
}

fn slots() -> MutexGuard<'static, Vec<Weak<Slot>>> {
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    /// A place that forks know of.
    pub(super) fn new() -> Arc<Self> {
        let slot = Arc::new(Self::default());
        let mut slots = slots();
        slots.retain(|slot| slot.strong_count() > 0);
        slots.push(Arc::downgrade(&slot));
        slot
    }

    /// Its connection, or none yet.
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        let nobody_forks = slots();
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        drop(nobody_forks);
        connection
    }
}

/// To be called before the process forks, by the thread that does: closes this crate's connections to `SQLite` files and
/// keeps them closed. Waits for what is being written at the moment, which wants nothing of the caller.
pub fn before_fork() {
    FORKING.with_borrow_mut(|forking| {
        if forking.is_some() {
            return;
        }
        let slots = slots();
        for slot in slots.iter().filter_map(Weak::upgrade) {
            slot.connection
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
        }
        *forking = Some(slots);
    });
}

/// To be called after the process has forked, by the same thread, in the parent and in the child.
pub fn after_fork() {
    FORKING.with_borrow_mut(Option::take);
}
