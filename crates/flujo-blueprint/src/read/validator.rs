//! Validators: what judges an output.

use std::sync::Arc;

use crate::model::{OutputRule, Test};
use crate::node::Node;
use crate::problem::Reporter;
use crate::rule::Rule;
use crate::template::{self, Names};

pub(super) fn validators(node: &Node, names: &Names<'_>, reporter: &mut Reporter) -> Vec<Arc<OutputRule>> {
    let nodes = node.get("validators").and_then(Node::as_list).unwrap_or_default();
    nodes
        .iter()
        .filter_map(|validator| read_validator(validator, names, reporter).map(Arc::new))
        .collect()
}

fn read_validator(node: &Node, names: &Names<'_>, reporter: &mut Reporter) -> Option<OutputRule> {
    let kinds: Vec<_> = ["expression", "regex", "json_schema"]
        .iter()
        .filter_map(|key| node.entry(key))
        .collect();
    let message = match node
        .get("message")
        .and_then(|message| Some((message, message.as_str()?)))
    {
        Some((message, text)) => Some(template::template(message, text, &["output"], names, reporter)?),
        None => None,
    };
    let [entry] = kinds[..] else {
        reporter.report_with_hint(
            if kinds.is_empty() {
                Rule::MissingKey
            } else {
                Rule::KeyConflict
            },
            kinds.get(1).map_or(node.position, |entry| entry.key_position),
            "a validator has exactly one of `expression`, `regex` and `json_schema`",
            "make a list item of each",
        );
        return None;
    };
    let refuse = |reason: String, reporter: &mut Reporter| {
        reporter.report(Rule::BadPattern, entry.value.position, reason);
    };
    let test = match entry.key.as_str() {
        "expression" => Test::Expression(template::expression(&entry.value, &["output"], names, reporter)?),
        "regex" => match regex::Regex::new(entry.value.as_str()?) {
            Ok(regex) => Test::Regex(regex),
            Err(error) => {
                let error = error.to_string();
                let reason = error.lines().last().unwrap_or_default();
                refuse(format!("this isn't a regular expression: {reason}"), reporter);
                return None;
            }
        },
        _ => Test::Schema(Box::new(schema(&entry.value, reporter)?)),
    };
    Some(OutputRule { test, message })
}

/// A JSON schema that can be checked against.
pub(super) fn schema(node: &Node, reporter: &mut Reporter) -> Option<jsonschema::Validator> {
    let schema = serde_json::to_value(node.to_value()).ok()?;
    jsonschema::validator_for(&schema)
        .map_err(|error| {
            let message = format!("this isn't a JSON schema: {error}");
            reporter.report(Rule::BadPattern, node.position, message);
        })
        .ok()
}
