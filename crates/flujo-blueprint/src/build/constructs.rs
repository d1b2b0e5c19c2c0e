//! Steps that hold other steps.

use std::sync::Arc;
use std::time::Duration;

use flujo_agents::template::{Expression, Scope};
use flujo_core::context::MergeStrategy as Merge;
use flujo_core::plan::IterationFailure;
use flujo_core::value::Value;
use flujo_tokio::{
    After, AgenticLoop, BranchFailure, Conditional, Decision, Human, Import, ItemFailure as OnItemFailure,
    Loop, MapOver, Parallel, Pipeline, Raised, StateMachine, Transition,
};

use super::{Building, evaluate, lanes, scope, sequence};
use crate::model::{
    AgenticStep, Condition, ConditionalStep, DefaultBranch, HumanStep, ItemFailure, LoopStep, MapStep,
    MergeStrategy, OwnContext, ParallelStep, PipelineStep, RefineStep, StatesStep, Step, StepKind,
    branch_key,
};
use crate::template::DataTemplate;

/// Builds a construct; a step of any other kind is none.
pub(super) fn build(
    step: &Step,
    kind: &StepKind,
    deadline: Option<Duration>,
    problems: &mut Building<'_>,
) -> Pipeline {
    match kind {
        StepKind::Agent(_) | StepKind::Gather(_) => Pipeline::new(),
        StepKind::Parallel(parallel) => self::parallel(step, parallel, deadline, problems),
        StepKind::Conditional(conditional) => self::conditional(step, conditional, deadline, problems),
        StepKind::Map(map) => self::map(step, map, deadline, problems),
        StepKind::Loop(repeat) => self::repeat(step, repeat, deadline, problems),
        StepKind::Refine(refine) => self::refine(step, refine, deadline, problems),
        StepKind::Agentic(agentic) => self::agentic(step, agentic, deadline, problems),
        StepKind::States(states) => self::states(step, states, deadline, problems),
        StepKind::Human(human) => self::human(step, human),
        StepKind::Pipeline(pipeline) => self::pipeline(step, pipeline, deadline, problems),
    }
}

fn parallel(
    step: &Step,
    parallel: &ParallelStep,
    deadline: Option<Duration>,
    problems: &mut Building<'_>,
) -> Pipeline {
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
    if let Some(deadline) = deadline {
        node = node.deadline(deadline);
    }
    if let Some(router) = &parallel.router {
        node = node.router(sequence(router, problems));
    }
    for branch in &parallel.branches {
        node = node.branch(Arc::clone(&branch.name), sequence(&branch.steps, problems));
    }
    node.into()
}

fn conditional(
    step: &Step,
    conditional: &ConditionalStep,
    deadline: Option<Duration>,
    problems: &mut Building<'_>,
) -> Pipeline {
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
    if let Some(deadline) = deadline {
        node = node.deadline(deadline);
    }
    node.into()
}

fn map(step: &Step, map: &MapStep, deadline: Option<Duration>, problems: &mut Building<'_>) -> Pipeline {
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
    if let Some(deadline) = deadline {
        node = node.deadline(deadline);
    }
    node.into()
}

fn repeat(
    step: &Step,
    repeat: &LoopStep,
    deadline: Option<Duration>,
    problems: &mut Building<'_>,
) -> Pipeline {
    let (name, body) = (Arc::clone(&step.name), sequence(&repeat.body, problems));
    let node = match &repeat.exit {
        Condition::Expression(expression) => {
            let expression = Arc::clone(expression);
            Loop::informed_until(name, body, move |decision| {
                holds("exit_expression", &expression, &loop_names(decision))
            })
        }
        Condition::Function { path, place } => {
            let Some(function) = problems.import(path, place) else {
                return Pipeline::new();
            };
            Loop::until(name, body, move |output, context| {
                let done = function
                    .decide(output, &context.to_value())
                    .map_err(Raised::new)?;
                match done {
                    Value::Bool(done) => Ok(done),
                    other => Err(Raised::new(format!(
                        "`exit_condition` must give `True` or `False`, but gave a value of kind `{}`",
                        other.kind()
                    ))),
                }
            })
        }
    };
    let mut node = node
        .max_loops(repeat.max_loops)
        .on_body_failure(if repeat.goes_on {
            IterationFailure::Continue
        } else {
            IterationFailure::Stop
        });
    if let Some(template) = &repeat.first_input {
        node = node.informed_first_input(loop_template("first_input", template));
    }
    if let Some(template) = &repeat.next_input {
        node = node.informed_next_input(loop_template("next_input", template));
    }
    if let Some(template) = &repeat.output {
        node = node.informed_output(loop_template("output", template));
    }
    if let Some(deadline) = deadline {
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

/// What templates of a loop may name.
fn loop_names(decision: &Decision<'_>) -> Scope {
    let names = scope(decision).with("output", decision.value().clone());
    match decision.iteration() {
        Some(iteration) => names
            .with("iteration", Value::Int(i64::from(iteration.index)))
            .with("loop_input", iteration.start.clone()),
        None => names,
    }
}

fn loop_template(
    key: &'static str,
    template: &Arc<DataTemplate>,
) -> impl Fn(&Decision<'_>) -> Result<Value, Raised> + Send + Sync + 'static {
    let template = Arc::clone(template);
    move |decision| filled(key, &template, &loop_names(decision))
}

fn filled(key: &str, template: &DataTemplate, names: &Scope) -> Result<Value, Raised> {
    template
        .evaluate(names)
        .map_err(|error| Raised::new(format!("`{key}` can't be filled in: {error}")))
}

fn holds(key: &str, expression: &Expression, names: &Scope) -> Result<bool, Raised> {
    expression.is_true(names).map_err(|error| {
        Raised::new(format!(
            "`{key}: {}` can't be evaluated: {error}",
            expression.source()
        ))
    })
}

fn refine(
    step: &Step,
    refine: &RefineStep,
    deadline: Option<Duration>,
    problems: &mut Building<'_>,
) -> Pipeline {
    let (generator, critic) = (
        sequence(&refine.generator, problems),
        sequence(&refine.critic, problems),
    );
    let node = Loop::refine(Arc::clone(&step.name), generator, critic).max_loops(refine.max_refinements);
    match deadline {
        Some(deadline) => node.deadline(deadline).into(),
        None => node.into(),
    }
}

fn agentic(
    step: &Step,
    agentic: &AgenticStep,
    deadline: Option<Duration>,
    problems: &mut Building<'_>,
) -> Pipeline {
    let planner = sequence(&agentic.planner, problems);
    let mut node = AgenticLoop::new(Arc::clone(&step.name), planner).max_loops(agentic.max_loops);
    for agent in &agentic.registry {
        node = node.agent(Arc::clone(&agent.name), sequence(&agent.steps, problems));
    }
    match deadline {
        Some(deadline) => node.deadline(deadline).into(),
        None => node.into(),
    }
}

fn states(
    step: &Step,
    states: &StatesStep,
    deadline: Option<Duration>,
    problems: &mut Building<'_>,
) -> Pipeline {
    let mut node = StateMachine::new(Arc::clone(&step.name), Arc::clone(&states.start));
    for state in &states.states {
        let name = Arc::clone(&state.name);
        node = match (&state.steps, state.end) {
            (Some(steps), true) => node.end_with(name, sequence(steps, problems)),
            (Some(steps), false) => node.state(name, sequence(steps, problems)),
            (None, _) => node.end(name),
        };
    }
    for rule in &states.transitions {
        let mut transition = match &rule.from {
            Some(from) => Transition::new(Arc::clone(from), Arc::clone(&rule.to)),
            None => Transition::from_any(Arc::clone(&rule.to)),
        };
        if rule.after_failure {
            transition = transition.after(After::Failure);
        }
        if let Some(when) = &rule.when {
            let when = Arc::clone(when);
            transition = transition.informed_when(move |decision| {
                let names = scope(decision).with("output", decision.value().clone());
                holds("when", &when, &names)
            });
        }
        node = node.transition(transition);
    }
    match deadline {
        Some(deadline) => node.deadline(deadline).into(),
        None => node.into(),
    }
}

fn human(step: &Step, human: &HumanStep) -> Pipeline {
    let mut node = Human::new(Arc::clone(&step.name));
    let (message, schema) = (human.message.clone(), human.schema.clone());
    let shown = schema.as_ref().map(|(schema, _)| schema.clone());
    node = node.informed_question(move |decision| {
        let message = match &message {
            Some(template) => template
                .render(&scope(decision))
                .map_err(|error| Raised::new(format!("`message` can't be rendered: {error}")))?,
            None => plain_text(decision.value()),
        };
        let mut question = vec![("message", Value::from(message))];
        question.extend(shown.clone().map(|schema| ("input_schema", schema)));
        Ok(Value::map(question))
    });
    if let Some((_, validator)) = schema {
        node = node.validator(move |answer, _| fits(&validator, answer));
    }
    if let Some(timeout) = human.timeout {
        node = node.timeout(timeout);
    }
    if let Some(default) = &human.default {
        let default = Arc::clone(default);
        node = node.informed_default(move |decision| filled("default", &default, &scope(decision)));
    }
    node.into()
}

/// A value as a person reads it.
fn plain_text(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None => serde_json::to_string(value).unwrap_or_else(|_| format!("{value:?}")),
    }
}

/// Whether an answer fits its schema; where it doesn't, and which rule says so.
fn fits(schema: &jsonschema::Validator, answer: &Value) -> Result<(), String> {
    let json =
        serde_json::to_value(answer).map_err(|error| format!("the answer has no JSON form: {error}"))?;
    schema.validate(&json).map_err(|error| {
        format!(
            "the answer doesn't fit the schema at `{}`: rule `{}`",
            error.instance_path(),
            error.schema_path()
        )
    })
}

fn pipeline(
    step: &Step,
    pipeline: &PipelineStep,
    deadline: Option<Duration>,
    problems: &mut Building<'_>,
) -> Pipeline {
    let body = super::body(&pipeline.body, problems);
    let Some(context) = &pipeline.context else {
        return match deadline {
            Some(deadline) => body.as_step_within(Arc::clone(&step.name), deadline),
            None => body.as_step(Arc::clone(&step.name)),
        };
    };
    let node = import(Import::new(Arc::clone(&step.name), body), context);
    match deadline {
        Some(deadline) => node.deadline(deadline).into(),
        None => node.into(),
    }
}

fn import(mut node: Import, context: &OwnContext) -> Import {
    if context.inherits {
        node = node.inherit_context();
    }
    if let Some(path) = &context.input_to {
        node = node.input_to(path.to_string());
    }
    for (own, around) in &context.inputs {
        node = node.pass(around.to_string(), own.to_string());
    }
    let Some(outputs) = &context.outputs else {
        return node;
    };
    outputs
        .iter()
        .fold(node.bring_nothing_back(), |node, (around, own)| {
            node.bring_back(own.to_string(), around.to_string())
        })
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
