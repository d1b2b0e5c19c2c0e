//! What is wrong with a blueprint: all of it at once, each problem with its rule, its place and a cure.

use std::fmt;
use std::sync::Arc;

use crate::position::{Position, Source};
use crate::rule::Rule;

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The rule that isn't kept.
    pub rule: Rule,
    /// The file.
    pub source: Arc<Source>,
    /// Where in the file.
    pub position: Position,
    /// What is wrong and why.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.source.path().display();
        write!(f, "{path}:{}: {} [{}]", self.position, self.message, self.rule)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with a blueprint, in the order of the files and lines.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Problems(pub Vec<Problem>);

/// Collects the problems of one file.
#[derive(Debug)]
pub(crate) struct Reporter {
    source: Arc<Source>,
    found: Vec<Problem>,
}

impl Reporter {
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Self {
            source,
            found: Vec::new(),
        }
    }

    pub(crate) fn report(&mut self, rule: Rule, position: Position, message: impl Into<String>) {
        self.add(rule, position, message.into(), None);
    }

    pub(crate) fn report_with_hint(
        &mut self,
        rule: Rule,
        position: Position,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.add(rule, position, message.into(), Some(hint.into()));
    }

    /// Takes over what was found in another file.
    pub(crate) fn extend(&mut self, problems: Problems) {
        self.found.extend(problems.0);
    }

    pub(crate) fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Nothing, or everything that was found.
    pub(crate) fn finish(mut self) -> Result<(), Problems> {
        if self.found.is_empty() {
            return Ok(());
        }
        let own = Arc::clone(&self.source);
        self.found
            .sort_by_key(|problem| (!Arc::ptr_eq(&problem.source, &own), problem.position));
        self.found.dedup();
        Err(Problems(self.found))
    }

    fn add(&mut self, rule: Rule, position: Position, message: String, hint: Option<String>) {
        self.found.push(Problem {
            rule,
            source: Arc::clone(&self.source),
            position,
            message,
            hint,
        });
    }
}

/// The name among `known` that `written` was probably meant to be.
pub(crate) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let simple = |name: &str| name.to_lowercase().replace('-', "_");
    let written = simple(written);
    known
        .into_iter()
        .map(|name| {
            (
                strsim::normalized_damerau_levenshtein(&written, &simple(name)),
                name,
            )
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// A hint that names the nearest of the known names, else all of them.
pub(crate) fn did_you_mean<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
    what: &str,
) -> String {
    if let Some(name) = nearest(written, known.clone()) {
        return format!("did you mean `{name}`?");
    }
    let names: Vec<&str> = known.into_iter().collect();
    if names.is_empty() {
        format!("there are no {what}")
    } else {
        format!("{what}: {}", names.join(", "))
    }
}
