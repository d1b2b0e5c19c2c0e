//! A case's pipeline out of tokio's own parts, its scripts as handlers.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture, Retry};
use flujo_core::context::{Context, MergeStrategy};
use flujo_core::machine::{Answer, LaneRecord};
use flujo_core::plan::LaneFailure;
use flujo_core::rate::RateLimit;
use flujo_core::usage::Usage;
use flujo_core::value::{Opaque, Value};
use flujo_simulation::differential::{CallView, Constructs, MILLISECOND};
use flujo_simulation::{
    Act, Case, Does, Object, Script, Spec, Write,
    case::{ConditionalSpec, MapSpec, ParallelSpec, StepSpec},
};
use flujo_tokio::{
    BranchFailure, Conditional, Decision, Handler, ItemFailure, MapOver, Parallel, Pipeline, Raised, Step,
    Tokio,
};
use tokio::task::Id;

use super::flow;

/// What the simulation calls and tokio does not have.
pub(crate) const HOOKS: [&str; 6] = [
    "pre_run",
    "pre_step",
    "post_step",
    "on_step_failure",
    "on_pause_requested",
    "post_run",
];

/// The constructs that tokio has.
pub(crate) const CONSTRUCTS: Constructs = Constructs::ALL;

/// What was called, by lane, and how often each callable was.
#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) calls: BTreeMap<String, Vec<CallView>>,
    /// The rate limits of agents that plugins ask for, by their identity.
    agent_rates: BTreeMap<u64, RateLimit>,
    /// Whether plugins ask for agents by their names.
    pub(crate) named: bool,
    /// The agents by their names.
    pub(crate) agents: BTreeMap<String, Handler>,
    /// The lane that each task runs. Its first call tells it; the run's own task is in no lane.
    lanes: HashMap<Id, String>,
    counts: HashMap<(String, String, &'static str, u32), usize>,
}

impl Log {
    /// An empty one.
    pub(crate) fn of(case: &Case) -> Self {
        Self {
            agent_rates: case.agent_rates.clone(),
            ..Self::default()
        }
    }
}

/// A callable of a case.
#[derive(Clone)]
pub(crate) struct Scripted {
    script: Arc<Script>,
    step: Arc<str>,
    role: &'static str,
    index: u32,
    log: Arc<Mutex<Log>>,
}

impl Scripted {
    /// Notes a call; gives what it is to do, and how many there were before it in this lane.
    pub(crate) fn begin(&self, lane: Option<String>, attempt: u32) -> (Act, usize) {
        let id = tokio::task::id();
        let mut log = self.log.lock().unwrap();
        if let Some(lane) = lane {
            log.lanes.insert(id, lane);
        }
        let lane = log.lanes.get(&id).cloned().unwrap_or_default();
        log.calls.entry(lane.clone()).or_default().push(CallView {
            role: self.role.to_owned(),
            step: self.step.to_string(),
            index: self.index,
            attempt,
        });
        let count = log
            .counts
            .entry((lane, self.step.to_string(), self.role, self.index))
            .or_default();
        let nth = *count;
        *count += 1;
        (self.script.act(nth), nth)
    }

    /// One that takes its time.
    fn timed(self) -> Handler {
        Handler::scoped(move |input, scope| {
            let (this, place) = (self.clone(), scope.place());
            async move {
                let (act, nth) = this.begin(Some(bracketed(&place.lane)), place.attempt);
                scope.add_usage(act.usage);
                let units = u64::try_from(input.as_int().unwrap_or(0)).unwrap_or(0);
                let takes = act.takes + act.takes_per_unit * units;
                if takes > 0 {
                    tokio::time::sleep(Duration::from_nanos(takes)).await;
                }
                scope.update(|context| write_all(context, &act));
                outcome(&act, nth, &input)
            }
        })
    }

    /// One that decides at once; `natural` is what it does unless its script says otherwise.
    fn deciding(self, natural: impl Fn(&Decision<'_>) -> Answer<Tokio> + Send + Sync + 'static) -> Handler {
        Handler::inline(move |decision| {
            let (act, nth) = self.begin(None, 0);
            write_all(decision.context, &act);
            Ok(match &act.does {
                Does::Natural => natural(&decision),
                Does::Reject => Answer::Rejected {
                    feedback: format!("call {} rejects as written", nth + 1).into(),
                },
                Does::Redirect(identity) => Answer::Redirect {
                    agent: self.asked(*identity),
                    identity: *identity,
                    unpriced: false,
                    rated: false,
                },
                _ => Answer::Value {
                    value: outcome(&act, nth, decision.value())?,
                    usage: flujo_core::usage::Usage::ZERO,
                },
            })
        })
    }

    /// An agent as a plugin asks for it: where a run is kept by a name, which can be saved.
    fn asked(&self, identity: u64) -> Value {
        let named = self.log.lock().unwrap().named;
        if named {
            Value::from(agent_name(&self.step, identity))
        } else {
            Value::Opaque(Opaque::new(redirected(self, identity)))
        }
    }

    pub(crate) fn role(&self, role: &'static str, index: usize, script: &Script) -> Self {
        Self {
            script: Arc::new(script.clone()),
            role,
            index: u32::try_from(index).unwrap(),
            ..self.clone()
        }
    }
}

/// By which name a step's plugins know an agent.
fn agent_name(step: &str, identity: u64) -> String {
    format!("{step} asks for {identity}")
}

/// The agent of an identity that a plugin asks for: it gives back who it is and what it was given.
fn redirected(plugin: &Scripted, identity: u64) -> Handler {
    let this = plugin.role("redirect", 0, &Script::default());
    let rate = this.log.lock().unwrap().agent_rates.get(&identity).cloned();
    let number = Value::Int(i64::try_from(identity).unwrap());
    match rate {
        Some(rate) => Handler::agent(Redirected { this, number, rate }),
        None => Handler::inline(move |decision| {
            this.begin(None, 0);
            Ok(Answer::Value {
                value: Value::list([number.clone(), decision.value().clone()]),
                usage: Usage::ZERO,
            })
        }),
    }
}

/// The same with a rate limit of its own.
struct Redirected {
    this: Scripted,
    number: Value,
    rate: RateLimit,
}

impl Agent for Redirected {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        self.this.begin(None, 0);
        let value = Value::list([self.number.clone(), request.input]);
        Box::pin(async move { Ok(AgentOutput::from(value)) })
    }

    fn rate_limit(&self) -> Option<RateLimit> {
        Some(self.rate.clone())
    }
}

/// What a script makes of an input.
pub(crate) fn outcome(act: &Act, nth: usize, input: &Value) -> Result<Value, Raised> {
    let error = |retry| {
        let mut error = AgentError::new(format!("call {} fails as written", nth + 1));
        error.retry = retry;
        Raised {
            error: Box::new(error),
            type_name: "ScriptedError",
        }
    };
    match &act.does {
        Does::Return(value) => Ok(value_of(value)),
        Does::Add(number) => Ok(Value::Int(input.as_int().unwrap_or(0) + number)),
        Does::FailOdd if input.as_int().is_some_and(|number| number % 2 != 0) => Err(error(Retry::Allowed)),
        Does::Natural | Does::FailOdd => Ok(input.clone()),
        Does::Fail { permanent: true, .. } => Err(error(Retry::Never)),
        Does::Fail { retry_after, .. } => Err(error(match retry_after {
            Some(wait) => Retry::After(Duration::from_nanos(*wait)),
            None => Retry::Allowed,
        })),
        other => panic!("{other:?} is not for this role"),
    }
}

fn write_all(context: &mut Context, act: &Act) {
    for (field, write) in &act.writes {
        let before = context.get(field).cloned().unwrap_or_default();
        let after = match write {
            Write::Set(value) => value_of(value),
            Write::Add(number) => Value::Int(before.as_int().unwrap_or(0) + number),
            Write::Append(value) => {
                let mut values = before.as_list().unwrap_or_default().to_vec();
                values.push(value_of(value));
                Value::list(values)
            }
        };
        context.set(field.as_str(), after);
    }
}

/// `parallel1.a/map2[3]` as the simulation names it.
pub(crate) fn bracketed(lane: &str) -> String {
    let one = |place: &str| match place.split_once('.') {
        Some((name, branch)) => format!("{name}[{branch}]"),
        None => place.to_owned(),
    };
    lane.split('/').map(one).collect::<Vec<_>>().join("/")
}

/// A value of the simulation as one of tokio's.
pub(crate) fn value_of(object: &Object) -> Value {
    match object {
        Object::Null => Value::Null,
        Object::Int(number) => Value::Int(*number),
        Object::Text(text) => Value::Str(Arc::clone(text)),
        Object::List(values) => Value::list(values.iter().map(value_of)),
        Object::Record(fields) => {
            let fields = fields
                .iter()
                .map(|(name, value)| (Arc::clone(name), value_of(value)));
            Value::Map(Arc::new(fields.collect()))
        }
    }
}

/// The field a step's feedback is written to: a dot would lead into a field.
pub(crate) fn feedback_field(step: &str) -> String {
    format!("{step}_feedback")
}

/// A case's pipeline.
pub(crate) fn pipeline(spec: &Spec, log: &Arc<Mutex<Log>>) -> Pipeline {
    match spec {
        Spec::Sequence(parts) => parts
            .iter()
            .fold(Pipeline::new(), |whole, part| whole.then(pipeline(part, log))),
        Spec::Step(spec) => step(spec, log).into(),
        Spec::Conditional(spec) => conditional(spec, log).into(),
        Spec::Parallel(spec) => parallel(spec, log).into(),
        Spec::Map(spec) => map(spec, log).into(),
        Spec::Group(spec) => {
            let body = pipeline(&spec.body, log);
            match spec.deadline {
                Some(deadline) => body.as_step_within(spec.name.as_str(), Duration::from_nanos(deadline)),
                None => body.as_step(spec.name.as_str()),
            }
        }
        Spec::Loop(spec) => flow::repeat(spec, log).into(),
        Spec::States(spec) => flow::states(spec, log).into(),
        Spec::Human(spec) => flow::human(spec, log).into(),
        Spec::Guard(spec) => flow::guard(spec, log),
    }
}

pub(crate) fn scripted(step: &str, log: &Arc<Mutex<Log>>) -> Scripted {
    Scripted {
        script: Arc::default(),
        step: Arc::from(step),
        role: "",
        index: 0,
        log: Arc::clone(log),
    }
}

fn step(spec: &StepSpec, log: &Arc<Mutex<Log>>) -> Step {
    let of = scripted(&spec.name, log);
    let step = match &spec.body {
        Some(body) => Step::body(spec.name.as_str(), pipeline(body, log)),
        None => Step::new(spec.name.as_str(), of.role("agent", 0, &spec.agent).timed()),
    };
    let mut step = step
        .retries(spec.policy.max_retries)
        .backoff(spec.policy.backoff)
        .estimate(spec.estimate);
    for (index, script) in spec.prompt.iter().enumerate() {
        step = step.prompt_processor(of.role("prompt", index, script).timed());
    }
    for (index, script) in spec.output.iter().enumerate() {
        step = step.output_processor(of.role("output", index, script).timed());
    }
    for (index, script) in spec.plugins.iter().enumerate() {
        for act in &script.acts {
            if let Does::Redirect(identity) = act.does {
                let agent = redirected(&of, identity);
                log.lock()
                    .unwrap()
                    .agents
                    .insert(agent_name(&spec.name, identity), agent);
            }
        }
        step = step.plugin(of.role("plugin", index, script).deciding(|_| Answer::Done));
    }
    for (index, script) in spec.validators.iter().enumerate() {
        step = step.validator(of.role("validator", index, script).deciding(|_| Answer::Done));
    }
    if spec.apply.is_some() {
        step = step.sink_to(spec.name.clone());
    }
    if spec.persist.is_some() {
        step = step.persist_feedback_to(feedback_field(&spec.name));
    }
    for limit in &spec.rates {
        step = step.rate_limit(limit.clone());
    }
    if let Some(timeout) = spec.policy.timeout {
        step = step.timeout(timeout);
    }
    if let Some(deadline) = spec.deadline {
        step = step.deadline(Duration::from_nanos(deadline));
    }
    match &spec.fallback {
        Some(fallback) => step.fallback(pipeline(fallback, log)),
        None => step,
    }
}

fn conditional(spec: &ConditionalSpec, log: &Arc<Mutex<Log>>) -> Conditional {
    let of = scripted(&spec.name, log);
    let condition = of.role("condition", 0, &spec.condition);
    let first = spec.branches[0].0.clone();
    let mut node = Conditional::new(spec.name.as_str(), move |input, _| {
        let (act, nth) = condition.begin(None, 0);
        match &act.does {
            Does::Natural => Ok(first.clone()),
            Does::Choose(key) => Ok(key.clone()),
            _ => Err(outcome(&act, nth, input).unwrap_err()),
        }
    });
    for (name, body) in &spec.branches {
        node = node.branch(name.as_str(), pipeline(body, log));
    }
    if let Some(default) = &spec.default {
        node = node.otherwise(pipeline(default, log));
    }
    if let Some(script) = &spec.input_mapper {
        node = node.input_mapper(of.role("branch_input", 0, script).timed());
    }
    if let Some(script) = &spec.output_mapper {
        node = node.output_mapper(of.role("branch_output", 0, script).timed());
    }
    match spec.deadline {
        Some(deadline) => node.deadline(Duration::from_nanos(deadline)),
        None => node,
    }
}

fn parallel(spec: &ParallelSpec, log: &Arc<Mutex<Log>>) -> Parallel {
    let mut node = Parallel::new(spec.name.as_str()).on_branch_failure(match spec.on_failure {
        LaneFailure::Propagate => BranchFailure::Propagate,
        _ => BranchFailure::Ignore,
    });
    node = node.collect(Handler::collect(|lanes| Ok(outputs(lanes))));
    for (name, body) in &spec.branches {
        node = node.branch(name.as_str(), pipeline(body, log));
    }
    if let Some(router) = &spec.router {
        node = flow::routed(node, spec, router, log);
    }
    if let Some(limit) = spec.max_concurrency {
        node = node.max_concurrency(limit);
    }
    if spec.merge.is_none() {
        node = node.merge(MergeStrategy::NoMerge);
    }
    match spec.deadline {
        Some(deadline) => node.deadline(Duration::from_nanos(deadline)),
        None => node,
    }
}

/// The outputs by name, as the simulation collects them: it has one word for every failed branch.
fn outputs(lanes: &[LaneRecord<Tokio>]) -> Value {
    let outputs = lanes.iter().map(|lane| {
        let output = lane.output().cloned();
        (
            Arc::clone(&lane.name),
            output.unwrap_or_else(|| Value::from("failed")),
        )
    });
    Value::Map(Arc::new(outputs.collect()))
}

fn map(spec: &MapSpec, log: &Arc<Mutex<Log>>) -> MapOver {
    let items = scripted(&spec.name, log).role("items", 0, &spec.items);
    let node = MapOver::new(spec.name.as_str(), pipeline(&spec.body, log))
        .items(move |input, _| {
            let (act, nth) = items.begin(None, 0);
            match &act.does {
                Does::Items(values) => Ok(values.iter().map(value_of).collect()),
                _ => Err(outcome(&act, nth, input).unwrap_err()),
            }
        })
        .max_concurrency(spec.max_concurrency)
        .on_item_failure(match spec.on_failure {
            LaneFailure::Propagate => ItemFailure::Fail,
            _ => ItemFailure::None,
        });
    match spec.deadline {
        Some(deadline) => node.deadline(Duration::from_nanos(deadline)),
        None => node,
    }
}

/// Whole milliseconds, as far as tokio's timers go.
pub(crate) fn is_whole(time: u64) -> bool {
    time.is_multiple_of(MILLISECOND)
}
