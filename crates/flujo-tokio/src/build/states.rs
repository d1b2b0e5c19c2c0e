//! A state machine under construction: pipelines that follow one another as transitions say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::machine::{Answer, Failure};
use flujo_core::plan::{State, StatesNode};
use flujo_core::value::Value;

use super::Pipeline;
use crate::domain::{Raised, Tokio};
use crate::{Decision, Handler};

/// The context field in which a state may name the one that is to follow.
const NEXT_STATE: &str = "next_state";

/// Runs the pipeline of a state, then that of the state that follows, until an end state has run. Each is given the
/// output of the one before; after a failed one, what that one had been given.
#[derive(Debug, Clone)]
pub struct StateMachine {
    name: Arc<str>,
    start: Arc<str>,
    states: Vec<(Arc<str>, Option<Pipeline>, bool)>,
    transitions: Vec<Transition>,
    deadline: Option<Duration>,
}

/// How a state ended.
#[derive(Debug, Clone, Copy)]
pub enum StateEnd<'a> {
    /// With this output.
    Success(&'a Value),
    /// It failed.
    Failure(&'a Failure<Tokio>),
}

/// After which end of a state a transition may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum After {
    /// When it succeeded.
    #[default]
    Success,
    /// When it failed.
    Failure,
}

type Condition = dyn Fn(&Decision<'_>, StateEnd<'_>) -> Result<bool, Raised> + Send + Sync;

/// A way from one state to another. The first one that fits is taken.
#[derive(Clone)]
pub struct Transition {
    from: Option<Arc<str>>,
    to: Arc<str>,
    after: After,
    when: Option<Arc<Condition>>,
    informed: bool,
}

impl Transition {
    /// From a state to another one, when the first has succeeded.
    pub fn new(from: impl Into<Arc<str>>, to: impl Into<Arc<str>>) -> Self {
        Self {
            from: Some(from.into()),
            ..Self::from_any(to)
        }
    }

    /// From any state that has succeeded.
    pub fn from_any(to: impl Into<Arc<str>>) -> Self {
        Self {
            from: None,
            to: to.into(),
            after: After::default(),
            when: None,
            informed: false,
        }
    }

    /// After which end it may be taken; [`After::Success`] without this.
    #[must_use]
    pub fn after(mut self, end: After) -> Self {
        self.after = end;
        self
    }

    /// Taken only when `condition` holds.
    #[must_use]
    pub fn when<F>(mut self, condition: F) -> Self
    where
        F: Fn(StateEnd<'_>, &Context) -> Result<bool, Raised> + Send + Sync + 'static,
    {
        self.when = Some(Arc::new(move |decision, end| condition(end, decision.context)));
        self
    }

    /// The same; `condition` is told the outputs of earlier steps.
    #[must_use]
    pub fn informed_when<F>(mut self, condition: F) -> Self
    where
        F: Fn(&Decision<'_>) -> Result<bool, Raised> + Send + Sync + 'static,
    {
        self.when = Some(Arc::new(move |decision, _| condition(decision)));
        self.informed = true;
        self
    }

    fn fits(&self, state: &str, end: StateEnd<'_>, decision: &Decision<'_>) -> Result<bool, Raised> {
        let after = match end {
            StateEnd::Success(_) => After::Success,
            StateEnd::Failure(_) => After::Failure,
        };
        if after != self.after || self.from.as_deref().is_some_and(|from| from != state) {
            return Ok(false);
        }
        self.when.as_ref().map_or(Ok(true), |when| when(decision, end))
    }
}

impl fmt::Debug for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = self.from.as_deref().unwrap_or("*");
        write!(f, "Transition({from} -> {} after {:?})", self.to, self.after)
    }
}

impl StateMachine {
    /// No states yet; it begins in the one named `start`.
    pub fn new(name: impl Into<Arc<str>>, start: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            start: start.into(),
            states: Vec::new(),
            transitions: Vec::new(),
            deadline: None,
        }
    }

    /// Adds a state.
    #[must_use]
    pub fn state(mut self, name: impl Into<Arc<str>>, body: impl Into<Pipeline>) -> Self {
        self.states.push((name.into(), Some(body.into()), false));
        self
    }

    /// Adds a state with which the machine ends, with nothing to do: its input is the machine's output.
    #[must_use]
    pub fn end(mut self, name: impl Into<Arc<str>>) -> Self {
        self.states.push((name.into(), None, true));
        self
    }

    /// Adds a state after whose pipeline the machine ends.
    #[must_use]
    pub fn end_with(mut self, name: impl Into<Arc<str>>, body: impl Into<Pipeline>) -> Self {
        self.states.push((name.into(), Some(body.into()), true));
        self
    }

    /// Adds a transition. Where none fits, the state follows that the context's field `next_state` names (it is set to
    /// null then); where that names none either, a failed state fails the machine, and so does one that leads nowhere.
    #[must_use]
    pub fn transition(mut self, transition: Transition) -> Self {
        self.transitions.push(transition);
        self
    }

    /// The longest time the whole may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// What follows the state at a place, from how it ended.
fn next(names: Vec<Arc<str>>, transitions: Vec<Transition>) -> Handler {
    let informed = transitions.iter().any(|transition| transition.informed);
    let decide = move |decision: Decision<'_>| {
        let Some((state, end)) = decision.state() else {
            return Ok(Answer::Done);
        };
        let state = names.get(state as usize).map_or("", |name| &**name);
        let mut chosen = None;
        for transition in &transitions {
            if transition.fits(state, end, &decision)? {
                chosen = Some(Arc::clone(&transition.to));
                break;
            }
        }
        if chosen.is_none()
            && let Some(Value::Str(name)) = decision.context.get(NEXT_STATE)
        {
            chosen = Some(Arc::clone(name));
            decision.context.set(NEXT_STATE, Value::Null);
        }
        let Some(key) = chosen else {
            return Ok(Answer::Done);
        };
        let place = names.iter().position(|name| *name == key);
        let branch = place.and_then(|place| u32::try_from(place).ok());
        Ok(Answer::Branch { key, branch })
    };
    if informed {
        Handler::informed(decide)
    } else {
        Handler::inline(decide)
    }
}

impl From<StateMachine> for Pipeline {
    fn from(machine: StateMachine) -> Self {
        let names: Vec<_> = machine.states.iter().map(|(name, ..)| Arc::clone(name)).collect();
        let start = names.iter().position(|name| *name == machine.start);
        let mut nodes = None;
        let states = machine.states.into_iter().map(|(name, body, end)| State {
            name,
            body: body.map(|body| body.place_in(&mut nodes)),
            end,
        });
        let node = StatesNode {
            states: states.collect(),
            // `compile` refuses a place that is none.
            start: start
                .and_then(|place| u32::try_from(place).ok())
                .unwrap_or(u32::MAX),
            next: next(names, machine.transitions),
        };
        let mut nodes = nodes.unwrap_or_default();
        let id = nodes.states(machine.name, node);
        Pipeline::of(nodes, id, machine.deadline)
    }
}
