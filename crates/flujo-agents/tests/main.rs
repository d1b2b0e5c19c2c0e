//! Agents that ship.

mod chat;
mod command;
mod config;
mod extract;
mod files;
mod http;
mod loopback;
mod template;
