//! Constructs of stories.

use flujo_core::plan::{IterationFailure, LaneFailure};

use super::MILLISECOND;
use crate::case::{
    ConditionalSpec, GroupSpec, GuardSpec, HumanSpec, LoopSpec, MapSpec, ParallelSpec, StatesSpec,
};
use crate::{Act, Does, Object, Reply, Script, Spec};

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
