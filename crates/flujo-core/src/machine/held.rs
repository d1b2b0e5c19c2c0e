//! What a run holds: every object and context, each holder's own reference once, for a host whose language collects
//! cycles. What is shared with somebody else outside is left out, since that holder has a reference too.

use std::sync::Arc;

use super::frame::Frame;
use super::gate::{Ended, Gate};
use super::{
    Command, Domain, Failure, Finish, History, Input, LaneRecord, Machine, Outcome, Record, State, Stop,
};

/// Something a run holds.
#[derive(Debug)]
pub enum Held<'a, D: Domain> {
    /// An object.
    Object(&'a D::Object),
    /// A context.
    Context(&'a D::Context),
}

/// Takes what is held, piece by piece.
pub(super) type Visitor<'v, D> = &'v mut dyn FnMut(Held<'_, D>);

impl<D: Domain> Machine<D> {
    /// Shows everything this machine holds to `visit`. Lanes that were handed to the host are the host's.
    pub fn visit(&self, visit: &mut dyn FnMut(Held<'_, D>)) {
        self.state.visit(visit);
        if let Some(kept) = &self.kept {
            kept.visit(visit);
        }
        if let Some(dormant) = &self.dormant {
            dormant.visit(visit);
        }
        for command in &self.commands {
            visit_command(command, visit);
        }
    }
}

impl<D: Domain> State<D> {
    pub(super) fn visit(&self, visit: &mut dyn FnMut(Held<'_, D>)) {
        visit(Held::Context(&self.context));
        self.history.visit(visit);
        for frame in &self.stack {
            frame.visit(visit);
        }
        match &self.gate {
            Gate::Open => {}
            Gate::BeforeRun(_, input) | Gate::BeforeNode(_, input) => visit(Held::Object(input)),
            Gate::AfterNode(ended) | Gate::AfterRun(ended) => match ended {
                Ended::Success(output) => visit(Held::Object(output)),
                Ended::Failed(failure) => visit_failure(failure, visit),
                Ended::Stopped(stop) => visit_stop(stop, visit),
            },
        }
        if let Some(stop) = &self.stopping {
            visit_stop(stop, visit);
        }
    }
}

fn visit_command<D: Domain>(command: &Command<D>, visit: Visitor<'_, D>) {
    match command {
        Command::Call(call) => {
            visit(Held::Context(&call.context));
            match &call.input {
                Input::Value(value) => visit(Held::Object(value)),
                Input::Items { items, .. } => visit(Held::Object(items)),
                Input::Redirect { agent, input } => {
                    visit(Held::Object(agent));
                    visit(Held::Object(input));
                }
                Input::Iteration { value, start, .. } => {
                    visit(Held::Object(value));
                    visit(Held::Object(start));
                }
                Input::State { output, failure, .. } => {
                    if let Some(output) = output {
                        visit(Held::Object(output));
                    }
                    if let Some(failure) = failure {
                        visit_failure(failure, visit);
                    }
                }
                Input::Route { failure, input, .. } => {
                    visit_failure(failure, visit);
                    visit(Held::Object(input));
                }
                Input::Lanes(lanes) => visit_lanes(lanes, visit),
                Input::Record { input, .. } => {
                    if let Some(input) = input {
                        visit(Held::Object(input));
                    }
                }
                Input::Pause(pause) => visit(Held::Object(&pause.question)),
                Input::Outcome(outcome) => visit_outcome(outcome, visit),
            }
        }
        Command::CacheGet(get) => {
            visit(Held::Context(&get.context));
            visit(Held::Object(&get.input));
        }
        Command::CachePut(put) => visit(Held::Object(&put.output)),
        Command::Spawn { machine, .. } => machine.visit(visit),
        Command::Pause(pause) => visit(Held::Object(&pause.question)),
        Command::Finish(finish) => finish.visit(visit),
        _ => {}
    }
}

impl<D: Domain> Finish<D> {
    /// Shows everything it holds to `visit`.
    pub fn visit(&self, visit: &mut dyn FnMut(Held<'_, D>)) {
        visit_outcome(&self.outcome, visit);
        visit(Held::Context(&self.context));
        self.history.visit(visit);
        if let Some(kept) = &self.kept {
            kept.visit(visit);
        }
    }
}

impl<D: Domain> History<D> {
    /// Shows everything it holds to `visit`. A loop, since lanes nest.
    pub fn visit(&self, visit: &mut dyn FnMut(Held<'_, D>)) {
        let mut waiting: Vec<&Finish<D>> = Vec::new();
        for record in &self.records {
            visit_record(record, visit, &mut waiting);
        }
        while let Some(finish) = waiting.pop() {
            visit_outcome(&finish.outcome, visit);
            visit(Held::Context(&finish.context));
            for record in &finish.history.records {
                visit_record(record, visit, &mut waiting);
            }
        }
    }
}

fn visit_record<'r, D: Domain>(
    record: &'r Record<D>,
    visit: Visitor<'_, D>,
    waiting: &mut Vec<&'r Finish<D>>,
) {
    if let Some(output) = &record.output {
        visit(Held::Object(output));
    }
    if let Some(failure) = &record.failure {
        visit_failure(failure, visit);
    }
    if let Some(details) = &record.details {
        for failure in &details.attempt_failures {
            visit_failure(failure, visit);
        }
        if let Some((_, failure)) = &details.fallback {
            visit_failure(failure, visit);
        }
        if Arc::strong_count(&details.lanes) == 1 {
            waiting.extend(details.lanes.iter().filter_map(own_finish));
        }
    }
}

/// The end of a lane, unless somebody else holds it too.
fn own_finish<D: Domain>(lane: &LaneRecord<D>) -> Option<&Finish<D>> {
    lane.finish
        .as_ref()
        .filter(|finish| Arc::strong_count(finish) == 1)
        .map(Arc::as_ref)
}

pub(super) fn visit_lanes<D: Domain>(lanes: &Arc<Vec<LaneRecord<D>>>, visit: Visitor<'_, D>) {
    if Arc::strong_count(lanes) == 1 {
        lanes
            .iter()
            .filter_map(own_finish)
            .for_each(|finish| finish.visit(visit));
    }
}

fn visit_failure<D: Domain>(failure: &Arc<Failure<D>>, visit: Visitor<'_, D>) {
    let mut waiting = vec![failure];
    while let Some(failure) = waiting.pop() {
        if Arc::strong_count(failure) == 1 {
            if let Some(error) = &failure.error {
                visit(Held::Object(error));
            }
            waiting.extend(&failure.causes);
        }
    }
}

fn visit_stop<D: Domain>(stop: &Stop<D>, visit: Visitor<'_, D>) {
    if let Stop::Fatal(failure) = stop {
        visit_failure(failure, visit);
    }
}

fn visit_outcome<D: Domain>(outcome: &Outcome<D>, visit: Visitor<'_, D>) {
    match outcome {
        Outcome::Completed(output) => visit(Held::Object(output)),
        Outcome::Failed(failure) => visit_failure(failure, visit),
        Outcome::Stopped(stop) => visit_stop(stop, visit),
    }
}

impl<D: Domain> Frame<D> {
    fn visit(&self, visit: Visitor<'_, D>) {
        match self {
            Self::Sequence { .. } => {}
            Self::Step(frame) => frame.visit(visit),
            Self::Conditional(frame) => visit(Held::Object(frame.value())),
            Self::Parallel(frame) => frame.visit(visit),
            Self::Map(frame) => frame.visit(visit),
            Self::Group(frame) => {
                visit(Held::Object(frame.input()));
                frame.lanes.visit(visit);
            }
            Self::Loop(frame) => frame.visit(visit),
            Self::States(frame) => frame.visit(visit),
            Self::Human(frame) => frame.visit(visit),
            Self::Guard(frame) => frame.visit(visit),
        }
    }
}
