//! A blueprint that has been read and checked.

use std::sync::Arc;
use std::time::Duration;

use flujo_agents::template::{Expression, Template};
use flujo_agents::{AgentConfig, Permission};
use flujo_core::cache::CachePolicy;
use flujo_core::config::OptimizationConfig;
use flujo_core::plan::Policy;
use flujo_core::rate::RateLimit;
use flujo_core::usage::UsageLimits;
use flujo_core::value::Value;

use crate::position::{Position, Source};
use crate::template::DataTemplate;

/// A pipeline as a file describes it. Nothing in it has run or been opened.
#[derive(Debug, Clone)]
pub struct Blueprint {
    pub(crate) source: Arc<Source>,
    pub(crate) name: Arc<str>,
    pub(crate) body: Arc<Body>,
    pub(crate) limits: UsageLimits,
    pub(crate) rate_limits: Vec<RateLimit>,
    pub(crate) requirements: Vec<Requirement>,
    /// Where each step stands, by its name; this file's own come first.
    pub(crate) places: Vec<(String, Arc<Source>, Position)>,
    /// Agents whose calls cost nobody knows how much.
    pub(crate) unpriced: Vec<(Arc<Source>, Position)>,
}

impl Blueprint {
    /// The file.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The pipeline's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The most that a run may use.
    pub fn usage_limits(&self) -> UsageLimits {
        self.limits
    }

    /// How often agents may be called, for every step.
    pub fn rate_limits(&self) -> &[RateLimit] {
        &self.rate_limits
    }

    /// Where the step of this name stands; of steps in imported files that have the same name, the first.
    pub fn place_of(&self, step: &str) -> Option<(&Arc<Source>, Position)> {
        let (_, source, position) = self.places.iter().find(|(name, ..)| name == step)?;
        Some((source, *position))
    }

    /// What its agents may only do when the user has allowed it, imported blueprints included.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

/// What a pipeline does, as a whole file or as one step of another one.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) steps: Vec<Step>,
    /// Runs when the pipeline has failed.
    pub(crate) on_failure: Option<Step>,
    /// Hold after every one of its steps.
    pub(crate) invariants: Vec<Arc<Expression>>,
    pub(crate) optimization: Option<OptimizationConfig>,
}

/// A permission that an agent needs.
#[derive(Debug, Clone)]
pub struct Requirement {
    /// The permission.
    pub permission: Permission,
    /// The file that asks for it.
    pub source: Arc<Source>,
    /// Where.
    pub position: Position,
}

/// A step of any kind.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: Arc<str>,
    pub(crate) deadline: Option<Duration>,
    pub(crate) optimization: Option<OptimizationConfig>,
    pub(crate) life: Life,
    pub(crate) on_failure: Option<Box<Step>>,
    pub(crate) kind: StepKind,
}

/// What is around the work of a step.
#[derive(Debug, Default)]
pub(crate) struct Life {
    /// What `config` says.
    pub(crate) policy: Option<Policy>,
    pub(crate) rate_limit: Option<RateLimit>,
    pub(crate) limits: Option<UsageLimits>,
    pub(crate) updates_context: bool,
    pub(crate) sink_to: Option<Arc<str>>,
    pub(crate) validators: Vec<Arc<OutputRule>>,
    pub(crate) cache: Option<CachePolicy>,
    pub(crate) fallback: Option<Box<Step>>,
}

impl Life {
    /// Whether there is nothing around it.
    pub(crate) fn is_plain(&self) -> bool {
        let tried_once = self
            .policy
            .as_ref()
            .is_none_or(|policy| policy.max_retries == 0 && policy.timeout.is_none());
        tried_once
            && self.limits.is_none()
            && !self.updates_context
            && self.sink_to.is_none()
            && self.validators.is_empty()
            && self.cache.is_none()
            && self.fallback.is_none()
    }
}

#[derive(Debug)]
pub(crate) enum StepKind {
    Agent(Box<AgentStep>),
    Parallel(ParallelStep),
    Gather(Vec<Arc<str>>),
    Conditional(ConditionalStep),
    Map(MapStep),
    Loop(Box<LoopStep>),
    Refine(RefineStep),
    Agentic(AgenticStep),
    States(StatesStep),
    Human(Box<HumanStep>),
    Pipeline(PipelineStep),
}

#[derive(Debug)]
pub(crate) struct AgentStep {
    pub(crate) agent: AgentSource,
    /// The agent's name under `agents`, when it has one.
    pub(crate) agent_name: Option<Arc<str>>,
    /// Where the agent's settings are, for what is only known when it is built.
    pub(crate) agent_place: (Arc<Source>, Position),
    pub(crate) input: Option<Arc<DataTemplate>>,
}

/// What does the work of a step.
#[derive(Debug, Clone)]
pub(crate) enum AgentSource {
    Shipped(Arc<AgentConfig>),
    /// A function of Python: `package.module:function`.
    Function(Arc<str>),
}

impl AgentSource {
    /// What it is called where the agent has no name.
    pub(crate) fn label(&self) -> &str {
        match self {
            Self::Shipped(config) => config.type_name(),
            Self::Function(path) => path,
        }
    }
}

/// Accepts or rejects an output.
#[derive(Debug)]
pub(crate) struct OutputRule {
    pub(crate) test: Test,
    pub(crate) message: Option<Template>,
}

#[derive(Debug)]
pub(crate) enum Test {
    Expression(Expression),
    Regex(regex::Regex),
    Schema(Box<jsonschema::Validator>),
}

#[derive(Debug)]
pub(crate) struct ParallelStep {
    /// Chooses the branches; without one all run.
    pub(crate) router: Option<Vec<Step>>,
    pub(crate) branches: Vec<Branch>,
    pub(crate) reduce: Reduce,
    pub(crate) merge: MergeStrategy,
    pub(crate) ignore_failures: bool,
    pub(crate) max_concurrency: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) name: Arc<str>,
    pub(crate) steps: Vec<Step>,
}

/// What becomes of the outputs of branches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reduce {
    Map,
    Keys,
    Values,
    Union,
    Concat,
    First,
    Last,
}

/// How contexts of lanes come together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MergeStrategy {
    ContextUpdate,
    Overwrite,
    KeepFirst,
    ErrorOnConflict,
    NoMerge,
}

#[derive(Debug)]
pub(crate) struct ConditionalStep {
    pub(crate) condition: Condition,
    pub(crate) branches: Vec<Branch>,
    pub(crate) default: Option<DefaultBranch>,
}

/// What gives the name of a branch.
#[derive(Debug)]
pub(crate) enum Condition {
    Expression(Arc<Expression>),
    /// A function of Python: `package.module:function`.
    Function {
        path: Arc<str>,
        place: (Arc<Source>, Position),
    },
}

#[derive(Debug)]
pub(crate) enum DefaultBranch {
    /// One of the branches, by its place.
    Known(usize),
    Own(Vec<Step>),
}

#[derive(Debug)]
pub(crate) struct MapStep {
    pub(crate) items: Option<Arc<Expression>>,
    pub(crate) body: Vec<Step>,
    pub(crate) max_concurrency: u32,
    pub(crate) on_failure: ItemFailure,
    pub(crate) merge: MergeStrategy,
}

#[derive(Debug)]
pub(crate) struct LoopStep {
    pub(crate) body: Vec<Step>,
    pub(crate) exit: Condition,
    pub(crate) max_loops: u32,
    pub(crate) first_input: Option<Arc<DataTemplate>>,
    pub(crate) next_input: Option<Arc<DataTemplate>>,
    pub(crate) output: Option<Arc<DataTemplate>>,
    /// Whether a failed iteration is passed over.
    pub(crate) goes_on: bool,
}

#[derive(Debug)]
pub(crate) struct RefineStep {
    pub(crate) generator: Vec<Step>,
    pub(crate) critic: Vec<Step>,
    pub(crate) max_refinements: u32,
}

#[derive(Debug)]
pub(crate) struct AgenticStep {
    pub(crate) planner: Vec<Step>,
    pub(crate) registry: Vec<Branch>,
    pub(crate) max_loops: u32,
}

#[derive(Debug)]
pub(crate) struct StatesStep {
    pub(crate) start: Arc<str>,
    pub(crate) states: Vec<StateSteps>,
    pub(crate) transitions: Vec<TransitionRule>,
}

#[derive(Debug)]
pub(crate) struct StateSteps {
    pub(crate) name: Arc<str>,
    pub(crate) steps: Option<Vec<Step>>,
    pub(crate) end: bool,
}

#[derive(Debug)]
pub(crate) struct TransitionRule {
    /// `None` for any state.
    pub(crate) from: Option<Arc<str>>,
    pub(crate) to: Arc<str>,
    pub(crate) after_failure: bool,
    pub(crate) when: Option<Arc<Expression>>,
}

#[derive(Debug)]
pub(crate) struct HumanStep {
    pub(crate) message: Option<Arc<Template>>,
    /// The schema as written, for whoever asks, and what checks answers against it.
    pub(crate) schema: Option<(Value, Arc<jsonschema::Validator>)>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) default: Option<Arc<DataTemplate>>,
}

#[derive(Debug)]
pub(crate) struct PipelineStep {
    pub(crate) body: Arc<Body>,
    /// What its context has to do with the one around it; `None` when it is the same.
    pub(crate) context: Option<OwnContext>,
}

#[derive(Debug)]
pub(crate) struct OwnContext {
    pub(crate) inherits: bool,
    pub(crate) input_to: Option<Arc<str>>,
    /// Paths in it, with those around it that they get their values from.
    pub(crate) inputs: Vec<(Arc<str>, Arc<str>)>,
    /// Paths around it, with those in it; `None` when every field comes back.
    pub(crate) outputs: Option<Vec<(Arc<str>, Arc<str>)>>,
}

/// What a failed item of a map means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemFailure {
    Fail,
    Skip,
    Null,
}

/// The key of a branch that a condition's value stands for.
pub(crate) fn branch_key(value: &Value) -> Option<String> {
    match value {
        Value::Str(text) => Some(text.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}
