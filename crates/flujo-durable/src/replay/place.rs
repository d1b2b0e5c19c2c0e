//! One machine of a run that is made again, with what it waits for.

use std::collections::BTreeMap;
use std::sync::Arc;

use flujo_core::machine::{
    CacheLead, CacheTicket, Call, Command, Event, Finish, LaneId, Machine, Pause, Time,
};
use flujo_core::plan::{NodeId, Plan};

use crate::{Happened, Host, Once, Recorded};

#[derive(Debug)]
pub(super) struct Place<D: Recorded> {
    pub(super) machine: Machine<D>,
    pub(super) parent: Option<(u32, LaneId)>,
    asked: Asked<D>,
    /// The step that it asked for last.
    pub(super) step: Option<NodeId>,
    /// What its step has recorded.
    pub(super) once: Option<Once<D::Object>>,
    /// Lanes that were started and have not begun.
    pub(super) spawned: BTreeMap<LaneId, Box<Machine<D>>>,
    /// Lanes that have begun, by their numbers.
    pub(super) lanes: BTreeMap<LaneId, u32>,
    /// Its context when it began.
    pub(super) context: D::Context,
    /// What it asks somebody outside, while it stands still for that.
    pub(super) question: Option<Pause<D>>,
    pub(super) finish: Option<Box<Finish<D>>>,
}

/// What a machine waits for, as far as it matters.
#[derive(Debug)]
enum Asked<D: Recorded> {
    Nothing,
    Call(Box<Call<D>>),
    Look(D::Context),
}

pub(super) fn again<D: Recorded>(
    plan: &Arc<Plan<D::Callable>>,
    machine: &Machine<D>,
    host: Host,
    at: Time,
) -> Machine<D> {
    let (plan, state) = (Arc::clone(plan), machine.save(at));
    let again = match host {
        Host::Same => Machine::restore(plan, state, at),
        Host::Another => Machine::take_over(plan, state, at),
    };
    again.stopped_like(machine)
}

impl<D: Recorded> Place<D> {
    /// The call that it waits to be answered.
    pub(super) fn call(&self) -> Option<&Call<D>> {
        match &self.asked {
            Asked::Call(call) => Some(call),
            Asked::Nothing | Asked::Look(_) => None,
        }
    }

    /// A machine that begins here.
    pub(super) fn new(machine: Machine<D>, parent: Option<(u32, LaneId)>) -> Self {
        let context = machine.context().clone();
        let mut place = Self {
            machine,
            parent,
            asked: Asked::Nothing,
            step: None,
            once: None,
            spawned: BTreeMap::new(),
            lanes: BTreeMap::new(),
            context,
            question: None,
            finish: None,
        };
        place.pump();
        place
    }

    /// Takes what the machine asks for, until it waits.
    pub(super) fn pump(&mut self) {
        while let Some(command) = self.machine.poll() {
            match command {
                Command::Call(call) => {
                    self.step = Some(call.node);
                    self.asked = Asked::Call(Box::new(call));
                }
                Command::CacheGet(get) => {
                    self.step = Some(get.node);
                    self.asked = Asked::Look(get.context);
                }
                Command::Pause(question) => {
                    self.step = Some(question.node);
                    self.question = Some(question);
                }
                Command::Spawn { lane, machine } => {
                    self.spawned.insert(lane, machine);
                }
                Command::Finish(finish) => self.finish = Some(finish),
                _ => {}
            }
        }
    }

    /// What was under way is asked for again.
    pub(super) fn go_on(&mut self, plan: &Arc<Plan<D::Callable>>, host: Host, at: Time) {
        if self.finish.is_some() {
            return;
        }
        self.machine = again(plan, &self.machine, host, at);
        self.asked = Asked::Nothing;
        self.pump();
    }

    pub(super) fn take_in(&mut self, step: Option<&str>, happened: Happened<D>) -> Result<(), String> {
        let name = happened.name();
        let unasked = || format!("it tells of {name} that nothing asked for");
        let here = self
            .step
            .map(|node| Arc::clone(&self.machine.plan().node(node).path));
        if let (Some(step), Some(here)) = (step, &here)
            && *step != **here
        {
            return Err(format!(
                "it tells of {name} in step `{step}`, where the pipeline is at step `{here}` now"
            ));
        }
        let event = match happened {
            Happened::Answered {
                call,
                answer,
                writes,
                at,
            } => {
                let context = match (&self.asked, writes) {
                    (Asked::Call(asked), Some(writes)) if asked.call == call => {
                        Some(D::written(&asked.context, asked.isolated, writes)?)
                    }
                    (_, None) => None,
                    _ => return Err(unasked()),
                };
                Event::Answered {
                    call,
                    answer,
                    context,
                    at,
                }
            }
            Happened::Again { call, at } => match &self.asked {
                Asked::Call(asked) if asked.call == call => {
                    let again = D::again(&self.machine, asked, at);
                    again.ok_or_else(|| format!("it tells of {name} that can't be made again"))?
                }
                _ => return Err(unasked()),
            },
            Happened::Once { call, key, value } => {
                // What was recorded when the call had ended belongs to nothing.
                if let (Asked::Call(asked), Some(here)) = (&self.asked, here)
                    && asked.call == call
                {
                    self.record_once(here, key, value);
                }
                return Ok(());
            }
            Happened::Failed {
                call,
                failure,
                usage,
                at,
            } => Event::Failed {
                call,
                failure,
                usage,
                at,
            },
            Happened::TimedOut { call, usage, at } => Event::TimedOut { call, usage, at },
            Happened::CallCancelled { call, at } => Event::CallCancelled { call, at },
            Happened::Woke { timer, at } => Event::Woke { timer, at },
            Happened::Reserved => Event::Reserved,
            Happened::Refused(breach) => Event::Refused(breach),
            Happened::CacheHit {
                call,
                output,
                saved,
                at,
            } => Event::CacheHit {
                call,
                output,
                saved,
                at,
            },
            Happened::CacheMiss { call, lead, at } => Event::CacheMiss {
                call,
                // Nobody waits for what is made: it is forgotten as soon as the run goes on.
                lead: lead.map(|watched| CacheLead {
                    ticket: CacheTicket(0),
                    context: match &self.asked {
                        Asked::Look(context) if watched => Some(D::fork(context)),
                        _ => None,
                    },
                }),
                at,
            },
            Happened::Resumed { pause, answer, at } => Event::Resumed { pause, answer, at },
            Happened::Expired { pause, at } => Event::Expired { pause, at },
            Happened::Cancel { at } => Event::Cancel { at },
            Happened::Began { .. }
            | Happened::WentOn { .. }
            | Happened::TakenUp { .. }
            | Happened::LaneFinished { .. } => return Err(unasked()),
        };
        if !self.machine.expects(&event) {
            return Err(unasked());
        }
        self.machine.handle(event);
        self.pump();
        Ok(())
    }

    fn record_once(&mut self, step: Arc<str>, key: Arc<str>, value: D::Object) {
        let iterations = self
            .machine
            .round()
            .map(|round| round.indices())
            .unwrap_or_default();
        let once = self.once.take().filter(|once| once.is_of(&step, &iterations));
        let once = self
            .once
            .insert(once.unwrap_or_else(|| Once::new(step, iterations)));
        once.record(key, value);
    }
}
