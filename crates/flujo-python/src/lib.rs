//! The Python shell of Flujo: conversion and the asyncio host. It decides nothing; the engine is `flujo-core`.

use flujo_allocations::Counting;
use mimalloc::MiMalloc;
use pyo3::prelude::*;

mod agents;
mod cache;
mod claims;
mod command_line;
mod config;
mod context;
mod functions;
mod host;
mod meter;
mod monitor;
mod object;
mod prices;
mod rates;
mod statistics;
mod store;
mod telemetry;
mod templates;
mod vectorcall;

/// Steps, lanes and records are many small allocations: a tenth of what a branch costs is saved. It counts while a claim
/// about object pooling is measured.
#[global_allocator]
static ALLOCATOR: Counting<MiMalloc> = Counting(MiMalloc);

/// The native module behind the `flujo` package. Its names are private; import from `flujo`.
// Contexts ask how many references an object has, and pause the collector: a free-threaded interpreter answers the one
// only roughly and shares the other among its threads, so it has to turn its lock on.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    agents::register(module)?;
    cache::register(module)?;
    claims::register(module)?;
    command_line::register(module)?;
    config::register(module)?;
    context::register(module)?;
    host::register(module)?;
    meter::register(module)?;
    monitor::register(module)?;
    telemetry::register(module)?;
    prices::register(module)?;
    rates::register(module)?;
    store::register(module)?;
    templates::register(module)?;
    // The module is private: what is public is said in the package.
    module.delattr("__all__")?;
    Ok(())
}
