//! Cases written by hand, so that a test reads like a story:
//!
//! ```
//! use flujo_simulation::story::{step, story};
//!
//! story([step("draft").adds(1).fails(2).retries(3), step("review")])
//!     .run(1)
//!     .completed(2)
//!     .calls("draft", 3)
//!     .calls("review", 1);
//! ```
//!
//! Times are in virtual milliseconds.
#![allow(clippy::missing_panics_doc)] // an expectation that does not hold fails its test
#![allow(clippy::return_self_not_must_use)] // a story ends with its last expectation

mod told;

use std::time::Duration;

pub use told::Told;

use flujo_core::plan::{Backoff, IterationFailure, LaneFailure, Rejection};
use flujo_core::usage::{Cost, UsageLimits};

use crate::case::{
    ConditionalSpec, GroupSpec, GuardSpec, HumanSpec, LoopSpec, MapSpec, ParallelSpec, StatesSpec, StepSpec,
    retries,
};
use crate::{Act, Case, Context, Does, Object, OnCancel, Reply, Script, Simulation, Spec, Write};

const MILLISECOND: u64 = 1_000_000;

/// A step under construction. What is said of the call holds for every attempt, unless said otherwise.
#[derive(Debug, Clone)]
pub struct Step {
    spec: StepSpec,
    act: Act,
    fails: usize,
    permanent: bool,
    retry_after: Option<u64>,
}

/// A step that gives its input, at once, without retries.
pub fn step(name: &str) -> Step {
    Step {
        spec: StepSpec {
            name: name.to_owned(),
            policy: retries(0),
            ..StepSpec::default()
        },
        act: Act::default(),
        fails: 0,
        permanent: false,
        retry_after: None,
    }
}

impl Step {
    /// Gives this value.
    pub fn returns(mut self, value: impl Into<Object>) -> Self {
        self.act.does = Does::Return(value.into());
        self
    }

    /// Gives its input plus this number.
    pub fn adds(mut self, number: i64) -> Self {
        self.act.does = Does::Add(number);
        self
    }

    /// What comes of the call.
    pub fn does(mut self, does: Does) -> Self {
        self.act.does = does;
        self
    }

    /// The first `times` calls raise an error.
    pub fn fails(mut self, times: usize) -> Self {
        self.fails = times;
        self
    }

    /// Every call raises an error.
    pub fn always_fails(self) -> Self {
        self.fails(usize::MAX)
    }

    /// The error must not be retried.
    pub fn permanently(mut self) -> Self {
        self.permanent = true;
        self
    }

    /// The error asks for a wait.
    pub fn asks_to_wait(mut self, milliseconds: u64) -> Self {
        self.retry_after = Some(milliseconds * MILLISECOND);
        self
    }

    /// A call takes this long.
    pub fn takes(mut self, milliseconds: u64) -> Self {
        self.act.takes = milliseconds * MILLISECOND;
        self
    }

    /// Nothing can end a call early.
    pub fn inline(mut self) -> Self {
        self.act.inline = true;
        self
    }

    /// What a call does when it is told to end early.
    pub fn on_cancel(mut self, on_cancel: OnCancel) -> Self {
        self.act.on_cancel = on_cancel;
        self
    }

    /// A call writes this, also one that fails.
    pub fn writes(mut self, field: &str, value: impl Into<Object>) -> Self {
        self.act.writes.push((field.to_owned(), Write::Set(value.into())));
        self
    }

    /// A call appends this to a list.
    pub fn appends(mut self, field: &str, value: impl Into<Object>) -> Self {
        self.act
            .writes
            .push((field.to_owned(), Write::Append(value.into())));
        self
    }

    /// A call uses this many tokens, also one that fails.
    pub fn uses(mut self, tokens: u64) -> Self {
        self.act.usage.tokens = tokens;
        self
    }

    /// A call is expected to use this many tokens.
    pub fn expects(mut self, tokens: u64) -> Self {
        self.spec.estimate.tokens = tokens;
        self
    }

    /// Nobody has said what a call costs.
    pub fn unpriced(mut self) -> Self {
        self.spec.estimate.unpriced = true;
        self.uses_unpriced()
    }

    /// A call turns out to have no price.
    pub fn uses_unpriced(mut self) -> Self {
        self.act.usage.unpriced = true;
        self
    }

    /// The step itself may cost at most nothing.
    pub fn own_cost_limit(mut self) -> Self {
        self.spec.limits = Some(UsageLimits {
            cost: Some(Cost::ZERO),
            ..UsageLimits::default()
        });
        self
    }

    /// The step itself may use at most this many tokens.
    pub fn own_token_limit(mut self, tokens: u64) -> Self {
        self.spec.limits = Some(UsageLimits {
            tokens: Some(tokens),
            ..UsageLimits::default()
        });
        self
    }

    /// What it means that a validator rejects.
    pub fn on_rejection(mut self, rejection: Rejection) -> Self {
        self.spec.on_rejection = rejection;
        self
    }

    /// Retries after the first attempt.
    pub fn retries(mut self, times: u32) -> Self {
        self.spec.policy.max_retries = times;
        self
    }

    /// The time limit of one attempt.
    pub fn timeout(mut self, milliseconds: u64) -> Self {
        self.spec.policy.timeout = Some(Duration::from_millis(milliseconds));
        self
    }

    /// The wait between attempts.
    pub fn backoff(mut self, milliseconds: u64) -> Self {
        self.spec.policy.backoff = Backoff::Fixed(Duration::from_millis(milliseconds));
        self
    }

    /// The deadline of the whole step.
    pub fn deadline(mut self, milliseconds: u64) -> Self {
        self.spec.deadline = Some(milliseconds * MILLISECOND);
        self
    }

    /// A prompt processor.
    pub fn prompt(mut self, script: impl Into<Script>) -> Self {
        self.spec.prompt.push(script.into());
        self
    }

    /// An output processor.
    pub fn output(mut self, script: impl Into<Script>) -> Self {
        self.spec.output.push(script.into());
        self
    }

    /// A plugin.
    pub fn plugin(mut self, script: impl Into<Script>) -> Self {
        self.spec.plugins.push(script.into());
        self
    }

    /// A validator.
    pub fn validator(mut self, script: impl Into<Script>) -> Self {
        self.spec.validators.push(script.into());
        self
    }

    /// Writes the output into the field of the step's name.
    pub fn applies(mut self) -> Self {
        self.spec.apply = Some(Script::default());
        self
    }

    /// Writes the output as the script says.
    pub fn applies_with(mut self, script: impl Into<Script>) -> Self {
        self.spec.apply = Some(script.into());
        self
    }

    /// Writes the feedback of a failure into `<name>.feedback`.
    pub fn persists(mut self) -> Self {
        self.spec.persist = Some(Script::default());
        self
    }

    /// This does the work in place of the agent.
    pub fn body(mut self, body: impl Into<Spec>) -> Self {
        self.spec.body = Some(Box::new(body.into()));
        self
    }

    /// Runs when all attempts have failed.
    pub fn fallback(mut self, fallback: impl Into<Spec>) -> Self {
        self.spec.fallback = Some(Box::new(fallback.into()));
        self
    }
}

impl From<Step> for Spec {
    fn from(step: Step) -> Self {
        let mut spec = step.spec;
        let failing = Act {
            does: Does::Fail {
                permanent: step.permanent,
                retry_after: step.retry_after,
            },
            ..step.act.clone()
        };
        spec.agent.acts = if step.fails == usize::MAX {
            vec![failing]
        } else {
            let mut acts = vec![failing; step.fails];
            acts.push(step.act);
            acts
        };
        Self::Step(Box::new(spec))
    }
}

impl<T: Into<Spec>, const N: usize> From<[T; N]> for Spec {
    fn from(parts: [T; N]) -> Self {
        Self::Sequence(parts.into_iter().map(Into::into).collect())
    }
}

impl<T: Into<Spec>> From<Vec<T>> for Spec {
    fn from(parts: Vec<T>) -> Self {
        Self::Sequence(parts.into_iter().map(Into::into).collect())
    }
}

/// A part of a sequence, where parts of different kinds stand together.
pub fn part(part: impl Into<Spec>) -> Spec {
    part.into()
}

/// Scripts whose acts differ from call to call.
pub fn calls<const N: usize>(acts: [Does; N]) -> Script {
    Script {
        acts: acts
            .into_iter()
            .map(|does| Act {
                does,
                ..Act::default()
            })
            .collect(),
    }
}

/// An error that may be retried.
pub fn fail() -> Does {
    Does::Fail {
        permanent: false,
        retry_after: None,
    }
}

macro_rules! construct {
    ($(#[$doc:meta])* $name:ident, $spec:ident, $kind:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(pub $spec);

        impl From<$name> for Spec {
            fn from(built: $name) -> Self {
                Self::$kind(Box::new(built.0))
            }
        }

        impl $name {
            /// The deadline of the whole construct.
            pub fn deadline(mut self, milliseconds: u64) -> Self {
                self.0.deadline = Some(milliseconds * MILLISECOND);
                self
            }
        }
    };
}

construct!(
    /// A conditional under construction.
    Conditional, ConditionalSpec, Conditional
);
construct!(
    /// A parallel step under construction.
    Parallel, ParallelSpec, Parallel
);
construct!(
    /// A map under construction.
    Map, MapSpec, Map
);
construct!(
    /// A loop under construction.
    Loop, LoopSpec, Loop
);
construct!(
    /// A state machine under construction.
    States, StatesSpec, States
);
construct!(
    /// A question under construction.
    Human, HumanSpec, Human
);
construct!(
    /// A group under construction.
    Group, GroupSpec, Group
);

/// A conditional that takes its first branch.
pub fn conditional<const N: usize>(name: &str, branches: [(&str, Spec); N]) -> Conditional {
    let branches = branches
        .into_iter()
        .map(|(key, spec)| (key.to_owned(), spec))
        .collect();
    Conditional(ConditionalSpec {
        name: name.to_owned(),
        branches,
        ..ConditionalSpec::default()
    })
}

impl Conditional {
    /// The condition gives this key.
    pub fn chooses(mut self, key: &str) -> Self {
        self.0.condition = Script::from(Does::Choose(key.to_owned()));
        self
    }

    /// What the condition does.
    pub fn condition(mut self, script: impl Into<Script>) -> Self {
        self.0.condition = script.into();
        self
    }

    /// The branch for other keys.
    pub fn default(mut self, spec: impl Into<Spec>) -> Self {
        self.0.default = Some(spec.into());
        self
    }

    /// Maps the branch's input.
    pub fn maps_input(mut self, script: impl Into<Script>) -> Self {
        self.0.input_mapper = Some(script.into());
        self
    }

    /// Maps the branch's output.
    pub fn maps_output(mut self, script: impl Into<Script>) -> Self {
        self.0.output_mapper = Some(script.into());
        self
    }
}

/// A parallel step whose branches' contexts are merged.
pub fn parallel<const N: usize>(name: &str, branches: [(&str, Spec); N]) -> Parallel {
    let branches = branches
        .into_iter()
        .map(|(key, spec)| (key.to_owned(), spec))
        .collect();
    let merge = Some(Script::default());
    Parallel(ParallelSpec {
        name: name.to_owned(),
        branches,
        merge,
        ..ParallelSpec::default()
    })
}

impl Parallel {
    /// Failed branches leave the others alone.
    pub fn ignores_failures(mut self) -> Self {
        self.0.on_failure = LaneFailure::Ignore;
        self
    }

    /// How many branches run at once.
    pub fn at_once(mut self, branches: u32) -> Self {
        self.0.max_concurrency = Some(branches);
        self
    }

    /// The branches' contexts are dropped.
    pub fn without_merge(mut self) -> Self {
        self.0.merge = None;
        self
    }

    /// This runs first, and its output names the branches that run.
    pub fn routed_by(mut self, router: impl Into<Spec>) -> Self {
        self.0.router = Some((router.into(), Script::default()));
        self
    }

    /// How the outputs are collected.
    pub fn collects(mut self, script: impl Into<Script>) -> Self {
        self.0.collect = script.into();
        self
    }
}

/// A map over the items of its input, one at a time.
pub fn map(name: &str, body: impl Into<Spec>) -> Map {
    Map(MapSpec {
        name: name.to_owned(),
        body: body.into(),
        items: Script::default(),
        max_concurrency: 1,
        on_failure: LaneFailure::Propagate,
        merge: Some(Script::default()),
        collect: Script::default(),
        deadline: None,
    })
}

impl Map {
    /// How many items at once.
    pub fn at_once(mut self, items: u32) -> Self {
        self.0.max_concurrency = items;
        self
    }

    /// Where the items come from.
    pub fn items(mut self, script: impl Into<Script>) -> Self {
        self.0.items = script.into();
        self
    }

    /// Failed items give null.
    pub fn tolerates_failures(mut self) -> Self {
        self.0.on_failure = LaneFailure::Tolerate;
        self
    }

    /// Failed items are left out, as long as one succeeds.
    pub fn ignores_failures(mut self) -> Self {
        self.0.on_failure = LaneFailure::Ignore;
        self
    }
}

/// A pipeline as one step, in the context around it.
pub fn group(name: &str, body: impl Into<Spec>) -> Group {
    Group(GroupSpec {
        name: name.to_owned(),
        body: body.into(),
        inherit: None,
        collect: None,
        deadline: None,
    })
}

impl Group {
    /// It runs in a copy of the context, which is taken back at its end.
    pub fn isolated(mut self) -> Self {
        self.0.inherit = Some(Script::default());
        self.0.collect = Some(Script::default());
        self
    }

    /// It runs in a context made by this script; nothing of it is taken back.
    pub fn inherits(mut self, script: impl Into<Script>) -> Self {
        self.0.inherit = Some(script.into());
        self
    }
}

/// A loop that ends after its first iteration.
pub fn repeat(name: &str, body: impl Into<Spec>) -> Loop {
    Loop(LoopSpec {
        name: name.to_owned(),
        body: body.into(),
        judge: None,
        exit: Script::default(),
        first_input: None,
        next_input: None,
        output: None,
        max_loops: 5,
        on_failure: IterationFailure::Stop,
        deadline: None,
    })
}

impl Loop {
    /// It has done when this says so.
    pub fn exits(mut self, script: impl Into<Script>) -> Self {
        self.0.exit = script.into();
        self
    }

    /// It makes at most this many iterations.
    pub fn at_most(mut self, iterations: u32) -> Self {
        self.0.max_loops = iterations;
        self
    }

    /// Failed iterations are passed over.
    pub fn goes_on(mut self) -> Self {
        self.0.on_failure = IterationFailure::Continue;
        self
    }

    /// Runs on the body's output before the exit condition.
    pub fn judged_by(mut self, judge: impl Into<Spec>) -> Self {
        self.0.judge = Some(judge.into());
        self
    }

    /// Maps the first input.
    pub fn maps_first(mut self, script: impl Into<Script>) -> Self {
        self.0.first_input = Some(script.into());
        self
    }

    /// Maps an output to the next input.
    pub fn maps_next(mut self, script: impl Into<Script>) -> Self {
        self.0.next_input = Some(script.into());
        self
    }

    /// Maps the output.
    pub fn maps_output(mut self, script: impl Into<Script>) -> Self {
        self.0.output = Some(script.into());
        self
    }
}

/// A state machine that goes through its states in order.
pub fn states<const N: usize>(name: &str, states: [(&str, Option<Spec>); N]) -> States {
    States(StatesSpec {
        name: name.to_owned(),
        states: states
            .into_iter()
            .map(|(name, body)| (name.to_owned(), body))
            .collect(),
        next: Script::default(),
        deadline: None,
    })
}

impl States {
    /// Tells which state follows.
    pub fn goes(mut self, script: impl Into<Script>) -> Self {
        self.0.next = script.into();
        self
    }
}

/// A question that is answered with 1 at once.
pub fn human(name: &str) -> Human {
    Human(HumanSpec {
        name: name.to_owned(),
        ..HumanSpec::default()
    })
}

impl Human {
    /// Somebody answers with this after a while; of several, one each time it is asked.
    pub fn answered(self, milliseconds: u64, answer: impl Into<Object>) -> Self {
        self.replied(milliseconds, Some(answer.into()))
    }

    /// Nobody answers in time.
    pub fn unanswered(self, milliseconds: u64) -> Self {
        self.replied(milliseconds, None)
    }

    fn replied(mut self, milliseconds: u64, answer: Option<Object>) -> Self {
        if self.0.question.acts.is_empty() {
            self.0.question.acts.push(Act::default());
        }
        let after = milliseconds * MILLISECOND;
        self.0.question.acts[0].replies.push(Reply { after, answer });
        self
    }

    /// Checks answers.
    pub fn accepts(mut self, script: impl Into<Script>) -> Self {
        self.0.accept = Some(script.into());
        self
    }

    /// Answers when nobody did.
    pub fn default(mut self, script: impl Into<Script>) -> Self {
        self.0.default = Some(script.into());
        self
    }
}

/// A part with a handler for its failure, which is given the name of the step that failed.
pub fn guarded(body: impl Into<Spec>, handler: impl Into<Spec>) -> Spec {
    Spec::Guard(Box::new(GuardSpec {
        body: body.into(),
        describe: Script::default(),
        handler: handler.into(),
    }))
}

/// A case to be run.
#[derive(Debug, Clone)]
pub struct Story(pub Case);

/// The story of a pipeline.
pub fn story(pipeline: impl Into<Spec>) -> Story {
    Story(Case::new(pipeline, Object::Null))
}

impl Story {
    /// The interleaving's seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.schedule.seed = seed;
        self
    }

    /// The context it starts with.
    pub fn context<const N: usize>(mut self, fields: [(&str, Object); N]) -> Self {
        self.0.context = Context::from(fields);
        self
    }

    /// Hooks are told, and do this.
    pub fn hooks(mut self, script: impl Into<Script>) -> Self {
        self.0.hooks = true;
        self.0.hook = script.into();
        self
    }

    /// At most this many tokens.
    pub fn token_limit(mut self, tokens: u64) -> Self {
        self.0.limits = UsageLimits {
            tokens: Some(tokens),
            ..UsageLimits::default()
        };
        self
    }

    /// The run may cost at most nothing.
    pub fn cost_limit(mut self) -> Self {
        self.0.limits = UsageLimits {
            cost: Some(Cost::ZERO),
            ..UsageLimits::default()
        };
        self
    }

    /// The deadline of the run.
    pub fn deadline(mut self, milliseconds: u64) -> Self {
        self.0.deadline = Some(milliseconds * MILLISECOND);
        self
    }

    /// Cancelled after this many commands.
    pub fn cancel_after(mut self, commands: u32) -> Self {
        self.0.schedule.cancel_after = Some(commands);
        self
    }

    /// Saved and restored after each of these numbers of commands.
    pub fn save_after(mut self, commands: impl IntoIterator<Item = u32>) -> Self {
        self.0.schedule.save_after = commands.into_iter().collect();
        self
    }

    /// Runs it.
    #[track_caller]
    pub fn run(mut self, input: impl Into<Object>) -> Told {
        self.0.input = input.into();
        let plan = self.0.plan();
        let ran = Simulation::new(&self.0).and_then(Simulation::run);
        match (plan, ran) {
            (Ok(plan), Ok(ran)) => Told { plan, ran },
            (plan, ran) => unreachable!("the story does not end: {:?} {:?}", plan.err(), ran.err()),
        }
    }
}
