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

use std::time::Duration;

use flujo_core::machine::{
    Failure, FailureKind, Finish, HookPoint, LaneRecord, LimitKind, NoticeKind, Outcome, Record, Role,
    Status, Stop,
};
use flujo_core::plan::{Backoff, LaneFailure, Plan};
use flujo_core::usage::{Usage, UsageLimits};

use crate::case::{ConditionalSpec, GroupSpec, MapSpec, ParallelSpec, StepSpec, retries};
use crate::{
    Act, Callable, Case, Context, Does, Object, OnCancel, Ran, Script, Simulated, Simulation, Spec, Write,
};

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

/// A story that has been run. Its methods say what must be true of it.
pub struct Told {
    plan: Plan<Callable>,
    /// What was seen.
    pub ran: Ran,
}

impl Told {
    /// The finish.
    pub fn finish(&self) -> &Finish<Simulated> {
        &self.ran.finish
    }

    /// It completed with this output.
    #[track_caller]
    pub fn completed(self, output: impl Into<Object>) -> Self {
        let output = output.into();
        let outcome = &self.ran.finish.outcome;
        assert!(
            matches!(outcome, Outcome::Completed(given) if *given == output),
            "{output} expected: {outcome:?}"
        );
        self.tidy()
    }

    /// It failed in this stage.
    #[track_caller]
    pub fn failed(self, kind: FailureKind) -> Self {
        let outcome = &self.ran.finish.outcome;
        assert!(
            matches!(outcome, Outcome::Failed(failure) if failure.kind == kind),
            "{kind:?} expected: {outcome:?}"
        );
        self.tidy()
    }

    /// The failure of the run, whatever its stage.
    #[track_caller]
    pub fn failure(&self) -> &Failure<Simulated> {
        match &self.ran.finish.outcome {
            Outcome::Failed(failure) | Outcome::Stopped(Stop::Fatal(failure)) => failure,
            outcome => unreachable!("a failure expected: {outcome:?}"),
        }
    }

    /// The failure's text holds this.
    #[track_caller]
    pub fn saying(self, text: &str) -> Self {
        let said = self.failure().to_string();
        assert!(said.contains(text), "{text:?} expected: {said}");
        self
    }

    /// It was cancelled.
    #[track_caller]
    pub fn cancelled(self) -> Self {
        let outcome = &self.ran.finish.outcome;
        assert!(
            matches!(outcome, Outcome::Stopped(Stop::Cancelled)),
            "cancelled expected: {outcome:?}"
        );
        self.tidy()
    }

    /// It was aborted.
    #[track_caller]
    pub fn aborted(self) -> Self {
        let outcome = &self.ran.finish.outcome;
        assert!(
            matches!(outcome, Outcome::Stopped(Stop::Aborted(_))),
            "aborted expected: {outcome:?}"
        );
        self.tidy()
    }

    /// Its pipeline cannot work.
    #[track_caller]
    pub fn fatal(self) -> Self {
        let outcome = &self.ran.finish.outcome;
        assert!(
            matches!(outcome, Outcome::Stopped(Stop::Fatal(_))),
            "fatal expected: {outcome:?}"
        );
        self.tidy()
    }

    /// A token limit was reached, before a call or by one.
    #[track_caller]
    pub fn limit_exceeded(self, refused: bool) -> Self {
        let outcome = &self.ran.finish.outcome;
        assert!(
            matches!(outcome, Outcome::Stopped(Stop::LimitExceeded(breach))
                if breach.which == LimitKind::Tokens && breach.refused == refused),
            "a limit expected: {outcome:?}"
        );
        self.tidy()
    }

    /// Nothing was left under way, and the books are balanced: holds for every run.
    #[track_caller]
    fn tidy(self) -> Self {
        let broken = crate::invariant::broken(&self.plan, &self.ran);
        assert!(broken.is_empty(), "{}", broken.join("\n"));
        self
    }

    /// How often agents of steps of this name were called, in all lanes together.
    #[track_caller]
    pub fn calls(self, step: &str, times: usize) -> Self {
        self.calls_of(step, Role::Agent, times)
    }

    /// How often a callable of this role was called.
    #[track_caller]
    pub fn calls_of(self, node: &str, role: Role, times: usize) -> Self {
        let named = |node| &*self.plan.node(node).name;
        let made = self
            .ran
            .trace
            .calls
            .iter()
            .filter(|call| named(call.node) == node && call.role == role)
            .count();
        assert_eq!(made, times, "calls of {node} as {role:?}");
        self
    }

    /// The run used this many tokens.
    #[track_caller]
    pub fn used(self, tokens: u64) -> Self {
        assert_eq!(
            self.ran.finish.usage,
            Usage {
                tokens,
                ..Usage::ZERO
            },
            "usage of the run"
        );
        self
    }

    /// It ended at this time.
    #[track_caller]
    pub fn ended_at(self, milliseconds: u64) -> Self {
        assert_eq!(self.ran.ended, milliseconds * MILLISECOND, "end of the run");
        self
    }

    /// The final context has this value; null for a field that is not there.
    #[track_caller]
    pub fn context(self, field: &str, value: impl Into<Object>) -> Self {
        let found = self.ran.finish.context.get(field).cloned().unwrap_or_default();
        assert_eq!(found, value.into(), "field {field} of the final context");
        self
    }

    /// The first record of a step of this name, wherever it is.
    #[track_caller]
    pub fn record(&self, name: &str) -> &Record<Simulated> {
        let mut histories = vec![&self.ran.finish.history];
        while let Some(history) = histories.pop() {
            for record in &history.records {
                if &*self.plan.node(record.node).name == name {
                    return record;
                }
                histories.extend(
                    record
                        .lanes()
                        .iter()
                        .filter_map(|lane| Some(&lane.finish.as_ref()?.history)),
                );
            }
        }
        unreachable!("no record of {name}")
    }

    /// The record's status.
    #[track_caller]
    pub fn status(self, name: &str, status: Status) -> Self {
        assert_eq!(self.record(name).status, status, "status of {name}");
        self
    }

    /// The record's attempts.
    #[track_caller]
    pub fn attempts(self, name: &str, attempts: u32) -> Self {
        assert_eq!(self.record(name).attempts, attempts, "attempts of {name}");
        self
    }

    /// The names of the steps that have a record, in order, lanes left aside.
    #[track_caller]
    pub fn history<const N: usize>(self, names: [&str; N]) -> Self {
        let found: Vec<&str> = self
            .ran
            .finish
            .history
            .records
            .iter()
            .map(|record| &*self.plan.node(record.node).name)
            .collect();
        assert_eq!(found, names, "history");
        self
    }

    /// How the lanes of a construct ended: a letter each, `c`ompleted, `f`ailed, `s`topped, `-` for never started.
    #[track_caller]
    pub fn lanes(self, name: &str, letters: &str) -> Self {
        let letter = |lane: &LaneRecord<Simulated>| match lane.finish.as_ref().map(|finish| &finish.outcome) {
            Some(Outcome::Completed(_)) => 'c',
            Some(Outcome::Failed(_)) => 'f',
            Some(Outcome::Stopped(_)) => 's',
            None => '-',
        };
        let found: String = self.record(name).lanes().iter().map(letter).collect();
        assert_eq!(found, letters, "lanes of {name}");
        self
    }

    /// The notices about steps of this name, in order.
    #[track_caller]
    pub fn notices<const N: usize>(self, name: &str, kinds: [&str; N]) -> Self {
        let notices = self
            .ran
            .trace
            .notices
            .iter()
            .filter(|told| &*self.plan.node(told.notice.node).name == name);
        let found: Vec<&str> = notices.map(|told| label(&told.notice.kind)).collect();
        assert_eq!(found, kinds, "notices about {name}");
        self
    }

    /// The hook calls, in order, with the node each is about.
    #[track_caller]
    pub fn hooked<const N: usize>(self, points: [(HookPoint, &str); N]) -> Self {
        let calls = self.ran.trace.calls.iter();
        let found: Vec<(HookPoint, &str)> = calls
            .filter_map(|call| match call.role {
                Role::Hook(point) => Some((point, &*self.plan.node(call.node).name)),
                _ => None,
            })
            .collect();
        assert_eq!(found, points, "hooks");
        self
    }
}

fn label(kind: &NoticeKind<Simulated>) -> &'static str {
    match kind {
        NoticeKind::StepStarted => "started",
        NoticeKind::AttemptStarted => "attempt",
        NoticeKind::AttemptFailed(_) => "attempt failed",
        NoticeKind::FallbackStarted => "fallback",
        NoticeKind::StepFinished => "finished",
        NoticeKind::StepFailed(_) => "failed",
        NoticeKind::StepStopped => "stopped",
    }
}
