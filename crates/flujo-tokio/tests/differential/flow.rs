//! Loops, state machines, routers, failure routes, parts as a step's work and questions out of tokio's own parts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flujo_core::value::Value;
use flujo_simulation::case::{GuardSpec, HumanSpec, LoopSpec, ParallelSpec, StatesSpec};
use flujo_simulation::{Does, Script, Spec};
use flujo_tokio::{
    After, Human, Iteration, Loop, Parallel, Pipeline, Raised, StateEnd, StateMachine, Transition,
};
use tokio::task::Id;

use super::scripted::{Log, Scripted, outcome, pipeline, scripted, value_of};

impl Scripted {
    /// What a call makes of a value; nothing else.
    fn maps(&self, input: &Value) -> Result<Value, Raised> {
        let (act, nth) = self.begin(None, 0);
        outcome(&act, nth, input)
    }

    fn mapper(
        self,
    ) -> impl Fn(Iteration<'_>, &flujo_core::context::Context) -> Result<Value, Raised> + use<> {
        move |iteration, _| self.maps(iteration.value)
    }
}

pub(crate) fn repeat(spec: &LoopSpec, log: &Arc<Mutex<Log>>) -> Loop {
    let of = scripted(&spec.name, log);
    let exit = of.role("exit", 0, &spec.exit);
    let mut node = Loop::until(spec.name.as_str(), pipeline(&spec.body, log), move |value, _| {
        let (act, nth) = exit.begin(None, 0);
        match &act.does {
            Does::Natural => Ok(true),
            Does::Exit(done) => Ok(*done),
            Does::ExitAt(least) => Ok(value.as_int().is_some_and(|number| number >= *least)),
            _ => Err(outcome(&act, nth, value).unwrap_err()),
        }
    })
    .max_loops(spec.max_loops)
    .on_body_failure(spec.on_failure);
    if let Some(judge) = &spec.judge {
        node = node.judge(pipeline(judge, log));
    }
    if let Some(script) = &spec.first_input {
        node = node.first_input(of.role("loop_input", 0, script).mapper());
    }
    if let Some(script) = &spec.next_input {
        node = node.next_input(of.role("next_input", 0, script).mapper());
    }
    if let Some(script) = &spec.output {
        node = node.output(of.role("loop_output", 0, script).mapper());
    }
    match spec.deadline {
        Some(deadline) => node.deadline(Duration::from_nanos(deadline)),
        None => node,
    }
}

/// What the script said last, in each task: the first of a state's transitions asks it, the others look.
type Said = Arc<Mutex<HashMap<Id, Option<String>>>>;

pub(crate) fn states(spec: &StatesSpec, log: &Arc<Mutex<Log>>) -> StateMachine {
    let next = scripted(&spec.name, log).role("transition", 0, &spec.next);
    let said = Said::default();
    let names: Vec<&str> = spec.states.iter().map(|(name, _)| name.as_str()).collect();
    let mut node = StateMachine::new(spec.name.as_str(), names[0]);
    let last = spec.states.len() - 1;
    for (place, (name, body)) in spec.states.iter().enumerate() {
        node = match body {
            Some(body) if place == last => node.end_with(name.as_str(), pipeline(body, log)),
            Some(body) => node.state(name.as_str(), pipeline(body, log)),
            None => node.end(name.as_str()),
        };
    }
    for (place, from) in names.iter().enumerate() {
        for after in [After::Success, After::Failure] {
            for (nth, to) in names.iter().copied().chain(["nowhere"]).enumerate() {
                let (next, said, to) = (next.clone(), Arc::clone(&said), to.to_owned());
                let follows = names.get(place + 1).map(|name| (*name).to_owned());
                let way = Transition::new(*from, to.as_str()).after(after);
                node = node.transition(way.when(move |end, _| {
                    if nth == 0 {
                        let chosen = choose(&next, end, follows.as_ref())?;
                        said.lock().unwrap().insert(tokio::task::id(), chosen);
                    }
                    let said = said.lock().unwrap();
                    Ok(said[&tokio::task::id()].as_ref() == Some(&to))
                }));
            }
        }
    }
    match spec.deadline {
        Some(deadline) => node.deadline(Duration::from_nanos(deadline)),
        None => node,
    }
}

/// The state that a script names.
fn choose(next: &Scripted, end: StateEnd<'_>, follows: Option<&String>) -> Result<Option<String>, Raised> {
    let (act, nth) = next.begin(None, 0);
    match (&act.does, end) {
        (Does::Choose(key), _) => Ok(Some(key.clone())),
        (Does::Natural, StateEnd::Success(_)) => Ok(follows.cloned()),
        (Does::Natural, StateEnd::Failure(_)) => Ok(None),
        _ => Err(outcome(&act, nth, &Value::Null).unwrap_err()),
    }
}

pub(crate) fn routed(
    node: Parallel,
    spec: &ParallelSpec,
    router: &(Spec, Script),
    log: &Arc<Mutex<Log>>,
) -> Parallel {
    let (body, script) = router;
    let select = scripted(&spec.name, log).role("select", 0, script);
    node.router_with(pipeline(body, log), move |output, _| {
        let output = select.maps(output)?;
        let names = output.as_list().unwrap_or_default().iter();
        Ok(names
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect())
    })
}

pub(crate) fn guard(spec: &GuardSpec, log: &Arc<Mutex<Log>>) -> Pipeline {
    let describe = scripted("", log).role("describe", 0, &spec.describe);
    pipeline(&spec.body, log).on_failure_with(
        move |failure| describe.maps(&Value::from(&*failure.step)),
        pipeline(&spec.handler, log),
    )
}

pub(crate) fn human(spec: &HumanSpec, log: &Arc<Mutex<Log>>) -> Human {
    let of = scripted(&spec.name, log);
    let question = of.role("question", 0, &spec.question);
    let mut node = Human::new(spec.name.as_str()).question(move |input, _| question.maps(input));
    if let Some(script) = &spec.accept {
        let accept = of.role("accept", 0, script);
        node = node.accept(move |answer, _| accept.maps(&answer));
    }
    match spec.deadline {
        Some(deadline) => node.deadline(Duration::from_nanos(deadline)),
        None => node,
    }
}

/// What is answered when the question of a step is asked for the `nth` time, from 0.
pub(crate) fn answer(root: &Spec, step: &str, nth: usize) -> Value {
    let mut root = root.clone();
    let mut answer = None;
    root.visit_mut(&mut |spec| {
        if let Spec::Human(human) = spec
            && human.name == step
        {
            let replies = &human.question.acts[0].replies;
            answer = replies
                .get(nth)
                .or(replies.last())
                .and_then(|reply| reply.answer.clone());
        }
    });
    value_of(&answer.unwrap())
}
