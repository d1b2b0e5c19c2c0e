//! Where a step runs, typed.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;

use flujo_core::usage::Usage;
use flujo_core::value::{from_value, to_value};
use flujo_tokio::{BoxError, Place, Raised, Scope as Untyped};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Context, ContextError};

/// The place in which a step runs: its view of the context, the runner's resources, the names of the place. Owned and
/// `'static`: it may be moved into tasks. What is written after the step has ended reaches nothing.
pub struct Scope<C = ()> {
    untyped: Untyped,
    context: PhantomData<fn() -> C>,
}

impl<C> Scope<C> {
    pub(crate) fn new(untyped: Untyped) -> Self {
        Self {
            untyped,
            context: PhantomData,
        }
    }

    /// The runner's resource of a type; `None` when the runner was given none.
    pub fn resources<R: Any + Send + Sync>(&self) -> Option<Arc<R>> {
        self.untyped.resource()
    }

    /// Where this step runs: run, step, branch or item, attempt, idempotency key.
    pub fn current(&self) -> Place {
        self.untyped.place()
    }

    /// Adds to what this attempt has used; it counts also when the attempt fails.
    pub fn add_usage(&self, usage: Usage) {
        self.untyped.add_usage(usage);
    }

    /// Does a part of this step's work once, however often the step begins anew: `work` is called unless the step has done a
    /// part of this name before, in any of its attempts, and then the same value is given again. What `work` gives is
    /// recorded before it is handed on. In a run that is kept in a store it outlives the process, as far as the run's
    /// [`Durability`](crate::Durability) says: an agent whose process dies between its third tool call and the fourth doesn't
    /// repeat the first three.
    ///
    /// It belongs to the step at its place, as [`Place::idempotency_key`] does: another branch, item or iteration does it
    /// anew. When another attempt is to do it anew, put the attempt into the name. Whoever asks for the same part meanwhile
    /// waits for it; when it fails nothing is recorded, and the next one who asks does it.
    ///
    /// ```
    /// use flujo::store::Memory;
    /// use flujo::{BoxError, Flujo, Scope, step};
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), BoxError> {
    /// let order = step("order", |n: u32, scope: Scope| async move {
    ///     let paid: u32 = scope.once("pay", || async move { Ok::<_, BoxError>(n * 2) }).await?;
    ///     let sent: u32 = scope.once("send", || async move { Ok::<_, BoxError>(paid + 1) }).await?;
    ///     Ok::<_, BoxError>(sent)
    /// })
    /// .durable();
    /// let flujo = Flujo::builder(order).store(Memory::new()).build()?;
    /// assert_eq!(flujo.run(3).await?.output, 7);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// What `work` gives, that its value can't be saved, or that the store can't be written to.
    pub async fn once<T, E, F>(
        &self,
        key: impl Into<Arc<str>>,
        work: impl FnOnce() -> F,
    ) -> Result<T, BoxError>
    where
        T: Serialize + DeserializeOwned,
        E: Into<BoxError>,
        F: Future<Output = Result<T, E>>,
    {
        let made = self.untyped.once(key, || async {
            let value = work().await.map_err(|error| Raised::new(error.into()))?;
            to_value(&value).map_err(Raised::new)
        });
        let value = made.await.map_err(|raised| raised.error)?;
        Ok(from_value(value)?)
    }

    /// The same place without types.
    pub fn untyped(&self) -> &Untyped {
        &self.untyped
    }
}

impl<C: Context> Scope<C> {
    /// The context as this attempt sees it. Writes are kept when the attempt succeeds.
    pub fn context(&self) -> ContextHandle<'_, C> {
        ContextHandle(self)
    }
}

impl<C> Clone for Scope<C> {
    fn clone(&self) -> Self {
        Self::new(self.untyped.clone())
    }
}

impl<C> fmt::Debug for Scope<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.untyped.fmt(f)
    }
}

/// Reads and writes the context of one attempt.
pub struct ContextHandle<'a, C>(&'a Scope<C>);

impl<C: Context> ContextHandle<'_, C> {
    /// The context.
    ///
    /// # Errors
    /// [`ContextError`] when an untyped step wrote something that doesn't fit a field.
    pub fn get(&self) -> Result<C, ContextError> {
        C::load(&self.0.untyped.context())
    }

    /// Changes the context. The scope must not be used inside `change`. When the context can't be read as a `C`, or
    /// not be kept, the attempt fails for that reason whatever it gives.
    pub fn update(&self, change: impl FnOnce(&mut C)) {
        let changed = self.0.untyped.update(|fields| {
            let mut context = C::load(fields)?;
            change(&mut context);
            context.store(fields)
        });
        self.note(changed);
    }

    /// Replaces the context; see [`update`](Self::update).
    pub fn set(&self, context: &C) {
        let stored = self.0.untyped.update(|fields| context.store(fields));
        self.note(stored);
    }

    fn note(&self, done: Result<(), ContextError>) {
        if let Err(error) = done {
            self.0.untyped.fail(Raised::new(error));
        }
    }
}
