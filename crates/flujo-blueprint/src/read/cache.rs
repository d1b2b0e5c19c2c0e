//! How results of a step are kept.

use std::time::Duration;

use flujo_core::cache::{CachePolicy, CacheScope, ScopeError};

use super::policy::seconds;
use crate::node::Node;
use crate::problem::Reporter;
use crate::rule::Rule;
use crate::structure::{kind_of, name_text};

/// What a step says of its results; the outer `None` when that can't be read, which has been reported.
#[allow(clippy::option_option)] // nothing said, and something unreadable said
pub(super) fn cache(node: &Node, reporter: &mut Reporter) -> Option<Option<CachePolicy>> {
    let said = node.entry("cache");
    if kind_of(node).is_some_and(|(kind, _)| kind == "cache") {
        if let Some(said) = said {
            reporter.report_with_hint(
                Rule::KeyConflict,
                said.key_position,
                "a step of kind `cache` has `cache` too",
                "put `ttl_s`, `scope` and `version` beside `wrapped_step`",
            );
            return None;
        }
        return policy(node, reporter).map(Some);
    }
    let Some(said) = said.map(|said| &said.value) else {
        return Some(None);
    };
    if let Some(kept) = said.as_bool() {
        return Some(kept.then(CachePolicy::default));
    }
    if let Some(ttl) = said.as_float() {
        let ttl = Duration::try_from_secs_f64(ttl).unwrap_or(Duration::MAX);
        return Some(Some(CachePolicy::default().ttl(ttl)));
    }
    policy(said, reporter).map(Some)
}

fn policy(settings: &Node, reporter: &mut Reporter) -> Option<CachePolicy> {
    let scope = match settings.get("scope") {
        None => CacheScope::Auto,
        Some(written) => match scope(written) {
            Ok(scope) => scope,
            Err(error) => {
                let hint = "a list of `context.FIELD` and `resources.NAME`, or `auto`, or `input`";
                reporter.report_with_hint(Rule::BadValue, written.position, error.to_string(), hint);
                return None;
            }
        },
    };
    Some(CachePolicy {
        ttl: seconds(settings, "ttl_s"),
        scope,
        version: settings.get("version").and_then(name_text).map(Into::into),
    })
}

fn scope(written: &Node) -> Result<CacheScope, ScopeError> {
    match written.as_list() {
        Some(names) => CacheScope::declared(names.iter().filter_map(Node::as_str)),
        None => CacheScope::named(&written.as_str().unwrap_or_default().to_ascii_lowercase()),
    }
}
