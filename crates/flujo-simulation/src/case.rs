//! Everything a run depends on, as plain data that another host can read too.

mod build;

use std::collections::BTreeMap;

use flujo_core::config::Twin;
use flujo_core::machine::Options;
use flujo_core::pipeline::{CompileError, Pipeline};
use flujo_core::plan::{Backoff, IterationFailure, LaneFailure, Plan, Policy, Rejection};
use flujo_core::rate::RateLimit;
use flujo_core::usage::{Usage, UsageLimits};
use serde::{Deserialize, Serialize};

use crate::{Callable, Context, Object, Script};

/// One run: what is run, on what, under which limits, in which order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    /// The pipeline.
    pub pipeline: Spec,
    /// Its input.
    pub input: Object,
    /// The context it starts with.
    pub context: Context,
    /// Whether hooks are told.
    pub hooks: bool,
    /// What the hooks do; all points share one script.
    pub hook: Script,
    /// The most the run may use.
    pub limits: UsageLimits,
    /// How often agents may be called.
    #[serde(default)]
    pub rates: Vec<RateLimit>,
    /// How often the agents may be called that plugins ask for, by their identity.
    #[serde(default)]
    pub agent_rates: BTreeMap<u64, RateLimit>,
    /// The deadline of the whole run, in nanoseconds from its beginning.
    pub deadline: Option<u64>,
    /// In which order things happen.
    pub schedule: Schedule,
}

/// In which order things happen that may happen in any order, and what comes from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Which of the events that are due at the same time comes first, and which machine is polled first.
    pub seed: u64,
    /// Whether the seed says so of events.
    #[serde(default)]
    pub ties: Ties,
    /// The run is cancelled after this many commands.
    pub cancel_after: Option<u32>,
    /// The run is cancelled at this time, in virtual nanoseconds from its beginning.
    #[serde(default)]
    pub cancel_at: Option<u64>,
    /// The run is cancelled when this many questions have been asked, each counted as often as it was.
    #[serde(default)]
    pub cancel_asked: Option<u32>,
    /// Whether look-ups in the cache take time, and sometimes find nothing or what nobody made, as the seed says.
    #[serde(default)]
    pub faulty_cache: bool,
    /// The run is saved, dropped and restored after each of these numbers of commands.
    pub save_after: Vec<u32>,
    /// When the host asks its clock.
    #[serde(default)]
    pub clock: Clock,
}

/// Which of the events that are due at the same time comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ties {
    /// The one that the seed draws.
    #[default]
    Drawn,
    /// One of the lane that something happened to last, as on a host that drives each lane as far as it comes by itself;
    /// else the one that has been due for longest.
    LaneGoesOn,
}

/// When a host asks its clock, and whether it is told of everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Clock {
    /// Always; it listens to notices.
    #[default]
    Heard,
    /// Always; it doesn't.
    Asked,
    /// Where the machine says that the time shows; it doesn't listen to notices.
    AskedWhereItShows,
}

/// A pipeline or a part of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spec {
    /// One part after the other.
    Sequence(Vec<Spec>),
    /// A step.
    Step(Box<StepSpec>),
    /// One of several branches.
    Conditional(Box<ConditionalSpec>),
    /// All branches at once.
    Parallel(Box<ParallelSpec>),
    /// The same body for each item.
    Map(Box<MapSpec>),
    /// A pipeline as one step.
    Group(Box<GroupSpec>),
    /// The same body again and again.
    Loop(Box<LoopSpec>),
    /// Pipelines that follow one another as transitions say.
    States(Box<StatesSpec>),
    /// A question to somebody outside.
    Human(Box<HumanSpec>),
    /// A part with a way out when it fails.
    Guard(Box<GuardSpec>),
}

/// A step.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StepSpec {
    /// Its name.
    pub name: String,
    /// Its agent.
    pub agent: Script,
    /// Does the work in place of the agent.
    pub body: Option<Box<Spec>>,
    /// Prompt processors.
    pub prompt: Vec<Script>,
    /// Output processors.
    pub output: Vec<Script>,
    /// Plugins.
    pub plugins: Vec<Script>,
    /// Validators.
    pub validators: Vec<Script>,
    /// Writes the output into the context.
    pub apply: Option<Script>,
    /// Writes the feedback of a failure into the context.
    pub persist: Option<Script>,
    /// Retries, time limit and backoff.
    pub policy: Policy,
    /// The deadline in nanoseconds.
    pub deadline: Option<u64>,
    /// The fallback.
    pub fallback: Option<Box<Spec>>,
    /// What a call of the agent is expected to use.
    pub estimate: Usage,
    /// What the step may use, all its attempts together.
    pub limits: Option<UsageLimits>,
    /// How often its agent may be called.
    pub rates: Vec<RateLimit>,
    /// What it means that a validator rejects.
    pub on_rejection: Rejection,
    /// Whether its results are kept, and by what.
    pub cached: Option<CachedBy>,
}

/// What a result of a cached step depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CachedBy {
    /// On the step and its input.
    Input,
    /// On nothing at all: all such steps make the same result. Not for steps that hold such steps, which would wait for
    /// themselves.
    Nothing,
}

/// One of several branches.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConditionalSpec {
    /// Its name.
    pub name: String,
    /// Chooses.
    pub condition: Script,
    /// The branches.
    pub branches: Vec<(String, Spec)>,
    /// Taken when none is chosen.
    pub default: Option<Spec>,
    /// Maps the branch's input.
    pub input_mapper: Option<Script>,
    /// Maps the branch's output.
    pub output_mapper: Option<Script>,
    /// The deadline in nanoseconds.
    pub deadline: Option<u64>,
}

/// All branches at once.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ParallelSpec {
    /// Its name.
    pub name: String,
    /// The branches.
    pub branches: Vec<(String, Spec)>,
    /// Runs first; the script tells from its output which branches run.
    pub router: Option<(Spec, Script)>,
    /// What a failed branch means.
    pub on_failure: LaneFailure,
    /// How many run at once.
    pub max_concurrency: Option<u32>,
    /// Merges their contexts.
    pub merge: Option<Script>,
    /// Makes the output.
    pub collect: Script,
    /// The deadline in nanoseconds.
    pub deadline: Option<u64>,
}

/// The same body for each item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MapSpec {
    /// Its name.
    pub name: String,
    /// The body.
    pub body: Spec,
    /// Gives the items.
    pub items: Script,
    /// How many items at once.
    pub max_concurrency: u32,
    /// What a failed item means.
    pub on_failure: LaneFailure,
    /// Merges the contexts of items.
    pub merge: Option<Script>,
    /// Makes the output.
    pub collect: Script,
    /// The deadline in nanoseconds.
    pub deadline: Option<u64>,
}

/// A pipeline as one step.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GroupSpec {
    /// Its name.
    pub name: String,
    /// The pipeline.
    pub body: Spec,
    /// Makes its context; without one it runs in the context around it.
    pub inherit: Option<Script>,
    /// Takes its output and context back.
    pub collect: Option<Script>,
    /// The deadline in nanoseconds.
    pub deadline: Option<u64>,
}

/// The same body again and again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoopSpec {
    /// Its name.
    pub name: String,
    /// The body.
    pub body: Spec,
    /// Runs on the body's output.
    pub judge: Option<Spec>,
    /// Tells whether the loop has done.
    pub exit: Script,
    /// Maps the first input.
    pub first_input: Option<Script>,
    /// Maps an output to the next input.
    pub next_input: Option<Script>,
    /// Maps the loop's output.
    pub output: Option<Script>,
    /// How many iterations at most.
    pub max_loops: u32,
    /// What a failed iteration means.
    pub on_failure: IterationFailure,
    /// The deadline in nanoseconds.
    pub deadline: Option<u64>,
}

/// Pipelines that follow one another as transitions say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StatesSpec {
    /// Its name.
    pub name: String,
    /// The states; those without a part are ends, and so is the last one.
    pub states: Vec<(String, Option<Spec>)>,
    /// Tells which state follows.
    pub next: Script,
    /// The deadline in nanoseconds.
    pub deadline: Option<u64>,
}

/// A question to somebody outside.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HumanSpec {
    /// Its name.
    pub name: String,
    /// Makes the question; its act says who answers what.
    pub question: Script,
    /// Checks the answer.
    pub accept: Option<Script>,
    /// Makes the answer when none comes.
    pub default: Option<Script>,
    /// The deadline in nanoseconds.
    pub deadline: Option<u64>,
}

/// A part with a way out when it fails.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GuardSpec {
    /// The part.
    pub body: Spec,
    /// Makes the handler's input.
    pub describe: Script,
    /// Runs when the part has failed.
    pub handler: Spec,
}

impl Case {
    /// A run of `pipeline` on `input` without limits, hooks or surprises.
    pub fn new(pipeline: impl Into<Spec>, input: impl Into<Object>) -> Self {
        Self {
            pipeline: pipeline.into(),
            input: input.into(),
            context: Context::default(),
            hooks: false,
            hook: Script::default(),
            limits: UsageLimits::default(),
            rates: Vec::new(),
            agent_rates: BTreeMap::new(),
            deadline: None,
            schedule: Schedule::default(),
        }
    }

    /// What its host wants to be asked and told.
    pub(crate) fn options(&self) -> Options {
        Options {
            hooks: self.hooks,
            limits: !self.limits.is_unlimited(),
            rates: !self.rates.is_empty(),
            notices: self.schedule.clock == Clock::Heard,
            seed: self.schedule.seed,
            tell_from: None,
        }
    }

    /// Which twin keeps the budget and the results; it makes no difference.
    pub(crate) fn twin(&self) -> Twin {
        [Twin::Plain, Twin::Optimized][usize::from(self.schedule.seed.is_multiple_of(2))]
    }

    /// The plan.
    ///
    /// # Errors
    /// What the compiler says of the pipeline.
    pub fn plan(&self) -> Result<Plan<Callable>, CompileError> {
        let mut pipeline = Pipeline::new();
        let root = self.pipeline.add_to(&mut pipeline);
        pipeline.compile("case", root)
    }
}

impl Spec {
    /// The part's name; empty for a sequence.
    pub fn name(&self) -> &str {
        match self {
            Self::Sequence(_) | Self::Guard(_) => "",
            Self::Step(step) => &step.name,
            Self::Conditional(node) => &node.name,
            Self::Parallel(node) => &node.name,
            Self::Map(node) => &node.name,
            Self::Group(node) => &node.name,
            Self::Loop(node) => &node.name,
            Self::States(node) => &node.name,
            Self::Human(node) => &node.name,
        }
    }

    /// The parts directly below this one.
    pub fn children_mut(&mut self) -> Vec<&mut Spec> {
        match self {
            Self::Sequence(parts) => parts.iter_mut().collect(),
            Self::Step(step) => {
                let below = step.body.iter_mut().chain(&mut step.fallback);
                below.map(|part| &mut **part).collect()
            }
            Self::Conditional(node) => {
                let branches = node.branches.iter_mut().map(|(_, branch)| branch);
                branches.chain(&mut node.default).collect()
            }
            Self::Parallel(node) => {
                let router = node.router.iter_mut().map(|(router, _)| router);
                router
                    .chain(node.branches.iter_mut().map(|(_, branch)| branch))
                    .collect()
            }
            Self::Map(node) => vec![&mut node.body],
            Self::Group(node) => vec![&mut node.body],
            Self::Loop(node) => std::iter::once(&mut node.body).chain(&mut node.judge).collect(),
            Self::States(node) => {
                let bodies = node.states.iter_mut().map(|(_, body)| body.as_mut());
                bodies.flatten().collect()
            }
            Self::Human(_) => Vec::new(),
            Self::Guard(node) => vec![&mut node.body, &mut node.handler],
        }
    }

    /// Shows every part to `visit`, this one first.
    pub fn visit_mut(&mut self, visit: &mut impl FnMut(&mut Spec)) {
        let mut waiting = vec![self];
        while let Some(spec) = waiting.pop() {
            visit(spec);
            waiting.extend(spec.children_mut());
        }
    }
}

/// A policy of this many retries without waits or time limits.
pub(crate) fn retries(max_retries: u32) -> Policy {
    Policy {
        max_retries,
        timeout: None,
        backoff: Backoff::None,
    }
}
