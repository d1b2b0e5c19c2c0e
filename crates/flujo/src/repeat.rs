//! A stage that runs again and again, typed: until a condition holds, or until a critic is content.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::value::Value;
use flujo_tokio::{IterationFailure, Loop as Untyped, Raised};

use crate::payload::{look, wrap};
use crate::pipeline::{Pipeline, Stage};
use crate::read::Read;
use crate::{Context, Payload, Unify};

type Map = Arc<dyn Fn(&Value) -> Result<Value, Raised> + Send + Sync>;
/// Gives what the loop began with.
type Start<'a> = &'a dyn Fn() -> Result<Value, Raised>;
type Next = Arc<dyn Fn(Start<'_>, &Value, u32) -> Result<Value, Raised> + Send + Sync>;

/// Runs a stage, then asks whether that was enough, and begins again if not.
#[must_use = "a loop does nothing until its pipeline runs"]
pub struct Loop<I, O, C = ()> {
    untyped: Untyped,
    /// From the loop's input to what it begins with.
    start: Map,
    /// From there to the first input of the body.
    first: Map,
    next: Option<Next>,
    output: Map,
    types: PhantomData<fn(I, C) -> O>,
}

/// The context of a generator and its critic.
type Both<G, T> = <<G as Stage>::Context as Unify<<T as Stage>::Context>>::Output;

/// A refinement whose condition has a context of its own.
type Refine<I, G, T, C> = Loop<I, <G as Stage>::Out, <Both<G, T> as Unify<C>>::Output>;

/// What the generator of a refinement works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refinement<I, K> {
    /// What the refinement was given.
    pub input: I,
    /// What the critic said of the last attempt; nothing at first.
    pub feedback: Option<K>,
}

/// Runs `generator`, then `critic` on what it made, until `complete` holds for what the critic said; at most 5 times,
/// unless [`max_loops`](Loop::max_loops) says otherwise. The output is what was made last.
///
/// ```
/// use flujo::{BoxError, Flujo, Refinement, refine_until, step};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// let write = step("write", |draft: Refinement<String, usize>| async move {
///     Ok::<_, BoxError>(match draft.feedback {
///         Some(too_long) => draft.input[..draft.input.len() - too_long].to_owned(),
///         None => draft.input,
///     })
/// });
/// let measure = step("measure", |text: String| async move { Ok::<_, BoxError>(text.len().saturating_sub(8)) });
/// let p = refine_until("shorten", write, measure, |too_long: &usize| *too_long == 0);
/// assert_eq!(Flujo::new(p).run("a long text".into()).await?.output, "a long t");
/// # Ok(()) }
/// ```
pub fn refine_until<I, K, G, T, A, F>(
    name: impl Into<Arc<str>>,
    generator: G,
    critic: T,
    complete: F,
) -> Refine<I, G, T, <F as Read<A>>::Context>
where
    I: Payload,
    K: Payload,
    G: Stage<In = Refinement<I, K>>,
    T: Stage<In = G::Out, Out = K>,
    F: Read<A, In = K, Out = bool>,
    G::Context: Unify<T::Context>,
    Both<G, T>: Unify<F::Context>,
{
    let body = generator.into_pipeline().into_untyped();
    let untyped = Untyped::until(name, body, move |verdict, context| {
        complete.read(verdict, context)
    })
    .judge(critic.into_pipeline().into_untyped());
    let attempt = |input: &Value, feedback: Option<K>| {
        let input = look::<I>(input)?.clone();
        Ok(wrap(Refinement { input, feedback }, None))
    };
    Loop {
        first: Arc::new(move |input| attempt(input, None)),
        next: Some(Arc::new(move |start, verdict, _| {
            attempt(&start()?, Some(look::<K>(verdict)?.clone()))
        })),
        ..Loop::of(untyped)
    }
}

fn same() -> Map {
    Arc::new(|value| Ok(value.clone()))
}

impl<I: Payload, O: Payload, C: Context> Loop<I, O, C> {
    pub(crate) fn until<D: Context, A, F>(name: Arc<str>, body: Pipeline<I, O, D>, exit: F) -> Self
    where
        F: Read<A, In = O, Out = bool>,
    {
        let exit = move |output: &Value, context: &_| exit.read(output, context);
        Self::of(Untyped::until(name, body.into_untyped(), exit))
    }

    fn of(untyped: Untyped) -> Self {
        Self {
            untyped,
            start: same(),
            first: same(),
            next: None,
            output: same(),
            types: PhantomData,
        }
    }

    /// Makes the next iteration's input.
    pub(crate) fn next_input(mut self, next: impl Fn(&O, u32) -> I + Send + Sync + 'static) -> Self {
        self.next = Some(Arc::new(move |_, output, index| {
            Ok(wrap(next(look(output)?, index), None))
        }));
        self
    }

    fn with(mut self, configure: impl FnOnce(Untyped) -> Untyped) -> Self {
        self.untyped = configure(self.untyped);
        self
    }

    fn typed<J, P>(self) -> Loop<J, P, C> {
        Loop {
            untyped: self.untyped,
            start: self.start,
            first: self.first,
            next: self.next,
            output: self.output,
            types: PhantomData,
        }
    }

    /// How many iterations there are at most, at least 1; 5 without this. A loop that hasn't done by then fails, and its
    /// record keeps the last output.
    pub fn max_loops(self, iterations: u32) -> Self {
        self.with(|repeat| repeat.max_loops(iterations))
    }

    /// Goes on with the last good output when an iteration fails; without this the loop fails with it.
    pub fn continue_on_failure(self) -> Self {
        self.with(|repeat| repeat.on_body_failure(IterationFailure::Continue))
    }

    /// Makes what the loop begins with from another input.
    pub fn first_input<J: Payload>(mut self, map: impl Fn(&J) -> I + Send + Sync + 'static) -> Loop<J, O, C> {
        let then = self.start;
        self.start = Arc::new(move |value| then(&wrap(map(look(value)?), None)));
        self.typed()
    }

    /// Makes the loop's output from the last iteration's.
    pub fn output<P: Payload>(mut self, map: impl Fn(&O) -> P + Send + Sync + 'static) -> Loop<I, P, C> {
        let first = self.output;
        self.output = Arc::new(move |value| Ok(wrap(map(look(&first(value)?)?), None)));
        self.typed()
    }

    /// The longest time the whole may take.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|repeat| repeat.deadline(deadline))
    }
}

impl<I: Payload, O: Payload, C: Context> Stage for Loop<I, O, C> {
    type In = I;
    type Out = O;
    type Context = C;

    fn into_pipeline(self) -> Pipeline<I, O, C> {
        let (start, first, output) = (self.start, self.first, self.output);
        let begin = Arc::clone(&start);
        let mut untyped = self
            .untyped
            .first_input(move |input, _| first(&begin(input.value)?))
            .output(move |last, _| output(last.value));
        if let Some(next) = self.next {
            untyped = untyped.next_input(move |iteration, _| {
                next(&|| start(iteration.start), iteration.value, iteration.index)
            });
        }
        Pipeline::typed(untyped.into(), None)
    }
}
