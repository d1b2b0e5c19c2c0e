//! One of several branches, typed.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use flujo_tokio::Conditional;

use crate::payload::look;
use crate::pipeline::{FeedsInto, Pipeline, Stage};
use crate::{Context, Payload, Unify};

/// Runs the branch whose key a condition gives for the input.
#[must_use = "a branch does nothing until its pipeline runs"]
pub struct Branch<I, O, C = ()> {
    untyped: Conditional,
    types: PhantomData<fn(I, C) -> O>,
}

/// A conditional under a name; `choose` gives the key of the branch to take. Add branches with
/// [`case`](Branch::case) and [`otherwise`](Branch::otherwise); the first one sets the output's type.
///
/// ```
/// use flujo::{BoxError, Flujo, branch, step};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// let long = step("shorten", |t: String| async move { Ok::<_, BoxError>(t[..5].to_owned()) });
/// let short = step("keep", |t: String| async move { Ok::<_, BoxError>(t) });
/// let p = branch("by length", |t: &String| if t.len() > 5 { "long" } else { "short" })
///     .case("long", long)
///     .case("short", short);
/// assert_eq!(Flujo::new(p).run("a long text".into()).await?.output, "a lon");
/// # Ok(()) }
/// ```
pub fn branch<I, O, K, F>(name: impl Into<Arc<str>>, choose: F) -> Branch<I, O, ()>
where
    I: Payload,
    O: Payload,
    K: Into<String>,
    F: Fn(&I) -> K + Send + Sync + 'static,
{
    Branch::of(Conditional::new(name, move |input, _| {
        Ok(choose(look::<I>(input)?).into())
    }))
}

impl<I: Payload, O: Payload, C: Context> Branch<I, O, C> {
    fn of(untyped: Conditional) -> Self {
        Self {
            untyped,
            types: PhantomData,
        }
    }

    /// The branch for a key.
    pub fn case<S>(self, key: impl Into<Arc<str>>, body: S) -> Branch<I, O, <C as Unify<S::Context>>::Output>
    where
        S: Stage<Out = O>,
        I: FeedsInto<S::In>,
        C: Unify<S::Context>,
    {
        Branch::of(self.untyped.branch(key, body.into_pipeline().into_untyped()))
    }

    /// The branch for all other keys; without it another key fails the step.
    pub fn otherwise<S>(self, body: S) -> Branch<I, O, <C as Unify<S::Context>>::Output>
    where
        S: Stage<Out = O>,
        I: FeedsInto<S::In>,
        C: Unify<S::Context>,
    {
        Branch::of(self.untyped.otherwise(body.into_pipeline().into_untyped()))
    }

    /// The longest time the whole may take.
    pub fn deadline(self, deadline: Duration) -> Self {
        Self::of(self.untyped.deadline(deadline))
    }
}

impl<I: Payload, O: Payload, C: Context> Stage for Branch<I, O, C> {
    type In = I;
    type Out = O;
    type Context = C;

    fn into_pipeline(self) -> Pipeline<I, O, C> {
        Pipeline::typed(self.untyped.into(), None)
    }
}
