//! Retries, time limits and other plain settings of a step. What the grammar refuses has been reported by now.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::plan::{Backoff, Policy};
use flujo_core::rate::{RateLimit, Sharing};
use flujo_shared::rates::RedisRates;

use crate::node::Node;
use crate::problem::Reporter;
use crate::rule::Rule;
use crate::structure::name_text;

pub(super) fn count(node: &Node, key: &str) -> Option<u32> {
    node.get(key)
        .and_then(Node::as_int)
        .and_then(|number| u32::try_from(number).ok())
}

pub(super) fn seconds(node: &Node, key: &str) -> Option<Duration> {
    node.get(key)
        .and_then(Node::as_float)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// What `config` says; `retries` is what it means when it says nothing of them.
pub(super) fn policy(config: &Node, retries: u32) -> Policy {
    Policy {
        max_retries: count(config, "max_retries").unwrap_or(retries),
        timeout: seconds(config, "timeout_s"),
        backoff: config.get("backoff").map(backoff).unwrap_or_default(),
    }
}

fn backoff(node: &Node) -> Backoff {
    let initial = seconds(node, "initial_s").unwrap_or(Duration::from_millis(100));
    let number = |key: &str, default: f64| node.get(key).and_then(Node::as_float).unwrap_or(default);
    match word(node, "kind").as_deref() {
        Some("none") => Backoff::None,
        Some("fixed") => Backoff::Fixed(initial),
        _ => Backoff::Exponential {
            initial,
            factor: number("factor", 2.0),
            max: seconds(node, "max_s")
                .unwrap_or(Duration::from_secs(30))
                .max(initial),
            jitter: number("jitter", 0.1).min(1.0),
        },
    }
}

/// A rate limit, if it can be kept; else why it can't.
pub(super) fn rate_limit(node: &Node, reporter: &mut Reporter) -> Option<RateLimit> {
    let number = |key: &str| node.get(key).and_then(Node::as_float);
    let limit = RateLimit {
        name: Arc::from(name_text(node.get("name")?)?),
        requests_per_minute: number("requests_per_minute"),
        tokens_per_minute: number("tokens_per_minute"),
        max_concurrent: count(node, "max_concurrent"),
        shared: match node.get("redis") {
            Some(address) => Some(shared_by(address, reporter)?),
            None => None,
        },
    };
    match limit.checked() {
        Ok(limit) => Some(limit),
        Err(error) => {
            reporter.report(Rule::BadValue, node.position, error.to_string());
            None
        }
    }
}

/// The Redis server at an address; else why it is none. No text holds what is secret in it.
pub(crate) fn shared_by(address: &Node, reporter: &mut Reporter) -> Option<Sharing> {
    match RedisRates::of_process(address.as_str()?) {
        Ok(server) => Some(Sharing(server)),
        Err(error) => {
            reporter.report(Rule::BadValue, address.position, error.to_string());
            None
        }
    }
}

pub(super) fn word(node: &Node, key: &str) -> Option<String> {
    node.get(key).and_then(Node::as_str).map(str::to_ascii_lowercase)
}
