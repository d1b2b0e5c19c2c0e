//! One typed step and its configuration.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::cache::CachePolicy;
use flujo_core::plan::Backoff;
use flujo_core::rate::RateLimit;
use flujo_core::usage::{Usage, UsageLimits};
use flujo_core::value::{TypeCodec, Value, to_value};
use flujo_tokio::{Handler as Erased, Raised, Step as Untyped};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::durable::codec;
use crate::payload::{is_plain, look, wrap};
use crate::pipeline::{FeedsInto, Pipeline, Stage};
use crate::{Context, Handler, Payload, Unify};

type Configure = Box<dyn FnOnce(Untyped) -> Untyped + Send>;
type Work = Box<dyn FnOnce(Arc<str>, Option<&'static TypeCodec>) -> Untyped + Send>;

/// A step from `I` to `O` in a context `C` (`()`: none).
#[must_use = "a step does nothing until its pipeline runs"]
pub struct Step<I, O, C = ()> {
    name: Arc<str>,
    work: Work,
    configure: Vec<Configure>,
    codecs: Option<(&'static TypeCodec, &'static TypeCodec)>,
    types: PhantomData<fn(I, C) -> O>,
}

/// A step that does `work` under a name. See [`Handler`] for what `work` may be.
pub fn step<A, H: Handler<A>>(name: impl Into<Arc<str>>, work: H) -> Step<H::In, H::Out, H::Context> {
    Step::of(
        name.into(),
        Box::new(move |name, codec| Untyped::new(name, work.erase(codec))),
    )
}

/// A step that takes outputs by name out of those of a [`parallel`](crate::parallel) step, in this order.
///
/// ```
/// use flujo::{BoxError, Flujo, gather, parallel, step};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// let plus = |n: u32| step("plus", move |i: u32| async move { Ok::<_, BoxError>(i + n) });
/// let p = parallel("split", [("a", plus(1)), ("b", plus(2)), ("c", plus(3))]) >> gather("pick", ["c", "a"]);
/// assert_eq!(Flujo::new(p).run(10).await?.output, [13, 11]);
/// # Ok(()) }
/// ```
pub fn gather<O: Payload, N: Into<Arc<str>>>(
    name: impl Into<Arc<str>>,
    outputs: impl IntoIterator<Item = N>,
) -> Step<Vec<(String, O)>, Vec<O>> {
    let names: Vec<Arc<str>> = outputs.into_iter().map(Into::into).collect();
    let gather = Erased::processor(move |outputs, _| {
        Ok(wrap(take(look::<Vec<(String, O)>>(outputs)?, &names)?, None))
    });
    Step::of(
        name.into(),
        Box::new(move |name, _| Untyped::new(name, gather).retries(0)),
    )
}

fn take<O: Payload>(outputs: &[(String, O)], names: &[Arc<str>]) -> Result<Vec<O>, Raised> {
    let one = |name: &Arc<str>| {
        if let Some((_, output)) = outputs.iter().find(|(known, _)| **known == **name) {
            return Ok(output.clone());
        }
        let known: Vec<String> = outputs.iter().map(|(known, _)| format!("`{known}`")).collect();
        let known = known.join(", ");
        Err(format!("there is no output named `{name}` to gather; there are {known}").into())
    };
    names.iter().map(one).collect()
}

impl<I: Payload, O: Payload, C: Context> Step<I, O, C> {
    /// A step whose work a whole stage does: each attempt runs it anew, and what a failed attempt wrote is dropped. There
    /// is one attempt unless [`retries`](Self::retries) says otherwise. Around one construct of the same name it gives
    /// that construct retries, validators, a timeout and a fallback.
    ///
    /// ```
    /// use std::time::Duration;
    /// use flujo::{BoxError, Flujo, Step, step};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let each = step("double", |n: u32| async move { Ok::<_, BoxError>(n * 2) }).map_over(4).named("each");
    /// let p = Step::body("each", each).retries(2).timeout(Duration::from_secs(5)).validate(|numbers: &Vec<u32>| {
    ///     if numbers.is_empty() { Err("nothing to do".into()) } else { Ok(()) }
    /// });
    /// assert_eq!(Flujo::new(p).run(vec![1, 2]).await?.output, [2, 4]);
    /// # Ok(()) }
    /// ```
    pub fn body(name: impl Into<Arc<str>>, stage: impl Stage<In = I, Out = O, Context = C>) -> Self {
        let body = stage.into_pipeline().into_untyped();
        Self::of(name.into(), Box::new(move |name, _| Untyped::body(name, body)))
    }

    pub(crate) fn of(name: Arc<str>, work: Work) -> Self {
        Self {
            name,
            work,
            configure: Vec::new(),
            codecs: None,
            types: PhantomData,
        }
    }

    fn with(mut self, configure: impl FnOnce(Untyped) -> Untyped + Send + 'static) -> Self {
        self.configure.push(Box::new(configure));
        self
    }

    /// Retries after the first attempt; 1 without this, 0 is exactly one attempt.
    pub fn retries(self, retries: u32) -> Self {
        self.with(move |step| step.retries(retries))
    }

    /// How long to wait between attempts; not at all without this.
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.with(move |step| step.backoff(backoff))
    }

    /// The longest time one attempt may take. Its future is dropped then.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(move |step| step.timeout(timeout))
    }

    /// The longest time the step may take with its retries, waits and fallback.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(move |step| step.deadline(deadline))
    }

    /// What one attempt is expected to use; reserved before the attempt when usage is limited.
    pub fn estimate(self, estimate: Usage) -> Self {
        self.with(move |step| step.estimate(estimate))
    }

    /// The most that all attempts at the step together may use; passing it stops the run.
    pub fn usage_limits(self, limits: UsageLimits) -> Self {
        self.with(move |step| step.usage_limits(limits))
    }

    /// How often it may be called, together with whatever else has the limit's name. A call waits for its turn, which counts
    /// against deadlines, not against [`timeout`](Self::timeout).
    pub fn rate_limit(self, limit: RateLimit) -> Self {
        self.with(move |step| step.rate_limit(limit))
    }

    /// Accepts the output, or rejects the attempt with a reason. All validators are asked.
    pub fn validate<V>(self, validate: V) -> Self
    where
        V: Fn(&O) -> Result<(), String> + Send + Sync + 'static,
    {
        let validator = Erased::inline(move |decision| {
            Ok(match validate(look::<O>(decision.value())?) {
                Ok(()) => flujo_core::machine::Answer::Done,
                Err(feedback) => flujo_core::machine::Answer::Rejected {
                    feedback: feedback.into(),
                },
            })
        });
        self.with(move |step| step.validator(validator))
    }

    /// Prepares the input of each attempt. A failing one fails the step without a retry.
    pub fn input_processor<A, H>(self, process: H) -> Step<I, O, <C as Unify<H::Context>>::Output>
    where
        H: Handler<A, In = I, Out = I>,
        C: Unify<H::Context>,
    {
        let process = process.erase(None);
        self.with(move |step| step.prompt_processor(process)).in_context()
    }

    /// Works on the output of each attempt, before it is validated.
    pub fn output_processor<A, H>(self, process: H) -> Step<I, O, <C as Unify<H::Context>>::Output>
    where
        H: Handler<A, In = O, Out = O>,
        C: Unify<H::Context>,
    {
        let process = process.erase(None);
        self.with(move |step| step.output_processor(process)).in_context()
    }

    /// Runs with the step's input when all attempts have failed.
    pub fn fallback<S>(self, fallback: S) -> Step<I, O, <C as Unify<S::Context>>::Output>
    where
        S: Stage,
        I: FeedsInto<S::In>,
        S::Out: FeedsInto<O>,
        C: Unify<S::Context>,
    {
        let fallback = fallback.into_pipeline().into_untyped();
        self.with(move |step| step.fallback(fallback)).in_context()
    }

    /// Keeps the step's results: whoever asks with the same input, and the same values of the context's fields that the step
    /// reads, gets a clone without it running again. What is kept, for how long and what it depends on says `policy`; where
    /// it is kept, [`FlujoBuilder::cache`](crate::FlujoBuilder::cache). Only results of attempts that succeeded are kept, and
    /// only when the step wrote nothing to the context. Steps at the same time that want the same result make it once.
    ///
    /// A step is told apart by itself, as it stands in the pipeline. With a version its results are those of all steps of
    /// its name and version, also in other processes when the step is [durable](Self::durable) and the cache has a second
    /// tier.
    ///
    /// ```
    /// use flujo::{BoxError, CachePolicy, Flujo, step};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let slow = step("slow", |n: u32| async move { Ok::<_, BoxError>(n * 2) }).cached(CachePolicy::default());
    /// let flujo = Flujo::new(slow);
    /// for _ in 0..3 {
    ///     assert_eq!(flujo.run(21).await?.output, 42);
    /// }
    /// assert_eq!(flujo.performance_statistics().map(|s| s.cache_hits), Some(2));
    /// # Ok(()) }
    /// ```
    pub fn cached(self, policy: CachePolicy) -> Self
    where
        I: Serialize,
    {
        let key = |input: &Value| Ok(to_value(look::<I>(input)?)?);
        self.with(move |step| step.cached(policy).cache_key(key))
    }

    /// Makes input and output of this step savable, through serde. A type is known by the name that serde knows it by. A
    /// runner with a [store](crate::FlujoBuilder::store) wants it of every step:
    ///
    /// ```
    /// use flujo::store::Memory;
    /// use flujo::{BoxError, Flujo, step};
    ///
    /// let lines = step("lines", |text: String| async move { Ok::<_, BoxError>(text.lines().count()) });
    /// let refused = Flujo::builder(lines).store(Memory::new()).build().err().map(|error| error.to_string());
    /// assert!(refused.is_some_and(|refused| refused.ends_with("`lines`")));
    /// ```
    pub fn durable(mut self) -> Self
    where
        I: Serialize + DeserializeOwned,
        O: Serialize + DeserializeOwned,
    {
        self.codecs = Some((codec::<I>(), codec::<O>()));
        self
    }

    fn in_context<D: Context>(self) -> Step<I, O, D> {
        Step {
            name: self.name,
            work: self.work,
            configure: self.configure,
            codecs: self.codecs,
            types: PhantomData,
        }
    }
}

impl<I: Payload, O: Payload, C: Context> Stage for Step<I, O, C> {
    type In = I;
    type Out = O;
    type Context = C;

    fn into_pipeline(self) -> Pipeline<I, O, C> {
        let step = (self.work)(self.name, self.codecs.map(|(_, output)| output));
        let step = self
            .configure
            .into_iter()
            .fold(step, |step, configure| configure(step));
        let step = match self.codecs {
            Some((_, output)) => step.cache_codec(output),
            None if is_plain::<O>() => step,
            None => step.volatile(),
        };
        Pipeline::typed(step.into(), self.codecs.map(|(input, _)| input))
    }
}
