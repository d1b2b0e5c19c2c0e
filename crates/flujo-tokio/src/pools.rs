//! What the runs of a runner allocate again and again, kept for the next ones: the buffers of their machines.

use std::sync::{Arc, Mutex, PoisonError};

use flujo_core::config::{Part, Twins, contained};
use flujo_core::machine::{Machine, Storage};
use flujo_core::pool::{Pool, PoolCounts, Pools};
use flujo_core::stats::PoolStats;

use crate::domain::Tokio;
use crate::run::Shared;

#[derive(Debug)]
pub(crate) struct RunnerPools {
    machines: Pools<Storage<Tokio>>,
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

/// The buffers that a machine was lent, until they are given back or the machine is gone with them.
pub(crate) struct Lent(Option<Arc<Shared>>);

impl Lent {
    /// Gives a machine that begins its buffers.
    pub(crate) fn to(machine: &mut Machine<Tokio>, shared: &Arc<Shared>) -> Self {
        let storage = shared.contain(Part::Pool, None, |twins| pool(shared, twins).take());
        if let Some(storage) = storage {
            machine.furnish(storage);
        }
        Self(Some(Arc::clone(shared)))
    }

    /// Takes back those of one that has ended.
    pub(crate) fn back(mut self, machine: &mut Machine<Tokio>) {
        if let Some(shared) = self.0.take() {
            let storage = machine.retire();
            if let Err(reason) = contained(|| pool(&shared, shared.twins.now()).put(storage)) {
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

fn pool(shared: &Shared, twins: Twins) -> &dyn Pool<Storage<Tokio>> {
    shared.runner.pools.machines.of(twins.of(Part::Pool))
}
