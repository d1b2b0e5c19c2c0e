//! Typed pipelines and how they are put together.

use std::marker::PhantomData;
use std::ops::Shr;
use std::sync::Arc;

use flujo_core::config::OptimizationConfig;
use flujo_core::context::Context as Fields;
use flujo_core::value::{TypeCodec, Value};
use flujo_tokio::{Pipeline as Untyped, Raised};

use crate::agentic::AgenticLoop;
use crate::branch::Branch;
use crate::human::{Human, Question};
use crate::map::MapOver;
use crate::parallel::Parallel;
use crate::read::Read;
use crate::repeat::Loop;
use crate::route::{StepFailure, on_failure};
use crate::states::StateMachine;
use crate::{Context, Payload, Step, Unify};

/// Steps one after the other, from `I` to `O`, in a context `C` (`()`: none). Put together with `>>`.
#[must_use = "a pipeline does nothing until it runs"]
pub struct Pipeline<I, O, C = ()> {
    untyped: Untyped,
    input_codec: Option<&'static TypeCodec>,
    types: PhantomData<fn(I, C) -> O>,
}

/// Anything that can stand in a pipeline: a step, a construct, a pipeline.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't stand in a pipeline",
    label = "not a step, a construct or a pipeline",
    note = "make a step of a function with `step(\"name\", function)`"
)]
pub trait Stage {
    /// What it takes.
    type In: Payload;
    /// What it gives.
    type Out: Payload;
    /// The context it needs.
    type Context: Context;

    /// It as a pipeline.
    fn into_pipeline(self) -> Pipeline<Self::In, Self::Out, Self::Context>;
}

/// The output of one stage is the input of the next: both must be the same type.
#[diagnostic::on_unimplemented(
    message = "the step on the left gives `{Self}`, but the step on the right takes `{Next}`",
    label = "takes `{Next}`, but gets `{Self}`",
    note = "put a step from `{Self}` to `{Next}` in between, or change the type of one of them"
)]
pub trait FeedsInto<Next> {}

impl<T> FeedsInto<T> for T {}

/// Feeds no stage: there is no such value. With one implementation only, the compiler would infer the type on the right
/// from the one on the left and speak of bounds; a second one lets it say what the trait says.
pub struct Nothing<T>(PhantomData<T>, std::convert::Infallible);

impl<T> FeedsInto<Nothing<T>> for T {}

impl<I: Payload, O: Payload, C: Context> Pipeline<I, O, C> {
    pub(crate) fn typed(untyped: Untyped, input_codec: Option<&'static TypeCodec>) -> Self {
        Self {
            untyped,
            input_codec,
            types: PhantomData,
        }
    }

    /// The pipeline without types.
    pub fn into_untyped(self) -> Untyped {
        self.untyped
    }

    pub(crate) fn into_parts(self) -> (Untyped, Option<&'static TypeCodec>) {
        (self.untyped, self.input_codec)
    }
}

impl Pipeline<Value, Value, Value> {
    /// A pipeline that was built without types.
    pub fn from_untyped(untyped: impl Into<Untyped>) -> Self {
        Self::typed(untyped.into(), None)
    }
}

impl<I: Payload, O: Payload, C: Context> Stage for Pipeline<I, O, C> {
    type In = I;
    type Out = O;
    type Context = C;

    fn into_pipeline(self) -> Self {
        self
    }
}

/// The context of one stage followed by another.
type Whole<L, R> = <<L as Stage>::Context as Unify<<R as Stage>::Context>>::Output;

/// `left`, then `right`.
fn chain<L, R>(left: L, right: R) -> Pipeline<L::In, R::Out, Whole<L, R>>
where
    L: Stage,
    R: Stage,
    L::Context: Unify<R::Context>,
{
    let (untyped, input_codec) = left.into_pipeline().into_parts();
    let right = right.into_pipeline().into_untyped();
    Pipeline::typed(untyped.then(right), input_codec)
}

fn invariant<D: Context>(
    name: Arc<str>,
    holds: impl Fn(&D) -> bool + Send + Sync + 'static,
) -> impl Fn(&Value, &Fields) -> Result<(), Raised> + Send + Sync + 'static {
    move |_, fields| match D::load(fields) {
        Ok(context) if holds(&context) => Ok(()),
        Ok(_) => Err(format!("the invariant `{name}` doesn't hold").into()),
        Err(error) => Err(format!("the invariant `{name}` can't be checked: {error}").into()),
    }
}

macro_rules! composable {
    ($($stage:ident<$($parameter:ident),*>),*) => {$(
        impl<$($parameter,)* R, Next> Shr<R> for $stage<$($parameter),*>
        where
            Self: Stage,
            R: Stage<In = Next>, // named, so that the compiler speaks of the two types and not of this bound
            <Self as Stage>::Out: FeedsInto<Next>,
            <Self as Stage>::Context: Unify<R::Context>,
        {
            type Output = Pipeline<<Self as Stage>::In, R::Out, Whole<Self, R>>;

            fn shr(self, right: R) -> Self::Output {
                chain(self, right)
            }
        }

        impl<$($parameter),*> $stage<$($parameter),*>
        where
            Self: Stage,
        {
            /// Runs the whole for each item of a `Vec`, at most `max_concurrency` items at the same time (at least 1).
            /// One at a time, an item sees what the items before it wrote into the context.
            pub fn map_over(
                self,
                max_concurrency: u32,
            ) -> MapOver<<Self as Stage>::In, <Self as Stage>::Out, <Self as Stage>::Context> {
                MapOver::new(self.into_pipeline(), max_concurrency)
            }

            /// The whole as one step of that name, in the context around it.
            pub fn as_step(
                self,
                name: impl Into<Arc<str>>,
            ) -> Pipeline<<Self as Stage>::In, <Self as Stage>::Out, <Self as Stage>::Context> {
                let (untyped, input_codec) = self.into_pipeline().into_parts();
                Pipeline::typed(untyped.as_step(name), input_codec)
            }

            /// Runs the whole again and again, each time on its last output, until `exit` holds for an output (and the
            /// context, when `exit` takes one); at least once, at most 5 times unless
            /// [`max_loops`](Loop::max_loops) says otherwise.
            pub fn loop_until<A, F>(
                self,
                name: impl Into<Arc<str>>,
                exit: F,
            ) -> Loop<
                <Self as Stage>::In,
                <Self as Stage>::Out,
                <<Self as Stage>::Context as Unify<F::Context>>::Output,
            >
            where
                <Self as Stage>::Out: FeedsInto<<Self as Stage>::In>,
                F: Read<A, In = <Self as Stage>::Out, Out = bool>,
                <Self as Stage>::Context: Unify<F::Context>,
            {
                Loop::until(name.into(), self.into_pipeline(), exit)
            }

            /// The same for a stage that doesn't take what it gives: `next` makes the next input from the last output and
            /// the number of iterations so far: 1, 2, 3, ….
            pub fn loop_with<A, F, N>(
                self,
                name: impl Into<Arc<str>>,
                next: N,
                exit: F,
            ) -> Loop<
                <Self as Stage>::In,
                <Self as Stage>::Out,
                <<Self as Stage>::Context as Unify<F::Context>>::Output,
            >
            where
                N: Fn(&<Self as Stage>::Out, u32) -> <Self as Stage>::In + Send + Sync + 'static,
                F: Read<A, In = <Self as Stage>::Out, Out = bool>,
                <Self as Stage>::Context: Unify<F::Context>,
            {
                Loop::until(name.into(), self.into_pipeline(), exit).next_input(next)
            }

            /// Requires of each step and construct at the top of the stage that it leaves the context as `holds` says. Where
            /// it doesn't, the step fails, naming the invariant, and what it wrote is dropped.
            pub fn invariant<D: Context>(
                self,
                name: impl Into<Arc<str>>,
                holds: impl Fn(&D) -> bool + Send + Sync + 'static,
            ) -> Pipeline<
                <Self as Stage>::In,
                <Self as Stage>::Out,
                <<Self as Stage>::Context as Unify<D>>::Output,
            >
            where
                <Self as Stage>::Context: Unify<D>,
            {
                let (untyped, input_codec) = self.into_pipeline().into_parts();
                Pipeline::typed(untyped.invariant(invariant(name.into(), holds)), input_codec)
            }

            /// The whole with a config of its own: which optimised parts it uses, and the thresholds its steps are watched
            /// by. The config of a step in it wins over it, and it over the runner's. Results are the same.
            pub fn optimization(
                self,
                config: OptimizationConfig,
            ) -> Pipeline<<Self as Stage>::In, <Self as Stage>::Out, <Self as Stage>::Context> {
                let (untyped, input_codec) = self.into_pipeline().into_parts();
                Pipeline::typed(untyped.optimization(config), input_codec)
            }

            /// Runs `handler` when the whole has failed, retries and fallbacks included; how the handler ends is how the
            /// two end.
            pub fn on_failure<R>(
                self,
                handler: R,
            ) -> Pipeline<<Self as Stage>::In, <Self as Stage>::Out, Whole<Self, R>>
            where
                R: Stage<In = StepFailure<<Self as Stage>::In>, Out = <Self as Stage>::Out>,
                <Self as Stage>::Context: Unify<R::Context>,
            {
                let untyped = on_failure(self.into_pipeline(), handler.into_pipeline());
                Pipeline::typed(untyped, None)
            }
        }
    )*};
}

composable!(
    Step<I, O, C>,
    Pipeline<I, O, C>,
    MapOver<I, O, C>,
    Parallel<I, O, C>,
    Branch<I, O, C>,
    Loop<I, O, C>,
    StateMachine<I, C>,
    Human<I, O, C>,
    Question<I, C>,
    AgenticLoop<I, O, C>
);
