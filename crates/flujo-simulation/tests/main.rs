//! What the machine does, on virtual time.

mod caching;
mod depth;
mod flow;
mod going_on;
mod lanes;
mod merging;
mod nesting;
mod plain_steps;
#[cfg(feature = "planted-faults")]
mod planted_faults;
mod random_pipelines;
mod rates;
mod step_life;
mod stopping;
