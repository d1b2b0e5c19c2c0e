//! A question to somebody outside, typed.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::value::{Value, from_value};
use flujo_tokio::{Human as Untyped, Raised};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::payload::{look, wrap};
use crate::pipeline::{Pipeline, Stage};
use crate::read::Read;
use crate::{Context, Payload, Unify};

/// A question whose answer has no type yet: [`answered_by`](Self::answered_by) gives it one, and then it can be checked and
/// written down. As it stands it is answered by text.
#[must_use = "a question is not asked until its pipeline runs"]
pub struct Question<I, C = ()> {
    untyped: Untyped,
    types: PhantomData<fn(I, C)>,
}

/// Asks somebody outside and waits: the run pauses at this very point ([`RunError::Paused`](crate::RunError::Paused)) and
/// goes on with the answer as output ([`Flujo::resume`](crate::Flujo::resume)).
#[must_use = "a question is not asked until its pipeline runs"]
pub struct Human<I, A, C = ()> {
    untyped: Untyped,
    types: PhantomData<fn(I, C) -> A>,
}

/// A question under a name; `message` makes what is asked from the input. It is answered by text, unless
/// [`answered_by`](Question::answered_by) says otherwise.
///
/// ```
/// use flujo::{BoxError, Flujo, RunError, human, step};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
/// let p = human("approve", |text: &String| format!("Publish {text:?}?")).answered_by::<bool>()
///     >> step("publish", |yes: bool| async move { Ok::<_, BoxError>(if yes { "published" } else { "kept" }) });
/// let flujo = Flujo::new(p);
/// let Err(RunError::Paused { paused, .. }) = flujo.run("a poem".into()).await else {
///     return Err("the run should have asked".into());
/// };
/// assert_eq!(paused.pauses()[0].message, "Publish \"a poem\"?");
/// assert_eq!(flujo.resume(&paused, true).await?.output, "published");
/// # Ok(()) }
/// ```
pub fn human<A, F>(name: impl Into<Arc<str>>, message: F) -> Question<F::In, F::Context>
where
    F: Read<A>,
    F::Out: Into<String>,
{
    Question {
        untyped: Untyped::new(name).question(move |input, context| {
            let message: String = message.read(input, context)?.into();
            Ok(Value::from(message))
        }),
        types: PhantomData,
    }
}

impl<I: Payload, C: Context> Question<I, C> {
    /// The type of the answer: anything that can be made from data.
    pub fn answered_by<A: Payload + DeserializeOwned>(self) -> Human<I, A, C> {
        Human {
            untyped: self.untyped.accept(|answer, _| typed::<A>(answer)),
            types: PhantomData,
        }
    }

    fn with(mut self, configure: impl FnOnce(Untyped) -> Untyped) -> Self {
        self.untyped = configure(self.untyped);
        self
    }

    /// How long an answer may take; see [`Human::timeout`].
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|human| human.timeout(timeout))
    }

    /// The longest active time the step may take; see [`Human::deadline`].
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|human| human.deadline(deadline))
    }
}

impl<I: Payload, A: Payload, C: Context> Human<I, A, C> {
    fn with(mut self, configure: impl FnOnce(Untyped) -> Untyped) -> Self {
        self.untyped = configure(self.untyped);
        self
    }

    /// Accepts an answer, or says why not: the question stays open then, and the pause shows the reason.
    pub fn validate(self, validate: impl Fn(&A) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.with(move |human| {
            human.accept(move |answer, _| {
                validate(look::<A>(&answer)?)?;
                Ok(answer)
            })
        })
    }

    /// Writes the answer into the context.
    pub fn sink<D: Context>(
        self,
        sink: impl Fn(&A, &mut D) + Send + Sync + 'static,
    ) -> Human<I, A, <C as Unify<D>>::Output>
    where
        C: Unify<D>,
    {
        let sunk = self.with(move |human| {
            human.accept(move |answer, fields| {
                let mut context = D::load(fields)?;
                sink(look::<A>(&answer)?, &mut context);
                context.store(fields)?;
                Ok(answer)
            })
        });
        Human {
            untyped: sunk.untyped,
            types: PhantomData,
        }
    }

    /// Writes the answer into the context at a dotted path.
    pub fn sink_to(self, path: impl Into<String>) -> Self
    where
        A: Serialize,
    {
        let path = path.into();
        self.with(move |human| {
            human.accept(move |answer, fields| {
                let data = flujo_core::value::to_value(look::<A>(&answer)?)?;
                fields.set_path(&path, data)?;
                Ok(answer)
            })
        })
    }

    /// How long an answer may take, in time of the world outside; for ever without this. It is looked at when the run is
    /// resumed. Without a default the step fails then.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|human| human.timeout(timeout))
    }

    /// The answer when none came in time.
    pub fn default_answer(self, answer: A) -> Self {
        self.with(|human| human.default_from(move |_, _| Ok(wrap(answer.clone(), None))))
    }

    /// The longest active time the step may take; time stands still while the run waits.
    pub fn deadline(self, deadline: Duration) -> Self {
        self.with(|human| human.deadline(deadline))
    }
}

/// An answer as the type that is asked for: as it is, or made from data.
fn typed<A: Payload + DeserializeOwned>(answer: Value) -> Result<Value, Raised> {
    if look::<A>(&answer).is_ok() {
        return Ok(answer);
    }
    match from_value::<A>(answer) {
        Ok(answer) => Ok(wrap(answer, None)),
        Err(error) => Err(Raised::new(error)),
    }
}

impl<I: Payload, C: Context> Stage for Question<I, C> {
    type In = I;
    type Out = String;
    type Context = C;

    fn into_pipeline(self) -> Pipeline<I, String, C> {
        self.answered_by::<String>().into_pipeline()
    }
}

impl<I: Payload, A: Payload, C: Context> Stage for Human<I, A, C> {
    type In = I;
    type Out = A;
    type Context = C;

    fn into_pipeline(self) -> Pipeline<I, A, C> {
        Pipeline::typed(self.untyped.into(), None)
    }
}
