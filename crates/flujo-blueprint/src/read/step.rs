//! One step of any kind, with everything in it.

mod uses;

use std::collections::BTreeSet;
use std::sync::Arc;

use flujo_agents::template::Expression;
use flujo_agents::{AgentConfig, Pricing};

use super::cache::cache;
use super::index::{StepIndex, items, name_of};
use super::optimization::optimization;
use super::policy::{count, policy, rate_limit, seconds, word};
use super::validator::validators;
use super::{Imports, NO_PRICE, NamedAgent, Reading, read_limits};
use crate::model::{
    AgentSource, AgentStep, Body, Branch, Condition, ConditionalStep, DefaultBranch, ItemFailure, Life,
    MapStep, MergeStrategy, OwnContext, ParallelStep, PipelineStep, Reduce, Step, StepKind,
};
use crate::node::Node;
use crate::position::Position;
use crate::problem::{Reporter, did_you_mean};
use crate::rule::Rule;
use crate::structure::{kind_of, name_text};
use crate::template::{self, DataTemplate, Names};
use uses::Used;

/// Something can't be read, which has been reported.
#[derive(Debug)]
pub(super) struct Reported;

/// Reads steps; what it can't read has been reported and is left out.
pub(super) struct StepReader<'d> {
    index: &'d StepIndex<'d>,
    agents: &'d [NamedAgent],
    imports: &'d Imports,
    used: Vec<(Arc<AgentConfig>, Position)>,
    reading: &'d Reading,
    functions: Vec<(Arc<str>, Position)>,
    /// The steps whose fallback is being read, outermost first.
    falling_back: Vec<String>,
    cycles: BTreeSet<BTreeSet<String>>,
}

impl<'d> StepReader<'d> {
    pub(super) fn new(
        index: &'d StepIndex<'d>,
        agents: &'d [NamedAgent],
        imports: &'d Imports,
        reading: &'d Reading,
    ) -> Self {
        Self {
            index,
            agents,
            imports,
            used: Vec::new(),
            reading,
            functions: Vec::new(),
            falling_back: Vec::new(),
            cycles: BTreeSet::new(),
        }
    }

    /// The agents of the steps that were read, with the place that names them.
    pub(super) fn used(&self) -> &[(Arc<AgentConfig>, Position)] {
        &self.used
    }

    /// The functions of Python that were named, with the place that names them.
    pub(super) fn functions(&self) -> &[(Arc<str>, Position)] {
        &self.functions
    }

    /// The steps of a body.
    pub(super) fn sequence(&mut self, body: &Node, reporter: &mut Reporter) -> Vec<Step> {
        let nodes = items(body);
        if nodes.is_empty() && body.as_list().is_some_and(<[Node]>::is_empty) {
            reporter.report_with_hint(
                Rule::MissingKey,
                body.position,
                "there are no steps here",
                "add at least one",
            );
        }
        nodes
            .into_iter()
            .filter_map(|node| self.step(node, reporter))
            .collect()
    }

    fn step(&mut self, node: &Node, reporter: &mut Reporter) -> Option<Step> {
        if let (Some(name), Some(other)) = (node.entry("name"), node.entry("step"))
            && name_text(&name.value) != name_text(&other.value)
        {
            reporter.report_with_hint(
                Rule::KeyConflict,
                other.key_position,
                "`name` and `step` are two spellings of one key, with different values here",
                "keep `name`",
            );
        }
        let (kind, _) = kind_of(node)?;
        let name = name_of(node).map(|(_, name)| name).unwrap_or_default();
        let kind = match kind {
            "parallel" | "dynamic_router" => self.parallel(node, reporter).map(StepKind::Parallel),
            "gather" => gather(node, reporter).map(StepKind::Gather),
            "conditional" => self.conditional(node, reporter).map(StepKind::Conditional),
            "map" => self.map(node, reporter).map(StepKind::Map),
            "loop" => self
                .repeat(node, reporter)
                .map(|repeat| StepKind::Loop(Box::new(repeat))),
            "refine_until" => self.refine(node, reporter).map(StepKind::Refine),
            "agentic_loop" => self.agentic(node, reporter).map(StepKind::Agentic),
            "state_machine" => self.states(node, reporter).map(StepKind::States),
            "hitl" => self
                .human(node, reporter)
                .map(|human| StepKind::Human(Box::new(human))),
            "pipeline" => self.pipeline(node, reporter).map(StepKind::Pipeline),
            "cache" => self.cached(node, reporter).map(StepKind::Pipeline),
            _ => self.agent_step(node, &name, reporter),
        };
        // What is around a step whose work can't be read is read nevertheless, for its problems.
        let retries = u32::from(matches!(
            kind,
            Some(StepKind::Agent(_) | StepKind::Gather(_)) | None
        ));
        let life = self.life(node, &name, retries, reporter);
        let on_failure = self.handler(node, reporter);
        let config = node.get("config");
        let deadline = config.and_then(|config| seconds(config, "deadline_s"));
        Some(Step {
            name: Arc::from(name),
            deadline,
            optimization: config.and_then(|config| optimization(config, reporter)),
            life: life?,
            on_failure: on_failure.ok()?.map(Box::new),
            kind: kind?,
        })
    }

    /// What is around the work of a step. `retries` is how often it is tried again when it says nothing of it.
    fn life(&mut self, node: &Node, name: &str, retries: u32, reporter: &mut Reporter) -> Option<Life> {
        let names = self.names();
        let validators = validators(node, &names, reporter);
        let fallback = match node.get("fallback") {
            Some(fallback) => Some(Box::new(self.fallback(fallback, name, reporter)?)),
            None => None,
        };
        let cache = cache(node, reporter)?;
        Some(Life {
            cache,
            policy: node.get("config").map(|config| policy(config, retries)),
            rate_limit: node
                .get("config")
                .and_then(|config| config.get("rate_limit"))
                .and_then(|limit| rate_limit(limit, reporter)),
            limits: node.get("usage_limits").map(read_limits),
            updates_context: node
                .get("updates_context")
                .and_then(Node::as_bool)
                .unwrap_or(false),
            sink_to: node.get("sink_to").and_then(Node::as_str).map(Arc::from),
            validators,
            fallback,
        })
    }

    /// What runs when a step or pipeline has failed, when it names something.
    pub(super) fn handler(&mut self, node: &Node, reporter: &mut Reporter) -> Result<Option<Step>, Reported> {
        match node.get("on_failure") {
            Some(handler) => self.fallback(handler, "", reporter).map(Some).ok_or(Reported),
            None => Ok(None),
        }
    }

    /// What templates may name.
    pub(super) fn names(&self) -> Names<'d> {
        Names {
            steps: self.index.names(),
        }
    }

    fn agent_step(&mut self, node: &Node, name: &str, reporter: &mut Reporter) -> Option<StepKind> {
        let agent = self.agent(node, name, reporter);
        let names = self.names();
        let input = node
            .get("input")
            .map(|input| DataTemplate::read(input, &["attempt"], &names, reporter));
        let agent = match agent? {
            Used::Pipeline(body) => {
                if let Some(entry) = node.entry("input") {
                    reporter.report_with_hint(
                        Rule::KeyConflict,
                        entry.key_position,
                        "`input` can't be used on a step that runs an imported blueprint",
                        "put it on a step inside that blueprint",
                    );
                }
                return Some(StepKind::Pipeline(PipelineStep { body, context: None }));
            }
            Used::Agent(name, position, config) => (name, position, AgentSource::Shipped(config)),
            Used::Function(path, position) => (Arc::from(""), position, AgentSource::Function(path)),
        };
        let (agent_name, position, source) = agent;
        let limits = node.get("usage_limits").map(read_limits);
        if let AgentSource::Shipped(config) = &source {
            if limits.is_some_and(|limits| limits.cost.is_some()) && config.pricing() == Pricing::Unknown {
                let (message, hint) = NO_PRICE;
                reporter.report_with_hint(Rule::AgentSettings, position, message, hint);
            }
            self.used.push((Arc::clone(config), position));
        }
        Some(StepKind::Agent(Box::new(AgentStep {
            agent: source,
            agent_name: (!agent_name.is_empty()).then_some(agent_name),
            agent_place: (Arc::clone(reporter.source()), position),
            input: match input {
                Some(read) => Some(Arc::new(read?)),
                None => None,
            },
        })))
    }

    fn fallback(&mut self, node: &Node, of: &str, reporter: &mut Reporter) -> Option<Step> {
        self.falling_back.push(of.to_owned());
        let step = if node.as_map().is_some() {
            self.step(node, reporter)
        } else {
            name_text(node).and_then(|written| self.named_fallback(&written, node.position, reporter))
        };
        self.falling_back.pop();
        step
    }

    fn named_fallback(&mut self, written: &str, position: Position, reporter: &mut Reporter) -> Option<Step> {
        if let Some(start) = self.falling_back.iter().position(|name| name == written) {
            let circle = &self.falling_back[start..];
            if self.cycles.insert(circle.iter().cloned().collect()) {
                let way: Vec<&str> = circle.iter().map(String::as_str).chain([written]).collect();
                reporter.report_with_hint(
                    Rule::CyclicFallback,
                    position,
                    format!("the fallbacks run in a circle: {}", way.join(" → ")),
                    "end the chain with a step that has no fallback",
                );
            }
            return None;
        }
        if let Some(node) = self.index.get(written) {
            return self.step(node, reporter);
        }
        reporter.report_with_hint(
            Rule::UnknownStep,
            position,
            format!("there is no step `{written}` to fall back to"),
            did_you_mean(written, self.index.names().iter().map(String::as_str), "steps"),
        );
        None
    }

    fn branches(&mut self, node: &Node, reporter: &mut Reporter) -> Option<Vec<Branch>> {
        self.named("branches", node, reporter)
    }

    /// Bodies by name, at least one.
    pub(super) fn named(&mut self, key: &str, node: &Node, reporter: &mut Reporter) -> Option<Vec<Branch>> {
        let branches = node.entry(key)?;
        let entries = branches.value.as_map()?;
        if entries.is_empty() {
            reporter.report_with_hint(
                Rule::MissingKey,
                branches.key_position,
                format!("there are no {key}"),
                "add at least one",
            );
            return None;
        }
        let read: Vec<Branch> = entries
            .iter()
            .map(|entry| Branch {
                name: Arc::from(entry.key.as_str()),
                steps: self.sequence(&entry.value, reporter),
            })
            .collect();
        Some(read)
    }

    fn parallel(&mut self, node: &Node, reporter: &mut Reporter) -> Option<ParallelStep> {
        let router = node.get("router").map(|router| self.sequence(router, reporter));
        Some(ParallelStep {
            router,
            branches: self.branches(node, reporter)?,
            reduce: match word(node, "reduce").as_deref() {
                Some("keys") => Reduce::Keys,
                Some("values") => Reduce::Values,
                Some("union") => Reduce::Union,
                Some("concat") => Reduce::Concat,
                Some("first") => Reduce::First,
                Some("last") => Reduce::Last,
                _ => Reduce::Map,
            },
            merge: merge_strategy(node),
            ignore_failures: word(node, "on_branch_failure").as_deref() == Some("ignore"),
            max_concurrency: count(node, "max_concurrency"),
        })
    }

    fn conditional(&mut self, node: &Node, reporter: &mut Reporter) -> Option<ConditionalStep> {
        let condition = match (node.get("condition_expression"), node.get("condition")) {
            (Some(expression), None) => {
                template::expression(expression, &["output"], &self.names(), reporter)
                    .map(|expression| Condition::Expression(Arc::new(expression)))
            }
            (None, Some(function)) => {
                let place = (Arc::clone(reporter.source()), function.position);
                let path = self.function(function, "condition", reporter);
                path.map(|path| Condition::Function { path, place })
            }
            (Some(_), Some(function)) => {
                reporter.report_with_hint(
                    Rule::KeyConflict,
                    function.position,
                    "a conditional has both `condition` and `condition_expression`",
                    "keep one of them",
                );
                None
            }
            (None, None) => {
                reporter.report_with_hint(
                    Rule::MissingKey,
                    node.position,
                    "the conditional has no `condition_expression`",
                    "add one that gives the name of a branch",
                );
                None
            }
        };
        let branches = self.branches(node, reporter);
        let default = node
            .get("default_branch")
            .map(|default| match name_text(default) {
                Some(written) => {
                    let known = branches.as_deref().unwrap_or_default();
                    let place = known.iter().position(|branch| *branch.name == *written);
                    if place.is_none() && branches.is_some() {
                        reporter.report_with_hint(
                            Rule::UnknownBranch,
                            default.position,
                            format!("there is no branch `{written}`"),
                            did_you_mean(&written, known.iter().map(|branch| &*branch.name), "branches"),
                        );
                    }
                    place.map(DefaultBranch::Known)
                }
                None => Some(DefaultBranch::Own(self.sequence(default, reporter))),
            });
        Some(ConditionalStep {
            condition: condition?,
            branches: branches?,
            default: match default {
                Some(read) => Some(read?),
                None => None,
            },
        })
    }

    fn map(&mut self, node: &Node, reporter: &mut Reporter) -> Option<MapStep> {
        let map = node.get("map")?;
        let items = match map.get("iterable_input") {
            Some(written) => Some(Arc::new(iterable(written, &self.names(), reporter)?)),
            None => None,
        };
        Some(MapStep {
            items,
            body: self.sequence(map.get("body")?, reporter),
            max_concurrency: count(map, "max_concurrency").unwrap_or(1),
            on_failure: match word(map, "on_item_failure").as_deref() {
                Some("skip") => ItemFailure::Skip,
                Some("none") => ItemFailure::Null,
                _ => ItemFailure::Fail,
            },
            merge: merge_strategy(node),
        })
    }

    fn cached(&mut self, node: &Node, reporter: &mut Reporter) -> Option<PipelineStep> {
        let step = self.step(node.get("wrapped_step")?, reporter)?;
        let body = Arc::new(Body {
            steps: vec![step],
            on_failure: None,
            invariants: Vec::new(),
            optimization: None,
        });
        Some(PipelineStep { body, context: None })
    }

    fn pipeline(&mut self, node: &Node, reporter: &mut Reporter) -> Option<PipelineStep> {
        let body = match (node.get("steps"), node.get("uses")) {
            (Some(steps), None) => Some(Arc::new(Body {
                steps: self.sequence(steps, reporter),
                on_failure: None,
                invariants: Vec::new(),
                optimization: None,
            })),
            (None, Some(uses)) => match self.uses(uses, reporter)? {
                Used::Pipeline(body) => Some(body),
                Used::Agent(name, ..) | Used::Function(name, _) => {
                    reporter.report_with_hint(
                        Rule::KeyConflict,
                        uses.position,
                        format!("`{name}` is an agent, not a pipeline"),
                        "leave out `kind: pipeline`",
                    );
                    None
                }
            },
            _ => {
                reporter.report_with_hint(
                    Rule::MissingKey,
                    node.position,
                    "a pipeline as a step has exactly one of `steps` and `uses`",
                    "add `steps:`, or `uses: imports.NAME`",
                );
                None
            }
        };
        Some(PipelineStep {
            body: body?,
            context: node.get("context").map(own_context),
        })
    }
}

fn gather(node: &Node, reporter: &mut Reporter) -> Option<Vec<Arc<str>>> {
    let entries = node.get("wait_for")?;
    let names: Vec<Arc<str>> = entries
        .as_list()?
        .iter()
        .filter_map(name_text)
        .map(Arc::from)
        .collect();
    if names.is_empty() {
        reporter.report_with_hint(
            Rule::MissingKey,
            entries.position,
            "there is nothing to gather",
            "name at least one entry",
        );
        return None;
    }
    Some(names)
}

fn own_context(node: &Node) -> OwnContext {
    let pairs = |node: &Node| {
        let entries = node.as_map().unwrap_or_default().iter();
        entries
            .filter_map(|entry| Some((Arc::from(entry.key.as_str()), Arc::from(entry.value.as_str()?))))
            .collect::<Vec<_>>()
    };
    OwnContext {
        inherits: node.get("inherit").and_then(Node::as_bool).unwrap_or(false),
        input_to: node.get("input_to").and_then(Node::as_str).map(Arc::from),
        inputs: node.get("inputs").map(pairs).unwrap_or_default(),
        outputs: node.get("outputs").map(pairs),
    }
}

/// The items of a map. A single word is a field of the context, as older versions wrote it.
fn iterable(node: &Node, names: &Names<'_>, reporter: &mut Reporter) -> Option<Expression> {
    let text = name_text(node)?;
    let is_word = text.chars().all(|c| c.is_alphanumeric() || c == '_');
    if is_word && !["input", "previous_step", "context", "steps"].contains(&text.as_str()) {
        return Expression::parse(&format!("context.{text}")).ok();
    }
    template::expression(node, &[], names, reporter)
}

fn merge_strategy(node: &Node) -> MergeStrategy {
    match word(node, "merge_strategy").as_deref() {
        Some("overwrite") => MergeStrategy::Overwrite,
        Some("keep_first") => MergeStrategy::KeepFirst,
        Some("error_on_conflict") => MergeStrategy::ErrorOnConflict,
        Some("no_merge") => MergeStrategy::NoMerge,
        _ => MergeStrategy::ContextUpdate,
    }
}
