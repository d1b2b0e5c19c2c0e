//! A run read without its callables whose contexts are those of its host: what was written to them is known.

use std::marker::PhantomData;

use flujo_core::machine::{Domain, Failure};

use super::{RawValue, Uncalled};
use crate::Recorded;

/// The types of a run that is read as [`Raw`](super::Raw), but for its contexts, which are those of the host `D`: each has
/// what had been written to it by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawIn<D>(PhantomData<D>);

impl<D: Domain> Domain for RawIn<D> {
    type Object = RawValue;
    type Context = D::Context;
    type Callable = Uncalled;

    fn fork(context: &D::Context) -> D::Context {
        D::fork(context)
    }

    fn is_unwritten(base: &D::Context, view: &D::Context) -> bool {
        D::is_unwritten(base, view)
    }

    fn commit(base: &mut D::Context, view: D::Context) -> Result<(), Failure<Self>> {
        D::commit(base, view).map_err(|failure| Failure {
            retry: failure.retry,
            ..Failure::new(failure.kind, failure.error_type, failure.message)
        })
    }
}

impl<D: Recorded> Recorded for RawIn<D> {
    type Base = D::Base;
    type Writes = D::Writes;

    fn writes(base: &D::Base, fork: &D::Context) -> D::Writes {
        D::writes(base, fork)
    }

    fn written(base: &D::Context, isolated: bool, writes: D::Writes) -> Result<D::Context, String> {
        D::written(base, isolated, writes)
    }

    fn writing<R>(work: impl FnOnce() -> R) -> R {
        D::writing(work)
    }

    fn reading<R>(work: impl FnOnce() -> R) -> R {
        D::reading(work)
    }
}
