//! What a step is made of: asynchronous functions and closures of one or two arguments.

use std::future::Future;
use std::marker::PhantomData;

use flujo_core::value::TypeCodec;
use flujo_tokio::{BoxError, Handler as Erased, Raised};

use crate::payload::{unwrap, wrap};
use crate::{Context, Payload, Scope};

/// An asynchronous function or closure that is the work of a step: `async fn(I) -> Result<O, E>` or
/// `async fn(I, Scope<C>) -> Result<O, E>` for any error that converts into [`BoxError`]. `Arguments` is inferred.
#[diagnostic::on_unimplemented(
    message = "`{Self}` can't be the work of a step",
    label = "not an async function of an input, or of an input and a `Scope`",
    note = "a step is `|input: I| async move {{ … }}` or `|input: I, scope: Scope<C>| async move {{ … }}`, gives a \
            `Result<O, E>` whose `E` converts into `BoxError`; `I` and `O` are `Clone + Send + Sync`, the future is `Send`, \
            and `C` derives `flujo::Context`"
)]
pub trait Handler<Arguments>: Send + Sync + 'static {
    /// The step's input.
    type In: Payload;
    /// The step's output.
    type Out: Payload;
    /// The context it asks for; `()` when it asks for none.
    type Context: Context;

    /// The function over values. Outputs carry `codec`, so that they can be saved.
    fn erase(self, codec: Option<&'static TypeCodec>) -> Erased;
}

/// The arguments of a function of its input.
pub struct Input<I, R>(PhantomData<fn(I) -> R>);

/// The arguments of a function of its input and its scope.
pub struct InputAndScope<I, C, R>(PhantomData<fn(I, C) -> R>);

impl<F, I, R, O, E> Handler<Input<I, R>> for F
where
    F: Fn(I) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, E>> + Send + 'static,
    I: Payload,
    O: Payload,
    E: Into<BoxError>,
{
    type In = I;
    type Out = O;
    type Context = ();

    fn erase(self, codec: Option<&'static TypeCodec>) -> Erased {
        Erased::function(move |value| {
            let begun = unwrap::<I>(value).map(&self);
            async move { finish(begun?.await, codec) }
        })
    }
}

impl<F, I, C, R, O, E> Handler<InputAndScope<I, C, R>> for F
where
    F: Fn(I, Scope<C>) -> R + Send + Sync + 'static,
    R: Future<Output = Result<O, E>> + Send + 'static,
    I: Payload,
    C: Context,
    O: Payload,
    E: Into<BoxError>,
{
    type In = I;
    type Out = O;
    type Context = C;

    fn erase(self, codec: Option<&'static TypeCodec>) -> Erased {
        Erased::scoped(move |value, scope| {
            let begun = unwrap::<I>(value).map(|input| self(input, Scope::new(scope)));
            async move { finish(begun?.await, codec) }
        })
    }
}

fn finish<O: Payload, E: Into<BoxError>>(
    reply: Result<O, E>,
    codec: Option<&'static TypeCodec>,
) -> flujo_tokio::Reply {
    match reply {
        Ok(output) => Ok(wrap(output, codec)),
        Err(error) => Err(Raised::new(error)),
    }
}
