//! The nodes of a plan.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cache::{CacheKey, CachePolicy, StepIdentity};
use crate::config::OptimizationConfig;
use crate::rate::RateLimit;
use crate::usage::{Usage, UsageLimits};
use crate::value::TypeCodec;

/// A node's place in its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct NodeId(pub u32);

/// One node: a step, a construct or a sequence of them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Node<C> {
    /// The name as written; empty for a sequence.
    pub name: Arc<str>,
    /// Where it stands, for messages and ids: `review/loop/critic`.
    pub path: Arc<str>,
    /// The longest time the whole node may take, its retries, backoff, fallback and children included.
    pub deadline: Option<Duration>,
    /// Whether it is what the step around it works with, under the same name: the two are told of, and shown, as one.
    pub inner: bool,
    /// Which optimisations it uses, by its own config or the nearest one around it in the pipeline; `None` leaves it to
    /// the runner. Results are the same.
    #[serde(skip)]
    pub optimization: Option<Arc<OptimizationConfig>>,
    /// What it is.
    pub kind: Kind<C>,
}

impl<C> Node<C> {
    /// What it is optimised and watched by, in a runner with this config.
    pub fn config<'c>(&'c self, runner: &'c OptimizationConfig) -> &'c OptimizationConfig {
        self.optimization.as_deref().unwrap_or(runner)
    }

    /// The time in nanoseconds it may take by a config in the pipeline.
    pub(crate) fn own_limit_ns(&self) -> Option<u64> {
        Some(self.optimization.as_ref()?.execution_limit_ns())
    }

    /// Whether it is a step of which an attempt that succeeds is one call of the agent, and no time limit is its own.
    pub(crate) fn is_plain_step(&self) -> bool {
        match &self.kind {
            Kind::Step(step) => self.deadline.is_none() && step.is_plain(),
            _ => false,
        }
    }
}

/// What a node is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Kind<C> {
    /// Children one after the other, each fed with the output of the one before.
    Sequence(Vec<NodeId>),
    /// A step.
    Step(Box<StepNode<C>>),
    /// One of several branches, chosen by a condition.
    Conditional(Box<ConditionalNode<C>>),
    /// All branches at once, isolated from one another.
    Parallel(Box<ParallelNode<C>>),
    /// The same body for each item of a collection.
    Map(Box<MapNode<C>>),
    /// A pipeline as one step.
    Group(Box<GroupNode<C>>),
    /// The same body again and again, until a condition holds.
    Loop(Box<LoopNode<C>>),
    /// Pipelines that follow one another as transitions say.
    States(Box<StatesNode<C>>),
    /// A question to somebody outside; the run waits for the answer.
    Human(Box<HumanNode<C>>),
    /// A part of a pipeline with a way out when it fails.
    Guard(Box<GuardNode<C>>),
}

impl<C> Kind<C> {
    /// What it is, in words: `step`, `parallel step`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sequence(_) => "sequence",
            Self::Step(_) => "step",
            Self::Conditional(_) => "conditional",
            Self::Parallel(_) => "parallel step",
            Self::Map(_) => "map",
            Self::Group(_) => "sub-pipeline",
            Self::Loop(_) => "loop",
            Self::States(_) => "state machine",
            Self::Human(_) => "question",
            Self::Guard(_) => "failure route",
        }
    }
}

/// How often, how long and how patiently a step is tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// Retries after the first attempt: attempts = 1 + `max_retries`.
    pub max_retries: u32,
    /// The longest time one attempt may take.
    pub timeout: Option<Duration>,
    /// How long to wait between attempts.
    pub backoff: Backoff,
}

impl Default for Policy {
    /// One retry, no time limit, no wait.
    fn default() -> Self {
        Self {
            max_retries: 1,
            timeout: None,
            backoff: Backoff::None,
        }
    }
}

/// How long to wait between attempts.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Not at all.
    #[default]
    None,
    /// Always the same.
    Fixed(Duration),
    /// `initial × factorⁿ`, at most `max`, each time changed by up to ± `jitter` of itself.
    Exponential {
        /// Before the second attempt.
        initial: Duration,
        /// From one wait to the next.
        factor: f64,
        /// The longest wait.
        max: Duration,
        /// A share of the wait, from 0 to 1.
        jitter: f64,
    },
}

impl Backoff {
    /// Doubling waits from `initial`, at most 30 seconds, with a tenth of jitter.
    pub fn exponential(initial: Duration) -> Self {
        Self::Exponential {
            initial,
            factor: 2.0,
            max: Duration::from_secs(30).max(initial),
            jitter: 0.1,
        }
    }

    /// The longest wait this policy allows, also for a `retry_after` that comes with an error.
    pub fn longest(&self) -> Option<Duration> {
        match self {
            Self::None => None,
            Self::Fixed(wait) => Some(*wait),
            Self::Exponential { max, .. } => Some(*max),
        }
    }
}

/// What does the work of a step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Work<C> {
    /// An agent.
    Call(C),
    /// A part of the pipeline, run anew by each attempt; what a failed attempt wrote is dropped.
    Body(NodeId),
}

/// What it means that a validator rejects an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    /// The attempt has failed. The record of a step that fails so keeps the output.
    #[default]
    Fail,
    /// The attempt has failed, and nobody gets to see the output.
    Discard,
    /// The output passes on; the record says why it was rejected.
    PassOn,
}

/// A step: an agent with what goes before and after it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepNode<C> {
    /// Does the work.
    pub work: Work<C>,
    /// Prepare the input of each attempt.
    pub prompt_processors: Vec<C>,
    /// Work on the output.
    pub output_processors: Vec<C>,
    /// Accept, reject, replace or redirect; highest priority first.
    pub plugins: Vec<C>,
    /// Accept or reject; all of them are asked.
    pub validators: Vec<C>,
    /// What their rejection means.
    pub on_rejection: Rejection,
    /// Merges the output into the context.
    pub apply: Option<C>,
    /// Writes the feedback of a failed step into the context.
    pub persist: Option<C>,
    /// How often, how long and how patiently.
    pub policy: Policy,
    /// Runs with the original input when all attempts have failed.
    pub fallback: Option<NodeId>,
    /// What one attempt is expected to use.
    pub estimate: Usage,
    /// What the step may use, all its attempts together.
    pub limits: Option<UsageLimits>,
    /// How often its agent may be called, together with whatever else shares these limits.
    pub rates: Vec<RateLimit>,
    /// How its results are kept, of a step that is declared cacheable.
    pub cache: Option<Box<CachedStep<C>>>,
    /// Whether what it gives is an object that can't be saved.
    pub volatile: bool,
}

/// What is known of a step whose results are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CachedStep<C> {
    /// For how long, and what they depend on.
    pub policy: CachePolicy,
    /// What tells the step apart from others.
    pub identity: StepIdentity,
    /// Makes what stands for an input in keys, where inputs can't be hashed as they are.
    pub key: Option<C>,
    /// Saves and loads outputs that are objects, for stores beyond the process.
    #[serde(skip)]
    pub codec: Option<&'static TypeCodec>,
    /// What all keys of the step begin with: its identity, name and structure. Found out by `compile`.
    #[serde(skip, default = "unknown_base")]
    pub base: CacheKey,
}

fn unknown_base() -> CacheKey {
    CacheKey(0)
}

impl<C> CachedStep<C> {
    /// Results kept as `policy` says, of the step that `identity` names.
    pub fn new(policy: CachePolicy, identity: StepIdentity) -> Self {
        Self {
            policy,
            identity,
            key: None,
            codec: None,
            base: unknown_base(),
        }
    }
}

impl<C> StepNode<C> {
    /// A step that only runs its agent.
    pub fn new(agent: C) -> Self {
        Self::of(Work::Call(agent))
    }

    /// A step that only does this work.
    pub fn of(work: Work<C>) -> Self {
        Self {
            work,
            prompt_processors: Vec::new(),
            output_processors: Vec::new(),
            plugins: Vec::new(),
            validators: Vec::new(),
            on_rejection: Rejection::Fail,
            apply: None,
            persist: None,
            policy: Policy::default(),
            fallback: None,
            estimate: Usage::ZERO,
            limits: None,
            cache: None,
            volatile: false,
            rates: Vec::new(),
        }
    }

    /// Whether nothing but one call of the agent is done at an attempt that succeeds, without a limit of its own.
    fn is_plain(&self) -> bool {
        // Every field is named, so that a new one is thought of here.
        let Self {
            work,
            prompt_processors,
            output_processors,
            plugins,
            validators,
            on_rejection: _, // without validators nobody rejects
            apply,
            persist: _,
            policy,
            fallback: _,
            estimate: _,
            limits,
            cache,
            rates,
            volatile: _,
        } = self;
        let callables = [prompt_processors, output_processors, plugins, validators];
        matches!(work, Work::Call(_))
            && callables.iter().all(|callables| callables.is_empty())
            && apply.is_none()
            && policy.timeout.is_none()
            && limits.is_none()
            && cache.is_none()
            && rates.is_empty()
    }
}

/// One of several branches, chosen by a condition.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ConditionalNode<C> {
    /// Gives the key of the branch.
    pub condition: C,
    /// The branches by key, as text.
    pub branches: Vec<(Arc<str>, NodeId)>,
    /// Taken when no branch has the key.
    pub default: Option<NodeId>,
    /// Maps the input of the branch.
    pub input_mapper: Option<C>,
    /// Maps the output of the branch.
    pub output_mapper: Option<C>,
}

/// What the failure of one lane means for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneFailure {
    /// The others are cancelled and awaited, and the step fails.
    #[default]
    Propagate,
    /// The others go on; the step succeeds when at least one lane does.
    Ignore,
    /// The others go on; the step succeeds in any case.
    Tolerate,
}

/// All branches at once, isolated from one another.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ParallelNode<C> {
    /// The branches in declared order.
    pub branches: Vec<(Arc<str>, NodeId)>,
    /// Chooses which of them run; without one all do.
    pub router: Option<Router<C>>,
    /// What a failed branch means.
    pub on_failure: LaneFailure,
    /// How many run at the same time, at most.
    pub max_concurrency: Option<u32>,
    /// Merges the contexts of the branches; `None` leaves the context as it was.
    pub merge: Option<C>,
    /// Makes the output.
    pub collect: C,
}

/// Chooses branches.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Router<C> {
    /// Runs first, on the same input as the branches.
    pub body: NodeId,
    /// Tells from its output which branches run.
    pub select: C,
}

/// The same body for each item of a collection.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MapNode<C> {
    /// The body.
    pub body: NodeId,
    /// Gives the items.
    pub items: C,
    /// How many items are worked on at the same time, at least 1. With 1, an item sees what the items before it wrote.
    pub max_concurrency: u32,
    /// What a failed item means.
    pub on_failure: LaneFailure,
    /// Merges the contexts of items that ran at the same time.
    pub merge: Option<C>,
    /// Makes the output.
    pub collect: C,
}

/// A pipeline as one step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GroupNode<C> {
    /// The pipeline.
    pub body: NodeId,
    /// Makes the context it starts with, and its input when it gives one; `None` runs it in the context around it.
    pub inherit: Option<C>,
    /// Makes the output from the lane it ran in, and takes its context back; only with `inherit`.
    pub collect: Option<C>,
}

/// The same body again and again, each time fed with the output of the time before.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoopNode<C> {
    /// The body; it runs at least once.
    pub body: NodeId,
    /// Runs after the body, on its output; its own output is what the exit condition and the mapper of the next input
    /// see, while the loop's output stays the body's.
    pub judge: Option<NodeId>,
    /// Tells whether the loop has done.
    pub exit: C,
    /// Maps the input of the first iteration.
    pub first_input: Option<C>,
    /// Maps the output of an iteration to the input of the next one.
    pub next_input: Option<C>,
    /// Maps the output of the last iteration.
    pub output: Option<C>,
    /// How many iterations there are at most, at least 1. A loop that has not done by then fails.
    pub max_loops: u32,
    /// What a failed iteration means.
    pub on_failure: IterationFailure,
}

/// What the failure of one iteration means for the loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IterationFailure {
    /// The loop fails.
    #[default]
    Stop,
    /// What the iteration wrote is dropped, and the loop goes on with the last good output.
    Continue,
}

/// Pipelines that follow one another as transitions say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatesNode<C> {
    /// The states.
    pub states: Vec<State>,
    /// The place of the first one.
    pub start: u32,
    /// Tells which state follows, from how one ended.
    pub next: C,
}

/// A state of a state machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Its name.
    pub name: Arc<str>,
    /// What is done in it; an end state may do nothing.
    pub body: Option<NodeId>,
    /// Whether the machine ends with it.
    pub end: bool,
}

/// A question to somebody outside.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HumanNode<C> {
    /// Makes the question.
    pub question: C,
    /// Checks an answer and makes the output of it; without one the answer is the output.
    pub accept: Option<C>,
    /// How long an answer may take, in time of the world outside.
    pub timeout: Option<Duration>,
    /// Makes the answer when none came in time; without one the step fails.
    pub default: Option<C>,
}

/// A part of a pipeline with a way out when it fails. It leaves no record of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GuardNode<C> {
    /// What may fail.
    pub body: NodeId,
    /// Makes the input of the handler from the failure.
    pub describe: C,
    /// Runs when the body has failed, all its retries and fallbacks included; how it ends is how the whole ends.
    pub handler: NodeId,
}
