//! What must hold for every run.

use flujo_core::plan::Plan;

use crate::{Callable, Ran};

/// What does not hold, in words; empty for a sound run.
pub fn broken(_plan: &Plan<Callable>, _ran: &Ran) -> Vec<String> {
    Vec::new()
}
