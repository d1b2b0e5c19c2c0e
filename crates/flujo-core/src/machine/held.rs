//! What a run holds: every object and context, each holder's own reference once, for a host whose language collects
//! cycles. What is shared with somebody else outside is left out, since that holder has a reference too; what is shared
//! inside alone, as an error is by a step and the end of its run, is shown when the last of its holders has come.

use std::collections::HashMap;
use std::sync::Arc;

use super::frame::Frame;
use super::gate::{Ended, Gate};
use super::{
    Command, Domain, Failure, Finish, History, Input, LaneRecord, Machine, Outcome, Pause, Record, State,
    Stop,
};

/// Something a run holds.
#[derive(Debug)]
pub enum Held<'a, D: Domain> {
    /// An object.
    Object(&'a D::Object),
    /// A context.
    Context(&'a D::Context),
}

/// The holders of what is shared, as they come.
#[derive(Debug, Default)]
pub struct Holders(HashMap<usize, usize>);

impl Holders {
    /// One more holder of it: whether that is the last one there is.
    pub fn are_all<T: ?Sized>(&mut self, shared: &Arc<T>) -> bool {
        let all = Arc::strong_count(shared);
        if all == 1 {
            return true;
        }
        let seen = self.0.entry(Arc::as_ptr(shared).addr()).or_default();
        *seen += 1;
        *seen == all
    }
}

/// Takes what is held, piece by piece.
pub(super) struct Visitor<'v, D: Domain> {
    show: &'v mut dyn FnMut(Held<'_, D>),
    pub(super) holders: Holders,
}

impl<'v, D: Domain> Visitor<'v, D> {
    pub(super) fn new(show: &'v mut dyn FnMut(Held<'_, D>)) -> Self {
        Self {
            show,
            holders: Holders::default(),
        }
    }

    pub(super) fn object(&mut self, object: &D::Object) {
        (self.show)(Held::Object(object));
    }

    pub(super) fn context(&mut self, context: &D::Context) {
        (self.show)(Held::Context(context));
    }

    pub(super) fn failure(&mut self, failure: &Arc<Failure<D>>) {
        let mut waiting = vec![failure];
        while let Some(failure) = waiting.pop() {
            if self.holders.are_all(failure) {
                if let Some(error) = &failure.error {
                    self.object(error);
                }
                waiting.extend(&failure.causes);
            }
        }
    }
}

impl<D: Domain> Machine<D> {
    /// Shows everything this machine holds to `show`. Lanes that were handed to the host are the host's.
    pub fn visit(&self, show: &mut dyn FnMut(Held<'_, D>)) {
        self.shown(&mut Visitor::new(show));
    }

    fn shown(&self, visit: &mut Visitor<'_, D>) {
        self.state.visit(visit);
        if let Some(kept) = &self.kept {
            kept.shown(visit);
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
    pub(super) fn visit(&self, visit: &mut Visitor<'_, D>) {
        visit.context(&self.context);
        self.history.shown(visit);
        for frame in &self.stack {
            frame.visit(visit);
        }
        match &self.gate {
            Gate::Open => {}
            Gate::BeforeRun(_, input) | Gate::BeforeNode(_, input) => visit.object(input),
            Gate::AfterNode(ended) | Gate::AfterRun(ended) => match ended {
                Ended::Success(output) => visit.object(output),
                Ended::Failed(failure) => visit.failure(failure),
                Ended::Stopped(stop) => visit_stop(stop, visit),
            },
        }
        if let Some(stop) = &self.stopping {
            visit_stop(stop, visit);
        }
    }
}

fn visit_command<D: Domain>(command: &Command<D>, visit: &mut Visitor<'_, D>) {
    match command {
        Command::Call(call) => {
            visit.context(&call.context);
            match &call.input {
                Input::Value(value) => visit.object(value),
                Input::Items { items, .. } => visit.object(items),
                Input::Redirect { agent, input } => {
                    visit.object(agent);
                    visit.object(input);
                }
                Input::Iteration { value, start, .. } => {
                    visit.object(value);
                    visit.object(start);
                }
                Input::State { output, failure, .. } => {
                    if let Some(output) = output {
                        visit.object(output);
                    }
                    if let Some(failure) = failure {
                        visit.failure(failure);
                    }
                }
                Input::Route { failure, input, .. } => {
                    visit.failure(failure);
                    visit.object(input);
                }
                Input::Lanes(lanes) => visit_lanes(lanes, visit),
                Input::Record { input, .. } => {
                    if let Some(input) = input {
                        visit.object(input);
                    }
                }
                Input::Pause(pause) => visit_pause(pause, visit),
                Input::Outcome(outcome) => visit_outcome(outcome, visit),
            }
        }
        Command::CacheGet(get) => {
            visit.context(&get.context);
            visit.object(&get.input);
        }
        Command::CachePut(put) => visit.object(&put.output),
        Command::Spawn { machine, .. } => machine.shown(visit),
        Command::Pause(pause) => visit_pause(pause, visit),
        Command::Finish(finish) => finish.shown(visit),
        _ => {}
    }
}

fn visit_pause<D: Domain>(pause: &Pause<D>, visit: &mut Visitor<'_, D>) {
    visit.object(&pause.question);
    if let Some(rejected) = &pause.rejected {
        visit.failure(rejected);
    }
}

impl<D: Domain> Finish<D> {
    /// Shows everything it holds to `show`.
    pub fn visit(&self, show: &mut dyn FnMut(Held<'_, D>)) {
        self.shown(&mut Visitor::new(show));
    }

    pub(super) fn shown(&self, visit: &mut Visitor<'_, D>) {
        visit_outcome(&self.outcome, visit);
        visit.context(&self.context);
        self.history.shown(visit);
        if let Some(kept) = &self.kept {
            kept.shown(visit);
        }
    }
}

impl<D: Domain> LaneRecord<D> {
    /// Shows everything these hold to `show`, unless somebody shares them.
    pub fn visit(lanes: &Arc<Vec<Self>>, show: &mut dyn FnMut(Held<'_, D>)) {
        visit_lanes(lanes, &mut Visitor::new(show));
    }
}

impl<D: Domain> History<D> {
    /// Gives it errors of its own, where it shares them with what it was copied from: each of the two then shows its own.
    /// What led to them, and lanes that had ended by then, stay shared.
    pub fn set_apart(&mut self) {
        let apart = |failure: &mut Arc<Failure<D>>| *failure = Arc::new(Failure::clone(failure));
        let mut waiting = vec![self];
        while let Some(history) = waiting.pop() {
            for record in &mut history.records {
                record.failure.iter_mut().for_each(apart);
                let Some(details) = &mut record.details else {
                    continue;
                };
                details.attempt_failures.iter_mut().for_each(apart);
                details
                    .fallback
                    .iter_mut()
                    .for_each(|(_, failure)| apart(failure));
                let lanes = Arc::get_mut(&mut details.lanes).into_iter().flatten();
                let finishes = lanes.filter_map(|lane| Arc::get_mut(lane.finish.as_mut()?));
                waiting.extend(finishes.map(|finish| &mut finish.history));
            }
        }
    }

    /// Shows everything it holds to `show`.
    pub fn visit(&self, show: &mut dyn FnMut(Held<'_, D>)) {
        self.shown(&mut Visitor::new(show));
    }

    /// A loop, since lanes nest.
    fn shown(&self, visit: &mut Visitor<'_, D>) {
        let mut waiting: Vec<&Finish<D>> = Vec::new();
        for record in &self.records {
            visit_record(record, visit, &mut waiting);
        }
        while let Some(finish) = waiting.pop() {
            visit_outcome(&finish.outcome, visit);
            visit.context(&finish.context);
            for record in &finish.history.records {
                visit_record(record, visit, &mut waiting);
            }
        }
    }
}

fn visit_record<'r, D: Domain>(
    record: &'r Record<D>,
    visit: &mut Visitor<'_, D>,
    waiting: &mut Vec<&'r Finish<D>>,
) {
    if let Some(output) = &record.output {
        visit.object(output);
    }
    if let Some(failure) = &record.failure {
        visit.failure(failure);
    }
    if let Some(details) = &record.details {
        for failure in &details.attempt_failures {
            visit.failure(failure);
        }
        if let Some((_, failure)) = &details.fallback {
            visit.failure(failure);
        }
        own_finishes(&details.lanes, &mut visit.holders, waiting);
    }
}

/// The ends of lanes, unless others hold them too.
fn own_finishes<'r, D: Domain>(
    lanes: &'r Arc<Vec<LaneRecord<D>>>,
    holders: &mut Holders,
    own: &mut Vec<&'r Finish<D>>,
) {
    if holders.are_all(lanes) {
        let ended = lanes.iter().filter_map(|lane| lane.finish.as_ref());
        own.extend(ended.filter(|finish| holders.are_all(finish)).map(Arc::as_ref));
    }
}

fn visit_lanes<D: Domain>(lanes: &Arc<Vec<LaneRecord<D>>>, visit: &mut Visitor<'_, D>) {
    let mut own = Vec::new();
    own_finishes(lanes, &mut visit.holders, &mut own);
    for finish in own {
        finish.shown(visit);
    }
}

fn visit_stop<D: Domain>(stop: &Stop<D>, visit: &mut Visitor<'_, D>) {
    if let Stop::Fatal(failure) = stop {
        visit.failure(failure);
    }
}

fn visit_outcome<D: Domain>(outcome: &Outcome<D>, visit: &mut Visitor<'_, D>) {
    match outcome {
        Outcome::Completed(output) => visit.object(output),
        Outcome::Failed(failure) => visit.failure(failure),
        Outcome::Stopped(stop) => visit_stop(stop, visit),
    }
}

impl<D: Domain> Frame<D> {
    fn visit(&self, visit: &mut Visitor<'_, D>) {
        match self {
            Self::Sequence { .. } => {}
            Self::Step(frame) => frame.visit(visit),
            Self::Conditional(frame) => visit.object(frame.value()),
            Self::Parallel(frame) => frame.visit(visit),
            Self::Map(frame) => frame.visit(visit),
            Self::Group(frame) => {
                visit.object(frame.input());
                frame.lanes.visit(visit);
            }
            Self::Loop(frame) => frame.visit(visit),
            Self::States(frame) => frame.visit(visit),
            Self::Human(frame) => frame.visit(visit),
            Self::Guard(frame) => frame.visit(visit),
        }
    }
}
