//! The command as its users meet it: real processes, real files, real servers.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // what only tests call may fail like a test

mod bad_input;
#[cfg(unix)]
mod budget;
mod context;
mod control_flow;
mod examples;
#[cfg(unix)]
mod interrupt;
#[cfg(unix)]
mod kept;
mod model_faults;
#[cfg(unix)]
mod replayed;
mod review;
mod run;
#[cfg(unix)]
mod runs;
#[cfg(unix)]
mod served;
mod settings;
mod telemetry;
mod views;
