//! Agents that ship with Flujo: chat models, HTTP, commands, templates, extractors and files.
//!
//! Each agent is a type that implements [`flujo_core::agent::Agent`], and a configuration that serde can read, so
//! that a blueprint builds it by its `type` ([`AgentConfig`]). Everything here runs on tokio and holds to stated
//! bounds: of time, of bytes, of rounds. Error texts name the place and the cure, and never a secret.

pub mod chat;
pub mod command;
mod config;
pub mod extract;
pub mod files;
pub mod http;
mod net;
mod payload;
mod prices;
mod secret;
pub mod template;

pub use config::{AgentConfig, ConfigError, Permission};
pub use flujo_core::agent::Pricing;
pub use prices::{PriceFault, Prices, PricesError};
pub use secret::Secret;
