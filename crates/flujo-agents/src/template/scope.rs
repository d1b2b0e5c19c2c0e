//! The names that a template can use, and how it finds them.

use std::collections::BTreeSet;
use std::sync::Arc;

use flujo_core::agent::AgentRequest;
use flujo_core::value::Value;
use minijinja::value::{Enumerator, Object};

use super::bridge::{self, Look, Privacy};
use super::host::host_object;

/// The names that a template can use. Cloning copies pointers only.
#[derive(Clone, Default)]
pub struct Scope {
    input: Value,
    context: Value,
    steps: Value,
    more: Vec<(Arc<str>, Value)>,
}

impl Scope {
    /// A scope whose `input`, `context` and `steps` are null.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with this `input`, which is also `previous_step`.
    #[must_use]
    pub fn input(mut self, input: Value) -> Self {
        self.input = input;
        self
    }

    /// The same with this `context`, a map as a rule.
    #[must_use]
    pub fn context(mut self, context: Value) -> Self {
        self.context = context;
        self
    }

    /// The same with these `steps`: a map from step names to outputs.
    #[must_use]
    pub fn steps(mut self, steps: Value) -> Self {
        self.steps = steps;
        self
    }

    /// The same with one more name; it takes precedence over a standard name that is spelled alike.
    #[must_use]
    pub fn with(mut self, name: impl Into<Arc<str>>, value: Value) -> Self {
        self.more.push((name.into(), value));
        self
    }

    /// The value under a name at the top, without privacy or step outputs: for messages.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        if let Some((_, value)) = self.more.iter().rev().find(|(known, _)| &**known == name) {
            return Some(value);
        }
        match name {
            "input" | "previous_step" => Some(&self.input),
            "context" => Some(&self.context),
            "steps" => Some(&self.steps),
            _ => None,
        }
    }

    /// Every name at the top.
    pub(super) fn names(&self) -> Vec<&str> {
        let standard = ["input", "previous_step", "context", "steps"];
        standard
            .into_iter()
            .chain(self.more.iter().map(|(name, _)| &**name))
            .collect()
    }

    /// The scope as the engine's top-level map.
    pub(super) fn root(&self, steps: &StepNames) -> minijinja::Value {
        minijinja::Value::from_object(Root {
            scope: self.clone(),
            steps: steps.clone(),
        })
    }
}

impl From<&AgentRequest> for Scope {
    fn from(request: &AgentRequest) -> Self {
        Self::new()
            .input(request.input.clone())
            .context(request.context.clone())
            .steps(request.steps.clone())
    }
}

/// Which steps a template reads through `.output`.
///
/// A map or list can carry the extra name `output` and still behave as itself. Text and numbers can't, so one of
/// those is wrapped only where the template asks for `.output`, and is itself everywhere else.
#[derive(Clone, Debug)]
pub(super) enum StepNames {
    /// These steps.
    Known(Arc<BTreeSet<String>>),
    /// It can't be told before the run, as in `steps[name]`.
    Any,
}

impl StepNames {
    pub(super) fn mentioned_in(variables: &BTreeSet<String>) -> Self {
        if variables.contains("steps") {
            return Self::Any;
        }
        let names = variables.iter().filter_map(|path| {
            let (name, rest) = path.strip_prefix("steps.")?.split_once('.')?;
            (rest == "output" || rest.starts_with("output.")).then(|| name.to_owned())
        });
        Self::Known(Arc::new(names.collect()))
    }

    fn contains(&self, name: &str) -> bool {
        match self {
            Self::Known(names) => names.contains(name),
            Self::Any => true,
        }
    }
}

#[derive(Debug)]
struct Root {
    scope: Scope,
    steps: StepNames,
}

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<minijinja::Value> {
        if bridge::is_private(name) {
            return None;
        }
        let value = self.scope.get(name)?;
        let added = self.scope.more.iter().any(|(known, _)| &**known == name);
        Some(match name {
            "steps" if !added && !matches!(value, Value::Null) => minijinja::Value::from_object(Steps {
                outputs: value.clone(),
                names: self.steps.clone(),
            }),
            "context" if !added => bridge::to_engine(value, Look::new(Privacy::Hidden)),
            _ => bridge::to_engine(value, Look::new(Privacy::Unreachable)),
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(
            self.scope
                .names()
                .into_iter()
                .map(minijinja::Value::from)
                .collect(),
        )
    }
}

/// The outputs of the steps by name.
#[derive(Debug)]
struct Steps {
    outputs: Value,
    names: StepNames,
}

impl Object for Steps {
    fn get_value(self: &Arc<Self>, key: &minijinja::Value) -> Option<minijinja::Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, name: &str) -> Option<minijinja::Value> {
        if bridge::is_private(name) {
            return None;
        }
        let output = match host_object(&self.outputs) {
            Some(steps) => steps.entry(name)?.ok()?,
            None => self.outputs.get(name)?.clone(),
        };
        Some(bridge::step_output(&output, self.names.contains(name)))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let steps = host_object(&self.outputs).map(|steps| steps.entries());
        let names = steps.into_iter().flatten().map(|(name, _)| name);
        let plain = self.outputs.as_map().into_iter().flatten();
        let plain = plain.map(|(name, _)| Value::Str(Arc::clone(name)));
        let names: Vec<Value> = names.chain(plain).collect();
        let public = names.iter().filter_map(Value::as_str);
        Enumerator::Values(
            public
                .filter(|name| !bridge::is_private(name))
                .map(minijinja::Value::from)
                .collect(),
        )
    }
}

impl std::fmt::Debug for Scope {
    /// Names only: what they hold is content.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Scope").field(&self.names()).finish()
    }
}
