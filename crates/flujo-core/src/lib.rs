//! The engine of Flujo: a pipeline is compiled once into a [`plan::Plan`], a [`machine::Machine`] without I/O walks
//! the plan, and a host does what the machine asks.
//!
//! This crate touches nothing outside itself: no runtime, no clock, no threads, no randomness, no files, no network.
//! Time enters with events. Hosts (`flujo-tokio`, the Python shell, the simulation in the tests) live in other crates.

pub mod agent;
pub mod analysis;
pub mod cache;
pub mod config;
pub mod context;
pub mod machine;
pub mod monitor;
pub mod pipeline;
pub mod plan;
pub mod pool;
pub mod rate;
pub mod stats;
pub mod store;
mod sync;
pub mod telemetry;
pub mod usage;
pub mod value;
