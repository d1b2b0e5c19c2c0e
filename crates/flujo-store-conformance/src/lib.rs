//! What every store of runs must keep. [`run`] checks each promise by name against a store; [`compare`] plays random
//! histories of two workers on two stores and wants the same answers.
//!
//! ```
//! # use std::sync::Arc;
//! # use flujo_store::Memory;
//! use flujo_core::store::RunStore;
//! use flujo_store_conformance::{compare, run};
//!
//! # let make_mine = || { let store: Arc<dyn RunStore> = Arc::new(Memory::new()); move || store.clone() };
//! # let make_memory = make_mine;
//! // Called once for each promise: an empty place, and how it is opened, also for the second time.
//! run(make_mine)?;
//! compare(make_mine, make_memory, 20)?;
//! # Ok::<(), flujo_store_conformance::Broken>(())
//! ```
//!
//! Nothing here needs a runtime or a clock: futures are polled on the thread that asks.

mod check;
mod promises;
mod random;

use std::sync::Arc;

use flujo_core::store::{RunStore, StoreError};

pub use promises::PROMISES;
pub use random::compare;

/// Where a store keeps its runs. It outlives the store: what is opened again finds what was written.
pub trait Place {
    /// Opens the store, as a process of its own would.
    fn open(&self) -> Arc<dyn RunStore>;
}

impl<F: Fn() -> Arc<dyn RunStore>> Place for F {
    fn open(&self) -> Arc<dyn RunStore> {
        self()
    }
}

/// Something every store keeps.
#[derive(Debug, Clone, Copy)]
pub struct Promise {
    /// What, in words.
    pub name: &'static str,
    /// Checks it in an empty place.
    pub check: fn(&dyn Place) -> Result<(), Broken>,
}

/// A promise that wasn't kept, or an error where there should be none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub String);

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self(format!("the store said: {error}"))
    }
}

/// Checks every promise, each in a place of its own, and tells all that are broken.
pub fn run<P: Place>(make: impl Fn() -> P) -> Result<(), Broken> {
    let broken: Vec<String> = PROMISES
        .iter()
        .filter_map(|promise| {
            let place = make();
            let told = (promise.check)(&place).err()?;
            Some(format!("{}: {told}", promise.name.replace('_', " ")))
        })
        .collect();
    if broken.is_empty() {
        Ok(())
    } else {
        Err(Broken(broken.join("\n")))
    }
}
