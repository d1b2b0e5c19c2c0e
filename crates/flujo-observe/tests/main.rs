//! Where spans and metrics go.

mod collector;
mod otlp;
mod prometheus;
