//! State machines: states, and the transitions between them.

use std::sync::Arc;

use super::index::items;
use super::policy::word;
use super::step::StepReader;
use crate::model::{StateSteps, StatesStep, TransitionRule};
use crate::node::Node;
use crate::problem::{Reporter, did_you_mean};
use crate::rule::Rule;
use crate::structure::name_text;
use crate::template;

impl StepReader<'_> {
    pub(super) fn states(&mut self, node: &Node, reporter: &mut Reporter) -> Option<StatesStep> {
        let entries = node.get("states")?.as_map()?;
        let mut ends: Vec<(String, &Node)> = Vec::new();
        for end in node.get("end_states")?.as_list()? {
            ends.push((name_text(end)?, end));
        }
        let mut states: Vec<StateSteps> = Vec::with_capacity(entries.len());
        for entry in entries {
            let end = ends.iter().any(|(name, _)| *name == entry.key);
            let nothing_to_do = end && items(&entry.value).is_empty();
            states.push(StateSteps {
                name: Arc::from(entry.key.as_str()),
                steps: (!nothing_to_do).then(|| self.sequence(&entry.value, reporter)),
                end,
            });
        }
        // An end state that is only named does nothing.
        for (name, _) in &ends {
            if !states.iter().any(|state| *state.name == **name) {
                states.push(StateSteps {
                    name: Arc::from(name.as_str()),
                    steps: None,
                    end: true,
                });
            }
        }
        let known: Vec<&str> = states.iter().map(|state| &*state.name).collect();
        let start = state(node.get("start_state")?, &known, reporter);
        let transitions = node
            .get("transitions")
            .and_then(Node::as_list)
            .unwrap_or_default();
        let transitions: Vec<Option<TransitionRule>> = transitions
            .iter()
            .map(|transition| self.transition(transition, &known, reporter))
            .collect();
        Some(StatesStep {
            start: start?,
            transitions: transitions.into_iter().collect::<Option<_>>()?,
            states,
        })
    }

    fn transition(&self, node: &Node, known: &[&str], reporter: &mut Reporter) -> Option<TransitionRule> {
        let from = match node.get("from") {
            Some(any) if name_text(any).as_deref() == Some("*") => Some(None),
            Some(written) => state(written, known, reporter).map(Some),
            None => None,
        };
        let to = node.get("to").and_then(|written| state(written, known, reporter));
        let when = match node.get("when") {
            Some(written) => {
                let read = template::expression(written, &["output"], &self.names(), reporter);
                read.map(|read| Some(Arc::new(read)))
            }
            None => Some(None),
        };
        Some(TransitionRule {
            from: from?,
            to: to?,
            after_failure: word(node, "on").as_deref() == Some("failure"),
            when: when?,
        })
    }
}

/// A state by its name; one that isn't there is reported.
fn state(node: &Node, known: &[&str], reporter: &mut Reporter) -> Option<Arc<str>> {
    let written = name_text(node)?;
    if !known.contains(&written.as_str()) {
        reporter.report_with_hint(
            Rule::UnknownBranch,
            node.position,
            format!("there is no state `{written}`"),
            did_you_mean(&written, known.iter().copied(), "states"),
        );
        return None;
    }
    Some(Arc::from(written))
}
