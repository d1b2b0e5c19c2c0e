//! From a checked blueprint to a pipeline that runs.

mod agent;
mod lanes;

use std::sync::Arc;

use flujo_agents::template::{Expression, Scope};
use flujo_core::agent::Agent;
use flujo_core::context::MergeStrategy as Merge;
use flujo_core::value::Value;
use flujo_tokio::{
    BranchFailure, Conditional, Decision, Handler, ItemFailure as OnItemFailure, MapOver, Parallel, Pipeline,
    Raised, Step as Node,
};

use crate::function::{Function, FunctionAgent, Functions};
use crate::model::{
    AgentSource, AgentStep, Blueprint, Condition, ConditionalStep, DefaultBranch, ItemFailure, MapStep,
    MergeStrategy, OutputRule, ParallelStep, Step, StepKind, Test, branch_key,
};
use crate::position::{Position, Source};
use crate::problem::{Problem, Problems};
use crate::rule::Rule;
use agent::TemplatedInput;

impl Blueprint {
    /// Makes the agents and puts the pipeline together. This reads the keys of services from the environment.
    ///
    /// # Errors
    /// [`Problems`]: agents that can't be made here, such as one whose key isn't set.
    pub fn pipeline(&self) -> Result<Pipeline, Problems> {
        self.pipeline_with(None)
    }

    /// As [`Blueprint::pipeline`]; functions of Python are imported from `functions`. Whether that is allowed has to be
    /// checked before, by [`Blueprint::check_allowed`].
    ///
    /// # Errors
    /// As [`Blueprint::pipeline`], and functions that can't be imported.
    pub fn pipeline_with(&self, functions: Option<&dyn Functions>) -> Result<Pipeline, Problems> {
        let mut problems = Building {
            functions,
            found: Vec::new(),
        };
        let pipeline = sequence(&self.steps, &mut problems);
        let mut found = problems.found;
        found.dedup();
        if found.is_empty() {
            Ok(pipeline)
        } else {
            Err(Problems(found))
        }
    }
}

/// What is known and found while a pipeline is put together.
struct Building<'a> {
    functions: Option<&'a dyn Functions>,
    found: Vec<Problem>,
}

impl Building<'_> {
    /// The function that a path names; a problem where there is none.
    fn import(
        &mut self,
        path: &str,
        (source, position): &(Arc<Source>, Position),
    ) -> Option<Arc<dyn Function>> {
        let problem = |rule, message, hint: &str| Problem {
            rule,
            source: Arc::clone(source),
            position: *position,
            message,
            hint: Some(hint.to_owned()),
        };
        let Some(functions) = self.functions else {
            let message = format!("`{path}` is a function of Python, and this program has no Python");
            let hint = "run the file with `python -m flujo run`";
            self.found.push(problem(Rule::NeedsPython, message, hint));
            return None;
        };
        match functions.import(path) {
            Ok(function) => Some(function),
            Err(reason) => {
                let message = format!("`{path}` can't be imported: {reason}");
                let hint = "modules are looked for as Python does, and in the current folder";
                self.found.push(problem(Rule::NotImported, message, hint));
                None
            }
        }
    }
}

fn sequence(steps: &[Step], problems: &mut Building<'_>) -> Pipeline {
    steps.iter().fold(Pipeline::new(), |pipeline, step| {
        pipeline.then(node(step, problems))
    })
}

fn node(step: &Step, problems: &mut Building<'_>) -> Pipeline {
    match &step.kind {
        StepKind::Agent(agent) => agent_step(step, agent, problems),
        StepKind::Parallel(parallel) => parallel_step(step, parallel, problems),
        StepKind::Conditional(conditional) => conditional_step(step, conditional, problems),
        StepKind::Map(map) => map_step(step, map, problems),
        StepKind::Pipeline(steps) => {
            let body = sequence(steps, problems);
            match step.deadline {
                Some(deadline) => body.as_step_within(Arc::clone(&step.name), deadline),
                None => body.as_step(Arc::clone(&step.name)),
            }
        }
    }
}

fn agent_step(step: &Step, agent: &AgentStep, problems: &mut Building<'_>) -> Pipeline {
    let built: Arc<dyn Agent> = match &agent.agent {
        AgentSource::Function(path) => match problems.import(path, &agent.agent_place) {
            Some(function) => Arc::new(FunctionAgent(function)),
            None => return Pipeline::new(),
        },
        AgentSource::Shipped(config) => match config.build() {
            Ok(built) => built,
            Err(error) => {
                let (source, position) = &agent.agent_place;
                problems.found.push(Problem {
                    rule: Rule::AgentSettings,
                    source: Arc::clone(source),
                    position: *position,
                    message: format!("the agent of step `{}` can't be made: {error}", step.name),
                    hint: None,
                });
                return Pipeline::new();
            }
        },
    };
    let built = match &agent.input {
        Some(input) => Arc::new(TemplatedInput::new(built, Arc::clone(input))),
        None => built,
    };
    let mut node = Node::agent(Arc::clone(&step.name), built).retries(agent.policy.max_retries);
    node = node.backoff(agent.policy.backoff);
    if let Some(limits) = agent.limits {
        node = node.usage_limits(limits);
    }
    if let Some(timeout) = agent.policy.timeout {
        node = node.timeout(timeout);
    }
    if let Some(deadline) = step.deadline {
        node = node.deadline(deadline);
    }
    for rule in &agent.validators {
        let rule = Arc::clone(rule);
        node = node.validator(Handler::informed_validator(move |decision| rule.check(decision)));
    }
    if agent.updates_context || agent.sink_to.is_some() {
        node = node.apply(write_to_context(agent.updates_context, agent.sink_to.clone()));
    }
    if let Some(fallback) = &agent.fallback {
        node = node.fallback(self::node(fallback, problems));
    }
    node.into()
}

/// Writes an output into the context: its entries into the fields of their names, the whole to a path.
fn write_to_context(updates: bool, path: Option<Arc<str>>) -> Handler {
    Handler::apply(move |output, context| {
        if updates {
            context.update(output).ok_or_else(|| {
                format!(
                    "`updates_context` needs an output that is a map of context fields, but this one is of kind `{}`",
                    output.kind()
                )
            })?;
        }
        if let Some(path) = &path {
            context.set_path(path, output.clone())?;
        }
        Ok(())
    })
}

impl OutputRule {
    fn check(&self, decision: &Decision<'_>) -> Result<(), String> {
        let output = decision.value();
        let scope = || scope(decision).with("output", output.clone());
        let reason = match &self.test {
            Test::Expression(expression) => match expression.is_true(&scope()) {
                Ok(true) => return Ok(()),
                Ok(false) => format!("`{}` isn't true", expression.source()),
                Err(error) => return Err(format!("`{}` can't be evaluated: {error}", expression.source())),
            },
            Test::Regex(regex) => match output.as_str() {
                Some(text) if regex.is_match(text) => return Ok(()),
                Some(_) => format!("the output doesn't match `{regex}`"),
                None => format!(
                    "the output is of kind `{}`, and only text can match `{regex}`",
                    output.kind()
                ),
            },
            Test::Schema(schema) => match serde_json::to_value(output) {
                Ok(output) => match schema.validate(&output) {
                    Ok(()) => return Ok(()),
                    // Where and which rule; the value itself is content.
                    Err(error) => format!(
                        "the output doesn't fit the schema at `{}`: rule `{}`",
                        error.instance_path(),
                        error.schema_path()
                    ),
                },
                Err(error) => format!("the output can't be compared with a schema: {error}"),
            },
        };
        Err(match &self.message {
            None => reason,
            Some(message) => message
                .render(&scope())
                .unwrap_or_else(|error| format!("{reason} (and the message can't be rendered: {error})")),
        })
    }
}

fn parallel_step(step: &Step, parallel: &ParallelStep, problems: &mut Building<'_>) -> Pipeline {
    let reduce = parallel.reduce;
    let mut node = Parallel::new(Arc::clone(&step.name)).merge(merge(parallel.merge));
    if let Some(collect) = lanes::collect(reduce) {
        node = node.collect(collect);
    }
    if parallel.ignore_failures {
        node = node.on_branch_failure(BranchFailure::Ignore);
    }
    if let Some(limit) = parallel.max_concurrency {
        node = node.max_concurrency(limit);
    }
    if let Some(deadline) = step.deadline {
        node = node.deadline(deadline);
    }
    for branch in &parallel.branches {
        node = node.branch(Arc::clone(&branch.name), sequence(&branch.steps, problems));
    }
    node.into()
}

fn conditional_step(step: &Step, conditional: &ConditionalStep, problems: &mut Building<'_>) -> Pipeline {
    let name = Arc::clone(&step.name);
    let mut node = match &conditional.condition {
        Condition::Expression(expression) => {
            let expression = Arc::clone(expression);
            Conditional::informed(name, move |decision| {
                let names = scope(decision).with("output", decision.value().clone());
                let value = evaluate("condition_expression", &expression, &names)?;
                key_of("condition_expression", &value)
            })
        }
        Condition::Function { path, place } => {
            let Some(function) = problems.import(path, place) else {
                return Pipeline::new();
            };
            Conditional::new(name, move |value, context| {
                let key = function.decide(value, &context.to_value()).map_err(Raised::new)?;
                key_of("condition", &key)
            })
        }
    };
    for branch in &conditional.branches {
        node = node.branch(Arc::clone(&branch.name), sequence(&branch.steps, problems));
    }
    node = match &conditional.default {
        None => node,
        Some(DefaultBranch::Own(steps)) => node.otherwise(sequence(steps, problems)),
        Some(DefaultBranch::Known(place)) => match conditional.branches.get(*place) {
            Some(branch) => node.otherwise(sequence(&branch.steps, problems)),
            None => node,
        },
    };
    if let Some(deadline) = step.deadline {
        node = node.deadline(deadline);
    }
    node.into()
}

fn key_of(key: &str, value: &Value) -> Result<String, Raised> {
    branch_key(value).ok_or_else(|| {
        Raised::new(format!(
            "`{key}` must give the name of a branch, but gave a value of kind `{}`",
            value.kind()
        ))
    })
}

fn map_step(step: &Step, map: &MapStep, problems: &mut Building<'_>) -> Pipeline {
    let mut node = MapOver::new(Arc::clone(&step.name), sequence(&map.body, problems))
        .max_concurrency(map.max_concurrency)
        .on_item_failure(match map.on_failure {
            ItemFailure::Fail => OnItemFailure::Fail,
            ItemFailure::Skip => OnItemFailure::Skip,
            ItemFailure::Null => OnItemFailure::None,
        })
        .merge(merge(map.merge));
    if let Some(items) = &map.items {
        let items = Arc::clone(items);
        node = node.informed_items(move |decision| {
            let value = evaluate("iterable_input", &items, &scope(decision))?;
            match value.as_list() {
                Some(items) => Ok(items.to_vec()),
                None => Err(Raised::new(format!(
                    "`iterable_input` must give a list, but gave a value of kind `{}`",
                    value.kind()
                ))),
            }
        });
    }
    if let Some(deadline) = step.deadline {
        node = node.deadline(deadline);
    }
    node.into()
}

fn evaluate(key: &str, expression: &Expression, names: &Scope) -> Result<Value, Raised> {
    expression.evaluate(names).map_err(|error| {
        Raised::new(format!(
            "`{key}: {}` can't be evaluated: {error}",
            expression.source()
        ))
    })
}

fn scope(decision: &Decision<'_>) -> Scope {
    Scope::new()
        .input(decision.value().clone())
        .context(decision.context.to_value())
        .steps(decision.steps.clone())
}

fn merge(strategy: MergeStrategy) -> Merge {
    match strategy {
        MergeStrategy::ContextUpdate => Merge::ContextUpdate,
        MergeStrategy::Overwrite => Merge::Overwrite,
        MergeStrategy::KeepFirst => Merge::KeepFirst,
        MergeStrategy::ErrorOnConflict => Merge::ErrorOnConflict,
        MergeStrategy::NoMerge => Merge::NoMerge,
    }
}
