//! From a checked blueprint to a pipeline that runs.

mod agent;
mod constructs;
mod lanes;

use std::sync::Arc;

use flujo_agents::template::{Expression, Scope};
use flujo_core::agent::Agent;
use flujo_core::context::Context;
use flujo_core::machine::Answer;
use flujo_core::value::Value;
use flujo_tokio::{Decision, Handler, Pipeline, Raised, Step as Node};

use crate::function::{Function, FunctionAgent, Functions};
use crate::model::{AgentSource, AgentStep, Blueprint, Body, OutputRule, Step, StepKind, Test};
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
        self.build(functions, None)
    }

    /// The same with `player` in the place of every agent, which gets what the step is given: agents are neither made nor
    /// called, and no keys of services are needed.
    ///
    /// # Errors
    /// As [`Blueprint::pipeline_with`].
    pub fn pipeline_played(
        &self,
        functions: Option<&dyn Functions>,
        player: &Arc<dyn Agent>,
    ) -> Result<Pipeline, Problems> {
        self.build(functions, Some(player))
    }

    fn build(
        &self,
        functions: Option<&dyn Functions>,
        player: Option<&Arc<dyn Agent>>,
    ) -> Result<Pipeline, Problems> {
        let mut problems = Building {
            functions,
            player,
            found: Vec::new(),
        };
        let pipeline = body(&self.body, &mut problems);
        let mut found = problems.found;
        found.dedup();
        if found.is_empty() {
            Ok(pipeline)
        } else {
            Err(Problems(found))
        }
    }
}

/// All that a pipeline does.
fn body(body: &Body, problems: &mut Building<'_>) -> Pipeline {
    let steps = body.steps.iter().fold(Pipeline::new(), |pipeline, step| {
        pipeline.then(node(step, &body.invariants, problems))
    });
    let steps = match &body.optimization {
        Some(config) => steps.optimization(config.clone()),
        None => steps,
    };
    match &body.on_failure {
        Some(handler) => steps.on_failure(node(handler, &[], problems)),
        None => steps,
    }
}

fn holds(invariant: &Expression, decision: &Decision<'_>) -> Result<(), String> {
    let names = scope(decision).with("output", decision.value().clone());
    match invariant.is_true(&names) {
        Ok(true) => Ok(()),
        Ok(false) => Err(format!("the invariant `{}` doesn't hold", invariant.source())),
        Err(error) => Err(format!(
            "the invariant `{}` can't be evaluated: {error}",
            invariant.source()
        )),
    }
}

/// What is known and found while a pipeline is put together.
struct Building<'a> {
    functions: Option<&'a dyn Functions>,
    /// What stands for every agent.
    player: Option<&'a Arc<dyn Agent>>,
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
        pipeline.then(node(step, &[], problems))
    })
}

/// A step, and what runs in its place when it fails. The invariants must hold after it.
fn node(step: &Step, invariants: &[Arc<Expression>], problems: &mut Building<'_>) -> Pipeline {
    let built = match &step.kind {
        StepKind::Agent(agent) => match agent_step(step, agent, problems) {
            Some(node) => lively(node, step, invariants, problems).into(),
            None => return Pipeline::new(),
        },
        StepKind::Gather(entries) => {
            let node = Node::gather(Arc::clone(&step.name), entries.iter().cloned());
            lively(node, step, invariants, problems).into()
        }
        construct if step.life.is_plain() && invariants.is_empty() => {
            constructs::build(step, construct, step.deadline, problems)
        }
        construct => {
            let body = constructs::build(step, construct, None, problems);
            lively(
                Node::body(Arc::clone(&step.name), body),
                step,
                invariants,
                problems,
            )
            .into()
        }
    };
    let built = match &step.optimization {
        Some(config) => built.optimization(config.clone()),
        None => built,
    };
    match &step.on_failure {
        Some(handler) => built.on_failure(node(handler, invariants, problems)),
        None => built,
    }
}

/// A step with all that its settings put around its work.
fn lively(mut node: Node, step: &Step, invariants: &[Arc<Expression>], problems: &mut Building<'_>) -> Node {
    let life = &step.life;
    if let Some(policy) = &life.policy {
        node = node.retries(policy.max_retries).backoff(policy.backoff);
        if let Some(timeout) = policy.timeout {
            node = node.timeout(timeout);
        }
    }
    if let Some(limits) = life.limits {
        node = node.usage_limits(limits);
    }
    if let Some(limit) = &life.rate_limit {
        node = node.rate_limit(limit.clone());
    }
    if let Some(deadline) = step.deadline {
        node = node.deadline(deadline);
    }
    if let Some(policy) = &life.cache {
        node = node.cached(policy.clone());
    }
    for rule in &life.validators {
        let rule = Arc::clone(rule);
        node = node.validator(Handler::informed_validator(move |decision| rule.check(decision)));
    }
    let writes = life.updates_context || life.sink_to.is_some();
    let write = write_to_context(life.updates_context, life.sink_to.clone());
    if !invariants.is_empty() {
        node = node.apply(checked(write, invariants.to_vec()));
    } else if writes {
        node = node.apply(Handler::apply(write));
    }
    match &life.fallback {
        Some(fallback) => node.fallback(self::node(fallback, invariants, problems)),
        None => node,
    }
}

fn agent_step(step: &Step, agent: &AgentStep, problems: &mut Building<'_>) -> Option<Node> {
    if let Some(player) = problems.player {
        return Some(Node::agent(Arc::clone(&step.name), Arc::clone(player)));
    }
    let built: Arc<dyn Agent> = match &agent.agent {
        AgentSource::Function(path) => {
            let function = problems.import(path, &agent.agent_place)?;
            Arc::new(FunctionAgent(function))
        }
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
                return None;
            }
        },
    };
    let built = match &agent.input {
        Some(input) => Arc::new(TemplatedInput::new(built, Arc::clone(input))),
        None => built,
    };
    Some(Node::agent(Arc::clone(&step.name), built))
}

/// Writes an output into the context: its entries into the fields of their names, the whole to a path.
fn write_to_context(
    updates: bool,
    path: Option<Arc<str>>,
) -> impl Fn(&Value, &mut Context) -> Result<(), Raised> + Send + Sync + 'static {
    move |output, context| {
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
    }
}

/// Writes an output into the context, where all invariants must hold then.
fn checked(
    write: impl Fn(&Value, &mut Context) -> Result<(), Raised> + Send + Sync + 'static,
    invariants: Vec<Arc<Expression>>,
) -> Handler {
    Handler::informed(move |decision| {
        write(decision.value(), decision.context)?;
        for invariant in &invariants {
            holds(invariant, &decision)?;
        }
        Ok(Answer::Done)
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
