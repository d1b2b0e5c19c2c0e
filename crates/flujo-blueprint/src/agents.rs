//! Agents of a blueprint: their settings read into typed configurations, errors turned back into places in the file.

use std::sync::Arc;

use flujo_agents::{AgentConfig, ConfigError, Prices};
use flujo_core::rate::Sharing;

use crate::node::{Content, Node};
use crate::position::Position;
use crate::problem::{Reporter, did_you_mean};
use crate::read::shared_by;
use crate::rule::Rule;

/// Reads an agent's settings and tries them out, so that a run doesn't begin with settings it can't use. What has no
/// price of its own gets one from `prices`.
pub(crate) fn read(node: &Node, reporter: &mut Reporter, prices: &Prices) -> Option<Arc<AgentConfig>> {
    let type_name = node.get("type")?.as_str()?;
    let mut settings = without(node, "type")?;
    let shared = match take_redis(&mut settings) {
        Some(address) => Some(shared_rate(&address, reporter)?),
        None => None,
    };
    let value = match serde_json::to_value(settings.to_value()) {
        Ok(value) => value,
        Err(error) => {
            reporter.report(
                Rule::AgentSettings,
                node.position,
                format!("the agent's settings can't be used: {error}"),
            );
            return None;
        }
    };
    let mut track = serde_path_to_error::Track::new();
    let document = serde_path_to_error::Deserializer::new(value, &mut track);
    match AgentConfig::read(type_name, document)? {
        Ok(mut config) => match config.build() {
            Err(error) if !depends_on_environment(&error) => {
                report_config_error(&settings, &error, reporter);
                None
            }
            _ => {
                config.price_by(prices);
                if let AgentConfig::Chat(chat) = &mut config
                    && let Some(limit) = &mut chat.rate_limit
                {
                    limit.shared = shared;
                }
                Some(Arc::new(config))
            }
        },
        Err(error) => {
            report_unreadable(&settings, type_name, &track.path(), &error.to_string(), reporter);
            None
        }
    }
}

/// A map without one of its keys.
fn without(node: &Node, key: &str) -> Option<Node> {
    let entries = node.as_map()?.iter().filter(|entry| entry.key != key);
    Some(Node {
        position: node.position,
        content: Content::Map(entries.cloned().collect()),
    })
}

/// Takes the address of a server that counts for several processes out of the agent's rate limit: agents know of none.
fn take_redis(settings: &mut Node) -> Option<Node> {
    let Content::Map(entries) = &mut settings.content else {
        return None;
    };
    let limit = entries.iter_mut().find(|entry| entry.key == "rate_limit")?;
    let address = limit.value.get("redis")?.clone();
    limit.value = without(&limit.value, "redis")?;
    Some(address)
}

fn shared_rate(address: &Node, reporter: &mut Reporter) -> Option<Sharing> {
    if address.as_str().is_none() {
        let said = "`redis` of a rate limit must be the address of a server, such as `redis://host:6379/0`";
        reporter.report(Rule::WrongType, address.position, said);
    }
    shared_by(address, reporter)
}

/// Keys and addresses of services are looked up when a run begins, so that a file can be checked where there are none.
fn depends_on_environment(error: &ConfigError) -> bool {
    error.field.ends_with("_env")
}

/// Reports a setting that can't be used; the agent names it by a dotted path.
pub(crate) fn report_config_error(settings: &Node, error: &ConfigError, reporter: &mut Reporter) {
    let place = follow(
        settings,
        error.field.split(['.', '[', ']']).filter(|part| !part.is_empty()),
    );
    reporter.report(
        Rule::AgentSettings,
        place,
        format!(
            "the {} agent can't use `{}`: {}",
            error.agent, error.field, error.message
        ),
    );
}

/// Reports settings that serde refused. Its words are taken apart, so that unknown keys get their own place and hint.
fn report_unreadable(
    settings: &Node,
    type_name: &str,
    path: &serde_path_to_error::Path,
    message: &str,
    reporter: &mut Reporter,
) {
    let message = &in_words(message);
    let parts: Vec<String> = path.iter().map(ToString::to_string).collect();
    let place = follow(settings, parts.iter().map(String::as_str));
    let shown = parts.join(".");
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    match quoted.split_first() {
        Some((unknown, known))
            if message.starts_with("unknown field") || message.starts_with("unknown variant") =>
        {
            let parent = parts
                .split_last()
                .filter(|(last, _)| last == unknown)
                .map_or(&parts[..], |(_, rest)| rest);
            let holder = node_at(settings, parent.iter().map(String::as_str));
            let position = holder
                .and_then(|node| node.entry(unknown))
                .map_or(place, |entry| entry.key_position);
            reporter.report_with_hint(
                Rule::UnknownKey,
                position,
                format!("unknown key `{unknown}` in the settings of an agent of `type: {type_name}`"),
                did_you_mean(unknown, known.iter().copied(), "known keys"),
            );
        }
        Some((missing, [])) if message.starts_with("missing field") => reporter.report_with_hint(
            Rule::MissingKey,
            place,
            format!("the agent of `type: {type_name}` has no `{missing}`"),
            format!("add `{missing}:`"),
        ),
        _ if shown.is_empty() || shown == "." => reporter.report(
            Rule::AgentSettings,
            place,
            format!("the settings of the agent of `type: {type_name}` can't be used: {message}"),
        ),
        _ => reporter.report(
            Rule::WrongType,
            place,
            format!("`{shown}` of the agent of `type: {type_name}` can't be used: {message}"),
        ),
    }
}

/// The place of the setting at the end of a path, or of the last part of the path that is there.
fn follow<'a>(settings: &Node, path: impl Iterator<Item = &'a str>) -> Position {
    let mut node = settings;
    for part in path {
        match child(node, part) {
            Some(next) => node = next,
            None => break,
        }
    }
    node.position
}

fn node_at<'n, 'a>(settings: &'n Node, path: impl Iterator<Item = &'a str>) -> Option<&'n Node> {
    let mut node = settings;
    for part in path {
        // An enum's variant is a part of the path and a key in the file at once.
        node = child(node, part)?;
    }
    Some(node)
}

fn child<'n>(node: &'n Node, part: &str) -> Option<&'n Node> {
    match &node.content {
        Content::Map(_) => node.get(part),
        Content::List(items) => part
            .trim_matches(['[', ']'])
            .parse::<usize>()
            .ok()
            .and_then(|index| items.get(index)),
        Content::Scalar(_) => None,
    }
}

/// Names of Rust's number types in the words of this format.
fn in_words(message: &str) -> String {
    let whole = ["usize", "u64", "u32", "i64"];
    let text = message.replace("expected f64", "expected a number");
    whole.iter().fold(text, |text, name| {
        text.replace(&format!("expected {name}"), "expected a whole number")
    })
}
