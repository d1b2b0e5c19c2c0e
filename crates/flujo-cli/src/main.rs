//! The `flujo` command: runs, checks and draws blueprints.

use std::alloc::System;
use std::process::ExitCode;

use flujo_allocations::Counting;

/// Counts while `flujo bench claims` asks what object pooling saves.
#[global_allocator]
static ALLOCATOR: Counting<System> = Counting(System);

fn main() -> ExitCode {
    ExitCode::from(flujo_cli::run(std::env::args_os()))
}
