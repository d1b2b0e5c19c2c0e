//! Small decisions: functions that look at a value, or at a value and the context, and never wait.

use std::marker::PhantomData;

use flujo_core::context::Context as Fields;
use flujo_core::value::Value;
use flujo_tokio::Raised;

use crate::payload::look;
use crate::{Context, Payload};

/// A function or closure `Fn(&I) -> O` or `Fn(&I, &C) -> O` that decides in place: an exit condition, a message, a
/// mapper. `Arguments` is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't decide here",
    label = "not a function of a reference to a value, or to a value and the context",
    note = "write the types out: `|output: &Text| …` or `|output: &Text, context: &Review| …`; `Review` derives \
            `flujo::Context`"
)]
pub trait Read<Arguments>: Send + Sync + 'static {
    /// What it looks at.
    type In: Payload;
    /// What it gives.
    type Out;
    /// The context it looks at; `()` when it looks at none.
    type Context: Context;

    /// Decides.
    ///
    /// # Errors
    /// When the value or the context is of another type than an untyped part of the pipeline gave.
    fn read(&self, value: &Value, context: &Fields) -> Result<Self::Out, Raised>;
}

/// The arguments of a function of a value.
pub struct OfValue<I, O>(PhantomData<fn(I) -> O>);

/// The arguments of a function of a value and the context.
pub struct OfValueAndContext<I, C, O>(PhantomData<fn(I, C) -> O>);

impl<F, I, O> Read<OfValue<I, O>> for F
where
    F: Fn(&I) -> O + Send + Sync + 'static,
    I: Payload,
{
    type In = I;
    type Out = O;
    type Context = ();

    fn read(&self, value: &Value, _: &Fields) -> Result<O, Raised> {
        Ok(self(look::<I>(value)?))
    }
}

impl<F, I, C, O> Read<OfValueAndContext<I, C, O>> for F
where
    F: Fn(&I, &C) -> O + Send + Sync + 'static,
    I: Payload,
    C: Context,
{
    type In = I;
    type Out = O;
    type Context = C;

    fn read(&self, value: &Value, context: &Fields) -> Result<O, Raised> {
        Ok(self(look::<I>(value)?, &C::load(context)?))
    }
}
