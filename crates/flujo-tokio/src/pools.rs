//! What the runs of a runner allocate again and again, kept for the next ones: where they and their lanes are driven, with the
//! buffers of their machines.

use std::sync::{Arc, Mutex, PoisonError};

use flujo_core::config::{Part, Twins, contained};
use flujo_core::machine::{Machine, Storage};
use flujo_core::pool::{Pool, PoolCounts, Pools};
use flujo_core::stats::PoolStats;

use crate::domain::Tokio;
use crate::run::{House, Shared};

/// What a run or lane needs while it goes on.
#[derive(Default)]
struct Kit {
    storage: Storage<Tokio>,
    /// Empty.
    house: House,
}

pub(crate) struct RunnerPools {
    machines: Pools<Kit>,
    /// What had been counted when the statistics were last reset.
    before: Mutex<PoolCounts>,
}

impl RunnerPools {
    pub(crate) fn new(max_pool_size: usize) -> Self {
        Self {
            machines: Pools::new(max_pool_size),
            before: Mutex::default(),
        }
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let now = self.machines.statistics();
        let before = *self.before.lock().unwrap_or_else(PoisonError::into_inner);
        PoolStats {
            hits: now.hits - before.hits,
            misses: now.misses - before.misses,
            overflow: now.overflow - before.overflow,
            in_use: now.in_use(),
            retained: [("machine".to_owned(), now.retained)].into(),
        }
    }

    pub(crate) fn reset(&self) {
        *self.before.lock().unwrap_or_else(PoisonError::into_inner) = self.machines.statistics();
    }
}

/// What a machine was lent, until it is given back or the machine is gone with it.
pub(crate) struct Lent(Option<Arc<Shared>>);

impl Lent {
    /// Gives a machine that begins its buffers, and a house for its driver.
    pub(crate) fn to(machine: &mut Machine<Tokio>, shared: &Arc<Shared>) -> (Self, House) {
        let kit = shared.contain(Part::Pool, None, |twins| pool(shared, twins).take());
        let Kit { storage, house } = kit.unwrap_or_default();
        machine.furnish(storage);
        (Self(Some(Arc::clone(shared))), house)
    }

    /// Takes back what one had that has ended; the house is empty.
    pub(crate) fn back(mut self, machine: &mut Machine<Tokio>, house: House) {
        if let Some(shared) = self.0.take() {
            let storage = machine.retire();
            let kit = Kit { storage, house };
            if let Err(reason) = contained(|| pool(&shared, shared.twins.now()).put(kit)) {
                shared.gave_way(Part::Pool, &reason);
            }
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            pool(shared, shared.twins.now()).lost();
        }
    }
}

fn pool(shared: &Shared, twins: Twins) -> &dyn Pool<Kit> {
    shared.runner.pools.machines.of(twins.of(Part::Pool))
}
