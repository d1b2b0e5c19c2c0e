//! A state machine, typed: stages that follow one another as transitions say.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::Context as Fields;
use flujo_tokio::{After, StateEnd, StateMachine as Untyped, Transition};

use crate::pipeline::{Pipeline, Stage};
use crate::read::Read;
use crate::{Context, Payload, Unify};

/// Runs the stage of a state, then that of the state that follows, until an end state has run. Each is given the output
/// of the one before; after a failed one, what that one had been given.
#[must_use = "a state machine does nothing until its pipeline runs"]
pub struct StateMachine<T, C = ()> {
    untyped: Untyped,
    types: PhantomData<fn(T, C) -> T>,
}

/// A state machine that begins in the state named `start`. All its states take and give a `T`.
///
/// ```
/// use flujo::{BoxError, Flujo, state_machine, step};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// let p = state_machine("grow", "grow")
///     .state("grow", step("double", |n: u32| async move { Ok::<_, BoxError>(n * 2) }))
///     .end("done")
///     .transition_when("grow", "done", |n: &u32| *n > 50)
///     .transition("grow", "grow");
/// assert_eq!(Flujo::new(p).run(3).await?.output, 96);
/// # Ok(()) }
/// ```
pub fn state_machine<T: Payload>(
    name: impl Into<Arc<str>>,
    start: impl Into<Arc<str>>,
) -> StateMachine<T, ()> {
    StateMachine::of(Untyped::new(name, start))
}

impl<T: Payload, C: Context> StateMachine<T, C> {
    fn of(untyped: Untyped) -> Self {
        Self {
            untyped,
            types: PhantomData,
        }
    }

    /// Adds a state.
    pub fn state<S>(
        self,
        name: impl Into<Arc<str>>,
        body: S,
    ) -> StateMachine<T, <C as Unify<S::Context>>::Output>
    where
        S: Stage<In = T, Out = T>,
        C: Unify<S::Context>,
    {
        StateMachine::of(self.untyped.state(name, body.into_pipeline().into_untyped()))
    }

    /// Adds a state with which the machine ends, with nothing to do: its input is the machine's output.
    pub fn end(self, name: impl Into<Arc<str>>) -> Self {
        Self::of(self.untyped.end(name))
    }

    /// Adds a state after whose stage the machine ends.
    pub fn end_with<S>(
        self,
        name: impl Into<Arc<str>>,
        body: S,
    ) -> StateMachine<T, <C as Unify<S::Context>>::Output>
    where
        S: Stage<In = T, Out = T>,
        C: Unify<S::Context>,
    {
        StateMachine::of(self.untyped.end_with(name, body.into_pipeline().into_untyped()))
    }

    /// Goes from a state that has succeeded to another one. Of several transitions the first that fits is taken.
    pub fn transition(self, from: impl Into<Arc<str>>, to: impl Into<Arc<str>>) -> Self {
        Self::of(self.untyped.transition(Transition::new(from, to)))
    }

    /// The same when `condition` holds for the state's output.
    pub fn transition_when<A, F>(
        self,
        from: impl Into<Arc<str>>,
        to: impl Into<Arc<str>>,
        condition: F,
    ) -> StateMachine<T, <C as Unify<F::Context>>::Output>
    where
        F: Read<A, In = T, Out = bool>,
        C: Unify<F::Context>,
    {
        let when = move |end: StateEnd<'_>, context: &Fields| match end {
            StateEnd::Success(output) => condition.read(output, context),
            StateEnd::Failure(_) => Ok(false),
        };
        StateMachine::of(self.untyped.transition(Transition::new(from, to).when(when)))
    }

    /// Goes from a state that has failed to another one, which is given what the failed one had been given.
    pub fn transition_on_failure(self, from: impl Into<Arc<str>>, to: impl Into<Arc<str>>) -> Self {
        let transition = Transition::new(from, to).after(After::Failure);
        Self::of(self.untyped.transition(transition))
    }

    /// The longest time the whole may take.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self::of(self.untyped.deadline(deadline))
    }
}

impl<T: Payload, C: Context> Stage for StateMachine<T, C> {
    type In = T;
    type Out = T;
    type Context = C;

    fn into_pipeline(self) -> Pipeline<T, T, C> {
        Pipeline::typed(self.untyped.into(), None)
    }
}
