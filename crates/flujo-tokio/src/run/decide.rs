//! Decisions: calls that are made in place, and never wait.

use std::panic::{AssertUnwindSafe, catch_unwind};

use flujo_core::context::Context;
use flujo_core::machine::{Answer, Call, CallId, Command, Event as Happened, Failure, Machine, Role, Time};
use flujo_core::usage::Usage;
use flujo_core::value::Value;

use super::Shared;
use super::spans::Observed;
use crate::Handler;
use crate::agents::Agents;
use crate::domain::{Tokio, failure, panicked};
use crate::handler::{Decision, Inline};

/// When a call gives its value: the clock is asked only where it shows.
#[inline]
pub(super) fn time_of_value(machine: &Observed, shared: &Shared) -> Time {
    if machine.shows_time() {
        shared.now()
    } else {
        machine.now()
    }
}

/// Makes the decision that the machine asks for next, if it asks for one, where that stands: it isn't moved about, as a
/// call is that may have to wait.
#[inline]
pub(super) fn next(machine: &mut Observed, shared: &Shared) -> bool {
    let Some(Command::Call(call)) = machine.asked_next() else {
        return false;
    };
    if call.role == Role::Agent {
        return false;
    }
    let Some(Handler::Inline(decide)) = shared.plan.node(call.node).callable(call.role, call.index) else {
        return false;
    };
    let (id, role) = (call.call, call.role);
    let decided = make(machine, &shared.runner.agents, &**decide, call, Value::Null);
    machine.skip();
    tell(machine, shared, (id, role), decided);
    true
}

/// Makes a decision that the machine has asked for.
pub(super) fn now(
    machine: &mut Observed,
    shared: &Shared,
    decide: &Inline,
    call: &Call<Tokio>,
    steps: Value,
) {
    let decided = make(machine, &shared.runner.agents, decide, call, steps);
    tell(machine, shared, (call.call, call.role), decided);
}

/// Tells the machine what was decided.
#[inline]
fn tell(machine: &mut Observed, shared: &Shared, (call, role): (CallId, Role), decided: Decided) {
    if role == Role::Merge {
        shared.runner.contexts.merged(decided.is_ok());
    }
    match decided {
        Ok((answer @ (Answer::Value { .. } | Answer::Done), None)) => {
            let at = time_of_value(machine, shared);
            machine.answered(call, answer, at);
        }
        decided => machine.handle(happened(call, decided, shared.now())),
    }
}

/// The same decision as before.
pub(super) fn again(
    machine: &Machine<Tokio>,
    decide: &Inline,
    call: &Call<Tokio>,
    at: Time,
) -> Happened<Tokio> {
    let decided = make(machine, &Agents::default(), decide, call, Value::Null);
    happened(call.call, decided, at)
}

/// An answer with the context it wrote into, or a failure and what was used before it.
type Decided = Result<(Answer<Tokio>, Option<Context>), Box<(Failure<Tokio>, Usage)>>;

fn happened(call: CallId, decided: Decided, at: Time) -> Happened<Tokio> {
    match decided {
        Ok((answer, context)) => Happened::Answered {
            call,
            answer,
            context,
            at,
        },
        Err(failed) => {
            let (failure, usage) = *failed;
            Happened::Failed {
                call,
                failure: Box::new(failure),
                usage,
                at,
            }
        }
    }
}

#[inline]
fn make(
    machine: &Machine<Tokio>,
    agents: &Agents,
    decide: &Inline,
    call: &Call<Tokio>,
    steps: Value,
) -> Decided {
    let mut context = call.context.clone();
    let decided = catch_unwind(AssertUnwindSafe(|| {
        decide(Decision {
            input: &call.input,
            context: &mut context,
            history: machine.history(),
            plan: machine.plan(),
            steps,
        })
    }));
    let failed = |raised| Box::new(failure(raised));
    let mut answer = match decided {
        Ok(decided) => decided.map_err(failed)?,
        Err(panic) => return Err(Box::new((panicked(&*panic), Usage::ZERO))),
    };
    agents.complete(&mut answer, machine.plan()).map_err(failed)?;
    let written = !context.same(&call.context);
    Ok((answer, written.then_some(context)))
}
