//! All steps of a document by name, whatever they stand in.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::Node;
use crate::position::Position;
use crate::problem::Reporter;
use crate::rule::Rule;
use crate::structure::name_text;

/// The steps of a document by name.
pub(super) struct StepIndex<'d> {
    steps: BTreeMap<String, &'d Node>,
    names: BTreeSet<String>,
}

impl<'d> StepIndex<'d> {
    /// Finds every step; reports names that are taken already.
    pub(super) fn of(document: &'d Node, reporter: &mut Reporter) -> Self {
        let mut steps: BTreeMap<String, &Node> = BTreeMap::new();
        let mut waiting: Vec<&Node> = document.get("steps").map(items).unwrap_or_default();
        waiting.extend(document.get("on_failure").map(items).unwrap_or_default());
        waiting.reverse();
        while let Some(step) = waiting.pop() {
            if let Some((node, name)) = name_of(step) {
                match steps.get(&name) {
                    None => {
                        steps.insert(name, step);
                    }
                    // An alias repeats a step on purpose; what it repeats stands at one place.
                    Some(first) if first.position == step.position => {}
                    Some(first) => reporter.report_with_hint(
                        Rule::DuplicateStep,
                        node.position,
                        format!(
                            "a step named `{name}` is already there in line {}",
                            first.position.line
                        ),
                        "rename one of the two; templates, results and statistics find a step by its name",
                    ),
                }
            }
            let mut inside: Vec<&Node> = Vec::new();
            for named in ["branches", "states", "registry"] {
                for entry in step.get(named).and_then(Node::as_map).unwrap_or_default() {
                    inside.extend(items(&entry.value));
                }
            }
            let settings = |key: &str| step.get(key).and_then(|settings| settings.get("body"));
            let own = [
                "router",
                "default_branch",
                "generator",
                "critic",
                "planner",
                "steps",
                "wrapped_step",
                "fallback",
                "on_failure",
            ];
            let bodies = own.iter().map(|key| step.get(key));
            for body in bodies.chain([settings("map"), settings("loop")]).flatten() {
                inside.extend(items(body));
            }
            waiting.extend(inside.into_iter().rev());
        }
        let names = steps.keys().cloned().collect();
        Self { steps, names }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'d Node> {
        self.steps.get(name).copied()
    }

    /// Each step's name and where it stands.
    pub(super) fn places(&self) -> impl Iterator<Item = (&str, Position)> {
        self.steps
            .iter()
            .map(|(name, node)| (name.as_str(), node.position))
    }

    pub(super) fn names(&self) -> &BTreeSet<String> {
        &self.names
    }
}

/// The steps of a body: a list of them, or one alone.
pub(super) fn items(body: &Node) -> Vec<&Node> {
    match body.as_list() {
        Some(items) => items.iter().filter(|item| item.as_map().is_some()).collect(),
        None if body.as_map().is_some() => vec![body],
        None => Vec::new(),
    }
}

/// A step's name and where it stands.
pub(super) fn name_of(step: &Node) -> Option<(&Node, String)> {
    let node = step.get("name").or_else(|| step.get("step"))?;
    Some((node, name_text(node)?))
}
