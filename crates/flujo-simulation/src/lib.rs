//! A host for tests: it runs `flujo_core`'s machine on virtual time, with callables that are scripts, an interleaving
//! that is drawn from a seed, and faults wherever a script says so.
//!
//! A [`Case`] is everything a run depends on (pipeline, scripts, input, limits, schedule) as plain data, so that the
//! same case can be run by another host, in another language too. [`Simulation`] runs it; [`story`] writes cases by
//! hand, [`generate`] draws them at random, [`invariant`] says what must hold for every one of them.

pub mod budget;
pub mod case;
pub mod context;
pub mod differential;
pub mod generate;
pub mod host;
pub mod invariant;
pub mod object;
pub mod random;
pub mod script;
pub mod story;
pub mod trace;

mod behaviour;
mod cache;
mod calls;
mod rates;
mod recording;
mod save;
mod stuck;
mod under_way;

pub use case::{Case, Clock, Schedule, Spec, Ties};
pub use context::Context;
pub use host::{Simulation, Stuck};
pub use object::Object;
pub use script::{Act, Callable, Does, OnCancel, Reply, Script, Write};
pub use trace::{CallEnd, Ran, Trace};

use flujo_core::machine::{Domain, Failure, FailureKind};

/// The machine's types in the simulation.
#[derive(Debug, Clone)]
pub struct Simulated;

impl Domain for Simulated {
    type Object = Object;
    type Context = Context;
    type Callable = Callable;

    fn fork(context: &Context) -> Context {
        context.clone()
    }

    fn is_unwritten(base: &Context, view: &Context) -> bool {
        base == view
    }

    fn commit(base: &mut Context, view: Context) -> Result<(), Failure<Self>> {
        if base.get(context::SEALED) != view.get(context::SEALED) {
            let message = format!("field `{}` takes no writes", context::SEALED);
            return Err(Failure::new(FailureKind::Context, "TypeError", message));
        }
        *base = view;
        Ok(())
    }
}
