//! What a host brings: its objects, its contexts and its callables.

use std::fmt::Debug;

use super::Failure;

/// The types of one host. The machine moves objects and contexts around and never looks inside them.
pub trait Domain: Clone + Debug + 'static {
    /// A value between steps. Cloning shares it.
    type Object: Clone + Debug;
    /// A handle to the state of a run or lane. Cloning shares it; [`Domain::fork`] isolates.
    type Context: Clone + Debug;
    /// What a plan holds for the host to call.
    type Callable: Clone + Debug;

    /// A context that starts equal to `context` and whose writes `context` does not see.
    fn fork(context: &Self::Context) -> Self::Context;

    /// Whether nothing has been written to `view`, a fork of `base`, that `base` hasn't too.
    fn is_unwritten(base: &Self::Context, view: &Self::Context) -> bool;

    /// Makes the writes of `view`, a fork of `base` or a later state of one, part of `base`. Writes nothing when it
    /// fails.
    ///
    /// # Errors
    /// A failure that says which write could not be taken over.
    fn commit(base: &mut Self::Context, view: Self::Context) -> Result<(), Failure<Self>>;

    /// What is saved of the error object of a failure beside its type's name and its text; `None`: nothing.
    fn stored_error(error: &Self::Object) -> Option<Self::Object> {
        Some(error.clone())
    }
}
