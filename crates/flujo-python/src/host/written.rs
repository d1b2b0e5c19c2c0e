//! What is written down of a run on this host.

use std::sync::Arc;

use flujo_durable::Recorded;
use pyo3::prelude::*;

use super::context::{Base, ContextCell, Writes};
use super::domain::Python3;
use crate::context::saved;

impl Recorded for Python3 {
    type Base = Base;
    type Writes = Writes;

    fn writes(base: &Base, fork: &Arc<ContextCell>) -> Writes {
        Writes::of(base, fork)
    }

    fn written(base: &Arc<ContextCell>, isolated: bool, writes: Writes) -> Result<Arc<ContextCell>, String> {
        Python::attach(|py| writes.again(py, base, isolated)).map_err(|error| error.to_string())
    }

    fn writing<R>(work: impl FnOnce() -> R) -> R {
        saved::sharing(work)
    }

    fn reading<R>(work: impl FnOnce() -> R) -> R {
        saved::sharing(work)
    }
}
