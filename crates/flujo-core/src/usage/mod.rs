//! Cost and tokens: exact amounts, limits, and the run's one shared pool.
//!
//! Money is an integer number of nano-dollars; sums are exact and the sum at each level equals the sum of its leaves.

mod amount;
mod pool;

pub use amount::{Cost, CostError, Usage, UsageLimits};
pub use pool::UsagePool;
