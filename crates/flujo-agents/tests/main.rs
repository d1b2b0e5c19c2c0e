//! Agents that ship.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)] // a test fails by panicking

mod chat;
mod command;
mod config;
mod extract;
mod files;
mod http;
mod loopback;
mod template;
