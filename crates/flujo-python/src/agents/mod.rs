//! The agents that ship with Flujo, as objects of Python.
//!
//! An agent is built from plain settings, runs on tokio and answers through an asyncio future of the loop that asked.
//! Nothing here knows what an agent does: that is `flujo-agents`; nor what a step makes of an answer: that is the host.

mod call;
mod classes;
mod json_schema;
mod native;
mod outcome;
mod plain;
mod reactor;

use pyo3::prelude::*;

pub(crate) use call::{Reply, wake};
pub(crate) use plain::{to_object, to_value};
pub(crate) use reactor::handle as runtime;

pub(crate) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<native::NativeAgent>()?;
    module.add_class::<call::NativeCall>()?;
    module.add_class::<json_schema::JsonSchema>()?;
    Ok(())
}
