//! The smallest host: numbers, no contexts, virtual time that goes on by 10 ns with every call, lanes one by one.

use std::collections::HashMap;
use std::sync::Arc;

use super::{RunStart, SpanContext, Telemetry};
use crate::agent::TokenCounts;
use crate::machine::{
    Answer, Call, Command, Domain, Event, Failure, FailureKind, Finish, Input, Machine, Options, Role, Time,
};
use crate::pipeline::Pipeline;
use crate::plan::{HumanNode, LaneFailure, MapNode, NodeId, ParallelNode, Plan, StepNode, Work};
use crate::telemetry::{AgentCall, Content, MachineSpans, SpanStatus};
use crate::usage::{Cost, Usage};

#[derive(Debug, Clone)]
pub(super) struct Toy;

impl Domain for Toy {
    type Object = i64;
    type Context = ();
    type Callable = Does;

    fn fork((): &()) {}

    fn is_unwritten((): &(), (): &()) -> bool {
        true
    }

    fn commit((): &mut (), (): ()) -> Result<(), Failure<Self>> {
        Ok(())
    }
}

#[derive(Debug, Clone)]
pub(super) enum Does {
    Add(i64),
    /// Fails so many times in each run, then adds.
    FailTimes(u32, i64),
    /// As a model that used something.
    Model,
    Items(usize),
    /// Gives back what it was given.
    Same,
}

pub(super) fn model_usage() -> Usage {
    Usage::new(Cost::from_dollars(0.002).unwrap(), 42)
}

/// A pipeline under construction, with names that have not been used.
pub(super) struct Draft {
    pub(super) pipeline: Pipeline<Does>,
    names: u32,
}

impl Draft {
    pub(super) fn fresh(&mut self, name: &str) -> String {
        self.names += 1;
        format!("{name}-{}", self.names)
    }
}

pub(super) fn pipeline(parts: impl FnOnce(&mut Draft) -> Vec<NodeId>) -> Plan<Does> {
    let mut draft = Draft {
        pipeline: Pipeline::new(),
        names: 0,
    };
    let parts = parts(&mut draft);
    let root = draft.pipeline.sequence(parts);
    draft.pipeline.compile("pipeline", root).unwrap()
}

pub(super) fn step(draft: &mut Draft, name: &str, does: Does) -> NodeId {
    draft.pipeline.step(name, StepNode::new(does))
}

pub(super) fn retried(draft: &mut Draft, name: &str, does: Does, retries: u32) -> NodeId {
    let mut step = StepNode::new(does);
    step.policy.max_retries = retries;
    draft.pipeline.step(name, step)
}

/// A part as the work of a step that is tried twice.
pub(super) fn tried(draft: &mut Draft, name: &str, body: NodeId) -> NodeId {
    draft.pipeline.step(name, StepNode::of(Work::Body(body)))
}

pub(super) fn with_fallback(draft: &mut Draft, name: &str, retries: u32, fallback: NodeId) -> NodeId {
    let mut step = StepNode::new(Does::FailTimes(u32::MAX, 0));
    step.policy.max_retries = retries;
    step.fallback = Some(fallback);
    draft.pipeline.step(name, step)
}

pub(super) fn branches(draft: &mut Draft, name: &str, branches: Vec<(&str, NodeId)>) -> NodeId {
    let node = ParallelNode {
        branches: branches
            .into_iter()
            .map(|(name, id)| (Arc::from(name), id))
            .collect(),
        router: None,
        on_failure: LaneFailure::default(),
        max_concurrency: None,
        merge: None,
        collect: Does::Same,
    };
    draft.pipeline.parallel(name, node)
}

pub(super) fn each(draft: &mut Draft, name: &str, body: NodeId, items: usize) -> NodeId {
    let node = MapNode {
        body,
        items: Does::Items(items),
        max_concurrency: 2,
        on_failure: LaneFailure::default(),
        merge: None,
        collect: Does::Same,
    };
    draft.pipeline.map(name, node)
}

pub(super) fn ask(draft: &mut Draft, name: &str) -> NodeId {
    let node = HumanNode {
        question: Does::Same,
        accept: None,
        timeout: None,
        default: None,
    };
    draft.pipeline.human(name, node)
}

pub(super) struct Host {
    pub(super) plan: Arc<Plan<Does>>,
    pub(super) now: Time,
    /// What was current in the last agent called.
    pub(super) current: Option<SpanContext>,
    failed: HashMap<NodeId, u32>,
    watched: Vec<usize>,
}

type Spans = MachineSpans<Toy>;

impl Host {
    pub(super) fn new(plan: Plan<Does>) -> Self {
        Self {
            plan: Arc::new(plan),
            now: 0,
            current: None,
            failed: HashMap::new(),
            watched: Vec::new(),
        }
    }

    fn begin(&mut self, telemetry: &dyn Telemetry<Toy>, run: &RunStart, input: i64) -> (Machine<Toy>, Spans) {
        self.failed.clear();
        let options = Options::default();
        let mut machine = Machine::start(Arc::clone(&self.plan), options, input, (), self.now, None);
        let spans = Spans::begin(telemetry, run, &machine);
        machine.listen(spans.hears());
        (machine, spans)
    }

    pub(super) fn run(&mut self, telemetry: &dyn Telemetry<Toy>, run: &RunStart, input: i64) -> Finish<Toy> {
        let (mut machine, spans) = self.begin(telemetry, run, input);
        self.finish(&mut machine, spans)
    }

    /// The same; gives what `look` found after each call.
    pub(super) fn watch(
        &mut self,
        telemetry: &dyn Telemetry<Toy>,
        run: &RunStart,
        input: i64,
        mut look: impl FnMut() -> usize,
    ) -> Vec<usize> {
        let (mut machine, mut spans) = self.begin(telemetry, run, input);
        while self.turn(&mut machine, &mut spans).is_none() {
            self.watched.push(look());
        }
        self.watched.push(look());
        std::mem::take(&mut self.watched)
    }

    pub(super) fn pause(
        &mut self,
        telemetry: &dyn Telemetry<Toy>,
        run: &RunStart,
        input: i64,
    ) -> Machine<Toy> {
        let (mut machine, mut spans) = self.begin(telemetry, run, input);
        while machine.pause().is_none() {
            assert!(self.turn(&mut machine, &mut spans).is_none());
        }
        spans.paused(&machine, self.now);
        machine
    }

    pub(super) fn resume(
        &mut self,
        telemetry: &dyn Telemetry<Toy>,
        run: &RunStart,
        mut machine: Machine<Toy>,
        answer: i64,
    ) -> Finish<Toy> {
        let spans = Spans::begin(telemetry, run, &machine);
        machine.listen(spans.hears());
        let pause = machine.pause().unwrap();
        self.now += 10;
        let at = self.now;
        machine.handle(Event::Resumed { pause, answer, at });
        self.finish(&mut machine, spans)
    }

    /// Drops the run while its first agent is under way.
    pub(super) fn give_up(&mut self, telemetry: &dyn Telemetry<Toy>, run: &RunStart, input: i64) {
        let (mut machine, mut spans) = self.begin(telemetry, run, input);
        while let Some(command) = machine.poll() {
            match command {
                Command::Notify(notice) => spans.notice(&notice),
                Command::Call(_) => break,
                _ => {}
            }
        }
        self.now += 10;
        spans.dropped(&machine, self.now);
        spans.dropped(&machine, self.now); // a second time does nothing
    }

    fn finish(&mut self, machine: &mut Machine<Toy>, mut spans: Spans) -> Finish<Toy> {
        loop {
            if let Some(finish) = self.turn(machine, &mut spans) {
                return *finish;
            }
        }
    }

    /// Does what the machine asks until it waits, or has ended.
    fn turn(&mut self, machine: &mut Machine<Toy>, spans: &mut Spans) -> Option<Box<Finish<Toy>>> {
        let mut lanes = Vec::new();
        while let Some(command) = machine.poll() {
            match command {
                Command::Call(call) => {
                    let event = self.call(machine, spans, &call);
                    machine.handle(event);
                    spans.waits(machine, self.now);
                    if lanes.is_empty() {
                        return None;
                    }
                }
                Command::Notify(notice) => spans.notice(&notice),
                Command::Spawn {
                    lane,
                    machine: mut below,
                } => {
                    let spans = spans.lane(machine, &below);
                    let finish = self.finish(&mut below, spans);
                    lanes.push((lane, Box::new(finish)));
                }
                Command::CancelLane(_) | Command::Pause(_) => {}
                Command::Finish(finish) => {
                    spans.finished(&finish, self.now);
                    return Some(finish);
                }
                other => panic!("the toy does not know {other:?}"),
            }
        }
        for (lane, finish) in lanes {
            let at = self.now;
            machine.handle(Event::LaneFinished { lane, finish, at });
        }
        None
    }

    fn call(&mut self, machine: &Machine<Toy>, spans: &mut Spans, call: &Call<Toy>) -> Event<Toy> {
        let started = self.now;
        self.now += 10;
        let (id, at) = (call.call, self.now);
        let value = match &call.input {
            Input::Value(value) => *value,
            _ => 0,
        };
        let does = self.plan.node(call.node).callable(call.role, call.index).unwrap();
        let agent = call.role == Role::Agent;
        if agent {
            self.current = Some(spans.current(machine, call.attempt));
        }
        let (event, status, usage) = match does {
            Does::FailTimes(times, _) if *self.failed.entry(call.node).or_default() < *times => {
                *self.failed.entry(call.node).or_default() += 1;
                let failure = Failure::new(FailureKind::Agent, "Broken", "a secret text");
                let event = Event::Failed {
                    call: id,
                    failure: Box::new(failure),
                    usage: Usage::ZERO,
                    at,
                };
                (event, SpanStatus::Error, Usage::ZERO)
            }
            does => {
                let (value, usage) = match does {
                    Does::Add(more) | Does::FailTimes(_, more) => (value + more, Usage::ZERO),
                    Does::Model => (value, model_usage()),
                    Does::Items(_) | Does::Same => (value, Usage::ZERO),
                };
                let answer = match does {
                    Does::Items(items) => Answer::Items(vec![value; *items]),
                    _ => Answer::Value { value, usage },
                };
                let event = Event::Answered {
                    call: id,
                    answer,
                    context: None,
                    at,
                };
                (event, SpanStatus::Ok, usage)
            }
        };
        if agent {
            let model = matches!(does, Does::Model);
            spans.called(AgentCall {
                call: id,
                node: call.node,
                record: machine.record_under_way(),
                attempt: call.attempt,
                started,
                ended: at,
                status,
                error_type: (status == SpanStatus::Error).then(|| Arc::from("Broken")),
                usage,
                tokens: model.then_some(TokenCounts {
                    input: 30,
                    output: 12,
                }),
                model: model.then(|| Arc::from("model-x")),
                content: Some(Content {
                    input: Arc::from("the input"),
                    output: None,
                }),
            });
        }
        event
    }
}
