//! What a step names as its work: an agent, a pipeline, a function of Python.

use std::sync::Arc;

use flujo_agents::AgentConfig;

use super::StepReader;
use crate::agents;
use crate::model::Body;
use crate::node::Node;
use crate::position::Position;
use crate::problem::{Reporter, did_you_mean};
use crate::read::agent_hint;
use crate::rule::Rule;
use crate::structure::{misspells, name_text, tells_of_another_kind};

/// What `uses` names.
pub(super) enum Used {
    Agent(Arc<str>, Position, Arc<AgentConfig>),
    Function(Arc<str>, Position),
    Pipeline(Arc<Body>),
}

impl StepReader<'_> {
    pub(super) fn agent(&mut self, node: &Node, name: &str, reporter: &mut Reporter) -> Option<Used> {
        match (node.entry("agent"), node.entry("uses")) {
            (Some(_), Some(uses)) => {
                reporter.report_with_hint(
                    Rule::KeyConflict,
                    uses.key_position,
                    format!("step `{name}` has both `agent` and `uses`"),
                    "keep one of them",
                );
                None
            }
            // A misspelt key, and one of another kind, has been reported already.
            (None, None) if misspells(node, "agent") || tells_of_another_kind(node) => None,
            (None, None) => {
                reporter.report_with_hint(
                    Rule::StepWithoutAgent,
                    node.position,
                    match name {
                        "" => "this step has no agent, so it does nothing".to_owned(),
                        name => format!("step `{name}` has no agent, so it does nothing"),
                    },
                    "add `agent:` with the name of an agent under `agents`, or with an agent's settings",
                );
                None
            }
            (Some(agent), None) if agent.value.as_map().is_some() => {
                let config = agents::read(&agent.value, reporter, &self.reading.prices)?;
                Some(Used::Agent(Arc::from(""), agent.value.position, config))
            }
            (Some(agent), None) => {
                let written = name_text(&agent.value)?;
                self.named_agent(&written, agent.value.position, reporter)
            }
            (None, Some(uses)) => self.uses(&uses.value, reporter),
        }
    }

    fn named_agent(&self, written: &str, position: Position, reporter: &mut Reporter) -> Option<Used> {
        if let Some(agent) = self.agents.iter().find(|agent| *agent.name == *written) {
            let config = Arc::clone(agent.config.as_ref()?);
            return Some(Used::Agent(Arc::clone(&agent.name), agent.position, config));
        }
        reporter.report_with_hint(
            Rule::UnknownAgent,
            position,
            format!("there is no agent `{written}` under `agents`"),
            agent_hint(written, self.agents),
        );
        None
    }

    pub(super) fn uses(&mut self, node: &Node, reporter: &mut Reporter) -> Option<Used> {
        let written = node.as_str()?;
        if let Some(agent) = written.strip_prefix("agents.") {
            return self.named_agent(agent, node.position, reporter);
        }
        if let Some(import) = written.strip_prefix("imports.") {
            if let Some((_, blueprint)) = self.imports.iter().find(|(name, _)| name == import) {
                return Some(Used::Pipeline(Arc::clone(&blueprint.as_ref()?.body)));
            }
            reporter.report_with_hint(
                Rule::UnknownImport,
                node.position,
                format!("there is no `{import}` under `imports`"),
                did_you_mean(
                    import,
                    self.imports.iter().map(|(name, _)| name.as_str()),
                    "imports",
                ),
            );
            return None;
        }
        let path = self.function(node, "uses", reporter)?;
        Some(Used::Function(path, node.position))
    }

    /// A function of Python, `package.module:function`, where this program can import any.
    pub(in crate::read) fn function(
        &mut self,
        node: &Node,
        key: &str,
        reporter: &mut Reporter,
    ) -> Option<Arc<str>> {
        let written = node.as_str()?;
        let is_name = |name: &str| {
            let mut letters = name.chars();
            letters.next().is_some_and(|c| c.is_alphabetic() || c == '_')
                && letters.all(|c| c.is_alphanumeric() || c == '_')
        };
        let well_formed = written
            .split_once(':')
            .is_some_and(|(module, name)| module.split('.').chain(name.split('.')).all(is_name));
        if !well_formed {
            reporter.report_with_hint(
                Rule::BadValue,
                node.position,
                format!("`{key}: {written}` names nothing"),
                "write `agents.NAME`, `imports.NAME` or `package.module:function`",
            );
            return None;
        }
        if !self.reading.python {
            needs_python(node, key, reporter);
            return None;
        }
        let path: Arc<str> = Arc::from(written);
        self.functions.push((Arc::clone(&path), node.position));
        Some(path)
    }
}

fn needs_python(node: &Node, key: &str, reporter: &mut Reporter) {
    let written = node.as_str().unwrap_or_default();
    reporter.report_with_hint(
        Rule::NeedsPython,
        node.position,
        format!("`{key}: {written}` names a Python function, and this program has no Python"),
        "run the file with `python -m flujo run`, or use an agent under `agents`",
    );
}
