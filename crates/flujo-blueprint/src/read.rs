//! From a document to a blueprint: agents by name, steps of every kind, fallbacks by name, imports.

mod again;
mod cache;
mod index;
mod optimization;
mod policy;
mod states;
mod step;
mod validator;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flujo_agents::{AgentConfig, Permission, Prices, Pricing};
use flujo_core::usage::{Cost, UsageLimits};

use crate::agents;
use crate::grammar::VERSIONS;
use crate::model::{Blueprint, Body, Requirement};
use crate::node::Node;
use crate::position::{Position, Source};
use crate::problem::{Problem, Problems, Reporter, did_you_mean};
use crate::rule::Rule;
use crate::structure::{self, name_text};
use crate::template;
use index::StepIndex;
use optimization::optimization;
use policy::rate_limit;
pub(crate) use policy::shared_by;
use step::StepReader;

/// The largest file that is read, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

impl Blueprint {
    /// Reads and checks the blueprint in a file, and the files it imports. Nothing is run, and no agent's service,
    /// command or file is touched.
    ///
    /// # Errors
    /// [`Problems`]: everything that is wrong, each with its place and a cure.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Problems> {
        load(path.as_ref(), &Reading::default())
    }

    /// As [`Blueprint::load`], with models' prices from `prices`, for a program that can import functions of Python where
    /// `python` is true: then `uses: package.module:function` is no problem. Nothing is imported yet.
    ///
    /// # Errors
    /// As [`Blueprint::load`].
    pub fn load_for(path: impl AsRef<Path>, python: bool, prices: Prices) -> Result<Self, Problems> {
        let reading = Reading {
            python,
            prices: Arc::new(prices),
            within: Vec::new(),
        };
        load(path.as_ref(), &reading)
    }

    /// Reads and checks a blueprint that has been read already; what it imports is looked for beside its path.
    ///
    /// # Errors
    /// As [`Blueprint::load`].
    pub fn parse(source: &Arc<Source>) -> Result<Self, Problems> {
        parse(source, &Reading::default())
    }
}

/// How files are read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    /// Whether functions of Python can be imported later.
    python: bool,
    /// What models cost that have no price of their own.
    prices: Arc<Prices>,
    /// The files that led to this one, outermost first.
    within: Vec<PathBuf>,
}

fn load(path: &Path, reading: &Reading) -> Result<Blueprint, Problems> {
    let refuse = |rule, position, message: String, hint: &str| {
        Err(Problems(vec![Problem {
            rule,
            source: Source::new(path, ""),
            position,
            message,
            hint: Some(hint.to_owned()),
        }]))
    };
    let unreadable = |error: std::io::Error| {
        let (message, hint) = match error.kind() {
            std::io::ErrorKind::NotFound => (
                "there is no such file".to_owned(),
                "check the path and the folder it counts from",
            ),
            std::io::ErrorKind::PermissionDenied => (
                "the file can't be read: permission denied".to_owned(),
                "give this user the right to read it",
            ),
            _ => (format!("the file can't be read: {error}"), "name a YAML file"),
        };
        refuse(Rule::FileUnreadable, Position::START, message, hint)
    };
    match std::fs::metadata(path) {
        Err(error) => return unreadable(error),
        Ok(facts) if facts.is_dir() => {
            return refuse(
                Rule::FileUnreadable,
                Position::START,
                "this is a folder".to_owned(),
                "name a YAML file in it",
            );
        }
        Ok(facts) if facts.len() > MAX_BYTES => {
            let message = format!(
                "the file has {} bytes, more than {MAX_BYTES} are not read",
                facts.len()
            );
            return refuse(
                Rule::TooLarge,
                Position::START,
                message,
                "is this a blueprint? Data belongs into files that steps read",
            );
        }
        Ok(_) => {}
    }
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return unreadable(error),
    };
    match String::from_utf8(bytes) {
        Ok(text) => parse(&Source::new(path, text), reading),
        Err(error) => {
            let good = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..good]).into_owned();
            let position = Position {
                line: before.matches('\n').count() + 1,
                column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
            };
            let message = format!("the file isn't UTF-8 text: byte {} can't be read", good + 1);
            refuse(Rule::NotUtf8, position, message, "save it as UTF-8")
        }
    }
}

fn parse(source: &Arc<Source>, reading: &Reading) -> Result<Blueprint, Problems> {
    let mut reporter = Reporter::new(Arc::clone(source));
    let blueprint = Node::read(&mut reporter).and_then(|document| {
        structure::check(&document, &mut reporter);
        read(&document, &mut reporter, reading)
    });
    reporter.finish()?;
    // Without problems there is a blueprint; an empty list of problems says the contrary of what a caller expects.
    blueprint.ok_or(Problems(Vec::new()))
}

fn read(document: &Node, reporter: &mut Reporter, reading: &Reading) -> Option<Blueprint> {
    document.as_map()?;
    check_version(document, reporter);
    let agents = read_agents(document, reporter, &reading.prices);
    let imports = read_imports(document, reporter, reading);
    let mut requirements: Vec<Requirement> = Vec::new();
    let mut unpriced: Vec<(Arc<Source>, Position)> = Vec::new();
    for (_, import) in &imports {
        let Some(import) = import else { continue };
        requirements.extend(import.requirements.iter().cloned());
        unpriced.extend(import.unpriced.iter().cloned());
    }
    let index = StepIndex::of(document, reporter);
    let own = index
        .places()
        .map(|(name, position)| (name.to_owned(), Arc::clone(reporter.source()), position));
    let mut places: Vec<_> = own.collect();
    places.extend(
        imports
            .iter()
            .flat_map(|(_, import)| import.iter().flat_map(|import| import.places.iter().cloned())),
    );
    let mut steps = StepReader::new(&index, &agents, &imports, reading);
    let top = steps.sequence(document.get("steps")?, reporter);
    let on_failure = steps.handler(document, reporter);
    let invariants = document
        .get("static_invariants")
        .and_then(Node::as_list)
        .unwrap_or_default();
    let invariants: Vec<_> = invariants
        .iter()
        .map(|written| template::expression(written, &["output"], &steps.names(), reporter).map(Arc::new))
        .collect();
    for (agent, position) in steps.used() {
        for permission in agent.requires() {
            requirements.push(Requirement {
                permission,
                source: Arc::clone(reporter.source()),
                position: *position,
            });
        }
        if agent.pricing() == Pricing::Unknown {
            unpriced.push((Arc::clone(reporter.source()), *position));
        }
    }
    for (function, position) in steps.functions() {
        requirements.push(Requirement {
            permission: Permission::PythonImport {
                function: function.to_string(),
            },
            source: Arc::clone(reporter.source()),
            position: *position,
        });
    }
    let limits = document.get("usage_limits").map(read_limits).unwrap_or_default();
    if limits.cost.is_some() || reading.prices.is_strict() {
        let problem = |place| without_price(place, limits.cost.is_some());
        reporter.extend(Problems(unpriced.iter().map(problem).collect()));
    }
    let rate_limits = document
        .get("rate_limits")
        .and_then(Node::as_list)
        .unwrap_or_default();
    let rate_limits = rate_limits
        .iter()
        .filter_map(|limit| rate_limit(limit, reporter))
        .collect();
    let name = match document.get("name").and_then(Node::as_str) {
        Some(name) => Arc::from(name),
        None => reporter
            .source()
            .path()
            .file_stem()
            .map_or_else(|| Arc::from("pipeline"), |stem| Arc::from(stem.to_string_lossy())),
    };
    Some(Blueprint {
        source: Arc::clone(reporter.source()),
        name,
        body: Arc::new(Body {
            steps: top,
            on_failure: on_failure.ok()?,
            invariants: invariants.into_iter().collect::<Option<_>>()?,
            optimization: optimization(document, reporter),
        }),
        limits,
        rate_limits,
        requirements,
        places,
        unpriced,
    })
}

/// An agent without a price under a limit of cost: unknown isn't zero.
const NO_PRICE: (&str, &str) = (
    "the agent has no price, so `total_cost_usd_limit` can't be kept",
    "add `[cost.providers.<provider>.<model>]` with `prompt_tokens_per_1k` and `completion_tokens_per_1k` to `flujo.toml`, \
     or `price:` with `prompt_per_million` and `completion_per_million` to the agent, in US dollars",
);

fn without_price((source, position): &(Arc<Source>, Position), limited: bool) -> Problem {
    let (message, hint) = NO_PRICE;
    let message = if limited {
        message
    } else {
        "the agent has no price, and `flujo.toml` says `strict = true` under `[cost]`"
    };
    Problem {
        rule: Rule::AgentSettings,
        source: Arc::clone(source),
        position: *position,
        message: message.to_owned(),
        hint: Some(hint.to_owned()),
    }
}

fn check_version(document: &Node, reporter: &mut Reporter) {
    let Some(node) = document.get("version") else {
        return;
    };
    let Some(version) = name_text(node) else { return };
    if !VERSIONS.contains(&version.as_str()) {
        reporter.report_with_hint(
            Rule::UnknownVersion,
            node.position,
            format!("version {version} of the format is unknown to this program"),
            format!("known versions: {}", VERSIONS.join(", ")),
        );
    }
}

/// An agent under `agents`; without settings when these have a problem, which has been reported.
pub(crate) struct NamedAgent {
    name: Arc<str>,
    position: Position,
    config: Option<Arc<AgentConfig>>,
}

fn read_agents(document: &Node, reporter: &mut Reporter, prices: &Prices) -> Vec<NamedAgent> {
    let entries = document.get("agents").and_then(Node::as_map).unwrap_or_default();
    let mut found = Vec::with_capacity(entries.len());
    for entry in entries {
        found.push(NamedAgent {
            name: Arc::from(entry.key.as_str()),
            position: entry.value.position,
            config: agents::read(&entry.value, reporter, prices),
        });
    }
    found
}

/// An imported blueprint by its name; `None` when it has problems, which have been reported.
type Imports = Vec<(String, Option<Blueprint>)>;

fn read_imports(document: &Node, reporter: &mut Reporter, reading: &Reading) -> Imports {
    let entries = document.get("imports").and_then(Node::as_map).unwrap_or_default();
    let own = reporter.source().path().to_owned();
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut inner = reading.clone();
    inner.within.push(real(&own));
    let mut imports = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(written) = entry.value.as_str() else {
            continue;
        };
        let path = own.parent().unwrap_or(Path::new("")).join(written);
        if inner.within.contains(&real(&path)) {
            reporter.report_with_hint(
                Rule::CyclicImport,
                entry.value.position,
                format!("importing `{written}` leads back to a file that is being read"),
                "move what both need into a third file",
            );
            imports.push((entry.key.clone(), None));
            continue;
        }
        let imported = match load(&path, &inner) {
            Ok(blueprint) => Some(blueprint),
            Err(problems) => {
                report_import(entry.value.position, written, problems, reporter);
                None
            }
        };
        imports.push((entry.key.clone(), imported));
    }
    imports
}

fn report_import(position: Position, written: &str, problems: Problems, reporter: &mut Reporter) {
    match &problems.0[..] {
        // A file that isn't there is a problem of the line that names it.
        [only] if only.rule == Rule::FileUnreadable => reporter.report_with_hint(
            only.rule,
            position,
            format!("`{written}` can't be imported: {}", only.message),
            "the path counts from the folder of this file",
        ),
        _ => reporter.extend(problems),
    }
}

fn read_limits(node: &Node) -> UsageLimits {
    let count = |key: &str| {
        node.get(key)
            .and_then(Node::as_int)
            .and_then(|number| u64::try_from(number).ok())
    };
    UsageLimits {
        cost: node
            .get("total_cost_usd_limit")
            .and_then(Node::as_float)
            .and_then(|dollars| Cost::from_dollars(dollars).ok()),
        tokens: count("total_tokens_limit"),
        requests: count("total_requests_limit"),
    }
}

/// A hint for an agent that isn't there.
fn agent_hint(written: &str, agents: &[NamedAgent]) -> String {
    did_you_mean(written, agents.iter().map(|agent| &*agent.name), "agents")
}
