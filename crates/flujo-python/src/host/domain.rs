//! What this host brings to the machine: Python objects, lazily made contexts, callables of the plan.

use std::sync::Arc;

use flujo_core::machine::{self, Domain};
use pyo3::prelude::*;

use super::callable::CallableSpec;
use super::context::ContextCell;
use super::failure;
use crate::object::Object;

/// The asyncio host's types. Objects pass from step to step as they are; each holder owns its own reference.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Python3;

impl Domain for Python3 {
    type Object = Object;
    type Context = Arc<ContextCell>;
    type Callable = Arc<CallableSpec>;

    fn fork(context: &Self::Context) -> Self::Context {
        Arc::new(ContextCell::fork_of(context))
    }

    fn is_unwritten(base: &Self::Context, view: &Self::Context) -> bool {
        // What can't be told has been written.
        Arc::ptr_eq(base, view) || Python::attach(|py| view.is_unwritten(py).unwrap_or(false))
    }

    fn commit(base: &mut Self::Context, view: Self::Context) -> Result<(), machine::Failure<Self>> {
        if Arc::ptr_eq(base, &view) {
            return Ok(());
        }
        Python::attach(|py| {
            view.commit_into(py, base)
                .map_err(|error| failure::from_error(py, error))
        })
    }
}

pub(crate) type Machine = machine::Machine<Python3>;
pub(crate) type Command = machine::Command<Python3>;
pub(crate) type Event = machine::Event<Python3>;
pub(crate) type Answer = machine::Answer<Python3>;
pub(crate) type Call = machine::Call<Python3>;
pub(crate) type CacheGet = machine::CacheGet<Python3>;
pub(crate) type CachePut = machine::CachePut<Python3>;
pub(crate) type Failure = machine::Failure<Python3>;
pub(crate) type Notice = machine::Notice<Python3>;
pub(crate) type Finish = machine::Finish<Python3>;
pub(crate) type Plan = flujo_core::plan::Plan<Arc<CallableSpec>>;
