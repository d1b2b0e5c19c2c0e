//! Pipelines as users of the crate write them.

mod caching;
mod cancel;
mod control_flow;
mod examples;
mod isolation;
mod merging;
mod parallel;
mod pauses;
mod steps;
