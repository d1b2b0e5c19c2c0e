//! Checks a document against the grammar: unknown, missing and misplaced keys, values of the wrong type or range.

use flujo_agents::AgentConfig;
use flujo_core::value::Value;

use crate::grammar::{BLUEPRINT, LATER_KINDS, Need, STEP_KINDS, Section, Shape, canonical};
use crate::node::{Content, Entry, Node};
use crate::problem::{Reporter, did_you_mean, nearest};
use crate::rule::Rule;

/// Reports everything in `document` that the grammar doesn't allow.
pub(crate) fn check(document: &Node, reporter: &mut Reporter) {
    if document.is_null() {
        reporter.report_with_hint(
            Rule::MissingKey,
            document.position,
            "the blueprint is empty",
            "a blueprint has at least `steps:` with one step",
        );
        return;
    }
    section(document, &BLUEPRINT, reporter);
}

/// The kind of a step, when it is one that can be used.
pub(crate) fn kind_of(step: &Node) -> Option<(&'static str, &'static Section)> {
    let Some(kind) = step.get("kind") else {
        // As older versions wrote it: the key that only one kind has tells the kind.
        let implied = ["map", "loop"]
            .into_iter()
            .find(|kind| step.get(kind).is_some())
            .unwrap_or("step");
        return STEP_KINDS.iter().copied().find(|(name, _)| *name == implied);
    };
    let written = name_text(kind)?;
    let written = canonical(&written);
    STEP_KINDS.iter().copied().find(|(name, _)| *name == written)
}

/// A name: text, or a number or truth value as it was written.
pub(crate) fn name_text(node: &Node) -> Option<String> {
    match &node.content {
        Content::Scalar(Value::Str(text)) => Some(text.to_string()),
        Content::Scalar(Value::Int(number)) => Some(number.to_string()),
        Content::Scalar(Value::Float(number)) => Some(number.to_string()),
        Content::Scalar(Value::Bool(flag)) => Some(flag.to_string()),
        _ => None,
    }
}

/// Whether a step without a `kind` has a key that tells of another one; it has been reported as unknown already.
pub(crate) fn tells_of_another_kind(step: &Node) -> bool {
    let Some((_, section)) = kind_of(step).filter(|_| step.get("kind").is_none()) else {
        return false;
    };
    let entries = step.as_map().unwrap_or_default();
    let mut unknown = entries.iter().filter(|entry| section.key(&entry.key).is_none());
    unknown.any(|entry| hint_of_kind(&entry.key, section).is_some())
}

/// Of a key that steps of this kind don't have: another kind that somebody took for a key, or the kinds that have it.
fn hint_of_kind(key: &str, section: &Section) -> Option<String> {
    let title = section.title;
    let meant = match canonical(key) {
        "human" | "ask" | "approval" => "hitl",
        "router" => "dynamic_router",
        "branch" | "switch" | "if" => "conditional",
        other => other,
    };
    let meant = STEP_KINDS.iter().find(|(kind, _)| *kind == meant);
    if let Some((kind, section)) = meant.filter(|(_, other)| other.title != title) {
        let required = section.keys().filter(|key| key.need == Need::Required);
        let keys: Vec<_> = required.map(|key| format!("`{}:`", key.name)).collect();
        let keys = match &*keys {
            [] => String::new(),
            keys => format!(", and beside it {}", keys.join(" and ")),
        };
        return Some(format!("that is a kind of step: write `kind: {kind}`{keys}"));
    }
    let having = STEP_KINDS
        .iter()
        .filter(|(_, section)| section.key(key).is_some());
    let kinds: Vec<_> = having.map(|(kind, _)| format!("`{kind}`")).collect();
    (!kinds.is_empty()).then(|| format!("it belongs to steps of kind {}", kinds.join(", ")))
}

/// Whether the node has a key that was probably meant to be `key`; it has been reported as unknown already.
pub(crate) fn misspells(node: &Node, key: &str) -> bool {
    let keys = ["agent", "uses", "name", "step", "input", "kind"];
    let entries = node.as_map().unwrap_or_default();
    entries
        .iter()
        .any(|entry| entry.key != key && nearest(&entry.key, keys) == Some(key))
}

fn value(node: &Node, place: &str, shape: Shape, reporter: &mut Reporter) {
    if !fits(node, shape) {
        wrong_type(node, place, shape, reporter);
        return;
    }
    match shape {
        Shape::Text | Shape::Name | Shape::Expression => {
            if node.as_str().is_some_and(|text| text.trim().is_empty()) {
                reporter.report(
                    Rule::BadValue,
                    node.position,
                    format!("{place} is empty; give it a value, or leave it out"),
                );
            }
        }
        Shape::Count(least) => {
            if node.as_int().is_some_and(|number| number < least) {
                reporter.report(
                    Rule::BadValue,
                    node.position,
                    format!("{place} must be at least {least}"),
                );
            } else if node.as_int().is_some_and(|number| number > i64::from(u32::MAX)) && least >= 0 {
                reporter.report(
                    Rule::BadValue,
                    node.position,
                    format!("{place} must be at most {}", u32::MAX),
                );
            }
        }
        Shape::Number(least) => {
            if node
                .as_float()
                .is_some_and(|number| !number.is_finite() || number < least)
            {
                reporter.report(
                    Rule::BadValue,
                    node.position,
                    format!("{place} must be a finite number of at least {least}"),
                );
            }
        }
        Shape::Seconds => {
            if node
                .as_float()
                .is_some_and(|number| !(number > 0.0 && number <= 1e9))
            {
                reporter.report(
                    Rule::BadValue,
                    node.position,
                    format!("{place} must be a number of seconds above 0"),
                );
            }
        }
        Shape::Choice(words) => choice(node, place, words, reporter),
        Shape::Section(keys) => section(node, keys, reporter),
        Shape::Named(inner) => {
            for entry in node.as_map().unwrap_or_default() {
                value(&entry.value, &format!("`{}`", entry.key), *inner, reporter);
            }
        }
        Shape::List(inner) => {
            for (index, item) in node.as_list().unwrap_or_default().iter().enumerate() {
                value(item, &format!("item {} of {place}", index + 1), *inner, reporter);
            }
        }
        Shape::Either(shapes) => {
            if let Some(fitting) = shapes.iter().find(|shape| fits(node, **shape)) {
                value(node, place, *fitting, reporter);
            }
        }
        Shape::Agent => agent(node, reporter),
        Shape::Step => step(node, reporter),
        Shape::Flag | Shape::Template | Shape::Data => {}
    }
}

/// Whether the node's kind is right; what it holds is checked afterwards.
fn fits(node: &Node, shape: Shape) -> bool {
    match shape {
        Shape::Text | Shape::Template | Shape::Choice(_) => node.as_str().is_some(),
        Shape::Expression => node.as_str().is_some() || node.as_bool().is_some(),
        Shape::Name => name_text(node).is_some(),
        Shape::Flag => node.as_bool().is_some(),
        Shape::Count(_) => node.as_int().is_some(),
        Shape::Number(_) | Shape::Seconds => node.as_float().is_some(),
        Shape::Data => true,
        Shape::Section(_) | Shape::Named(_) | Shape::Agent | Shape::Step => node.as_map().is_some(),
        Shape::List(_) => node.as_list().is_some(),
        Shape::Either(shapes) => shapes.iter().any(|shape| fits(node, *shape)),
    }
}

/// The shape in words: "a list of steps".
pub(crate) fn describe(shape: Shape) -> String {
    match shape {
        Shape::Text => "text".to_owned(),
        Shape::Name => "a name".to_owned(),
        Shape::Template => "text, which may have placeholders".to_owned(),
        Shape::Expression => "an expression".to_owned(),
        Shape::Flag => "`true` or `false`".to_owned(),
        Shape::Count(_) => "a whole number".to_owned(),
        Shape::Number(_) => "a number".to_owned(),
        Shape::Seconds => "a number of seconds".to_owned(),
        Shape::Choice(words) => format!("one of {}", words.join(", ")),
        Shape::Data => "any value".to_owned(),
        Shape::Section(section) => format!("a map with {}", section.names().collect::<Vec<_>>().join(", ")),
        Shape::Named(inner) => format!("a map from names to {}", describe(*inner)),
        Shape::List(inner) => format!("a list, each item {}", describe(*inner)),
        Shape::Either(shapes) => shapes
            .iter()
            .map(|shape| describe(*shape))
            .collect::<Vec<_>>()
            .join(", or "),
        Shape::Agent => "an agent's settings".to_owned(),
        Shape::Step => "a step".to_owned(),
    }
}

fn wrong_type(node: &Node, place: &str, shape: Shape, reporter: &mut Reporter) {
    let message = format!("{place} must be {}, but is {}", describe(shape), node.kind());
    match (shape, node.as_str()) {
        (Shape::Count(_) | Shape::Number(_) | Shape::Seconds, Some(text)) if text.parse::<f64>().is_ok() => {
            reporter.report_with_hint(Rule::WrongType, node.position, message, "remove the quotes");
        }
        (Shape::List(_), _) if node.as_map().is_some() => {
            reporter.report_with_hint(
                Rule::WrongType,
                node.position,
                message,
                "put `- ` in front of each item",
            );
        }
        _ => reporter.report(Rule::WrongType, node.position, message),
    }
}

fn choice(node: &Node, place: &str, words: &'static [&'static str], reporter: &mut Reporter) {
    let written = node.as_str().unwrap_or_default();
    // Older versions wrote some of these in capitals.
    if !words.iter().any(|word| word.eq_ignore_ascii_case(written)) {
        reporter.report_with_hint(
            Rule::BadValue,
            node.position,
            format!("{place} can't be `{written}`; it is one of {}", words.join(", ")),
            did_you_mean(written, words.iter().copied(), "words"),
        );
    }
}

fn section(node: &Node, section: &'static Section, reporter: &mut Reporter) {
    let Some(entries) = node.as_map() else {
        let message = format!("{} must be a map, but is {}", section.title, node.kind());
        reporter.report(Rule::WrongType, node.position, message);
        return;
    };
    for entry in entries {
        match section.key(&entry.key) {
            Some(key) if key.need == Need::Later => later(entry, reporter),
            Some(key) => value(&entry.value, &format!("`{}`", key.name), key.shape, reporter),
            None => unknown_key(entry, section, reporter),
        }
    }
    for key in section.keys().filter(|key| key.need == Need::Required) {
        if node.get(key.name).is_none() {
            reporter.report_with_hint(
                Rule::MissingKey,
                node.position,
                format!("{} has no `{}`", section.title, key.name),
                format!("add `{}:`. {}", key.name, key.about),
            );
        }
    }
}

fn later(entry: &Entry, reporter: &mut Reporter) {
    reporter.report_with_hint(
        Rule::NotYetSupported,
        entry.key_position,
        format!("`{}` is not yet supported in this version", entry.key),
        "leave it out",
    );
}

fn unknown_key(entry: &Entry, section: &'static Section, reporter: &mut Reporter) {
    let of_a_step = STEP_KINDS.iter().any(|(_, own)| own.title == section.title);
    let hint = of_a_step.then(|| hint_of_kind(&entry.key, section)).flatten();
    let hint = hint.unwrap_or_else(|| did_you_mean(&entry.key, section.names(), "known keys"));
    reporter.report_with_hint(
        Rule::UnknownKey,
        entry.key_position,
        format!("unknown key `{}` in {}", entry.key, section.title),
        hint,
    );
}

fn step(node: &Node, reporter: &mut Reporter) {
    if let Some((_, keys)) = kind_of(node) {
        section(node, keys, reporter);
        if node.get("name").is_none() && node.get("step").is_none() && !misspells(node, "name") {
            reporter.report_with_hint(
                Rule::MissingKey,
                node.position,
                "the step has no name",
                "add `name:`; results and templates find the step by it",
            );
        }
        return;
    }
    let Some(kind) = node.get("kind") else { return };
    match name_text(kind) {
        Some(written) if LATER_KINDS.contains(&written.as_str()) => reporter.report_with_hint(
            Rule::NotYetSupported,
            kind.position,
            format!("steps of `kind: {written}` are not yet supported in this version"),
            format!("supported kinds: {}", kinds().collect::<Vec<_>>().join(", ")),
        ),
        Some(written) => reporter.report_with_hint(
            Rule::BadValue,
            kind.position,
            format!("there is no kind of step called `{written}`"),
            did_you_mean(&written, kinds(), "kinds"),
        ),
        None => wrong_type(kind, "`kind`", Shape::Name, reporter),
    }
}

fn kinds() -> impl Iterator<Item = &'static str> + Clone {
    STEP_KINDS.iter().map(|(name, _)| *name)
}

/// The agent's own settings are checked where they are read; only `type` is known here.
fn agent(node: &Node, reporter: &mut Reporter) {
    let types = || AgentConfig::TYPES.iter().copied();
    match node.get("type") {
        None => reporter.report_with_hint(
            Rule::MissingKey,
            node.position,
            "the agent has no `type`",
            format!(
                "add `type:` with one of {}",
                types().collect::<Vec<_>>().join(", ")
            ),
        ),
        Some(kind) => match kind.as_str() {
            Some(written) if AgentConfig::TYPES.contains(&written) => {}
            Some(written) => reporter.report_with_hint(
                Rule::BadValue,
                kind.position,
                format!("there is no agent of type `{written}`"),
                did_you_mean(written, types(), "types"),
            ),
            None => wrong_type(kind, "`type`", Shape::Text, reporter),
        },
    }
}
