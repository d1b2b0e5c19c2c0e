//! Where spans and metrics go.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // a test fails by panicking

mod collector;
mod otlp;
mod prometheus;
