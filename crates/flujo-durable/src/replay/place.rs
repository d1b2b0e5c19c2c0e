//! One machine of a run that is made again, with what it waits for.

use std::collections::BTreeMap;
use std::sync::Arc;

use flujo_core::machine::{
    CacheLead, CacheTicket, Call, Command, Event, Finish, LaneId, Machine, Options, Pause, PauseId, Time,
};
use flujo_core::plan::{NodeId, Plan};
use flujo_core::store::WallTime;

use crate::{Happened, Host, Once, Recorded, Sleeping};

#[derive(Debug)]
pub(super) struct Place<D: Recorded> {
    pub(super) machine: Machine<D>,
    pub(super) parent: Option<(u32, LaneId)>,
    asked: Asked<D>,
    /// As it was until it began, as long as nothing has happened to it.
    unbegun: Option<Box<Machine<D>>>,
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
    /// What it sleeps through, as it was written down last.
    sleeping: Option<Sleeping>,
    /// When its question was asked, as far as that is known.
    asked_at: Option<(PauseId, WallTime)>,
}

/// What a machine waits for, as far as it matters.
#[derive(Debug)]
enum Asked<D: Recorded> {
    Nothing,
    Call(Box<Call<D>>),
    Look(D::Context),
}

/// The machine made again, as it goes on at `at`, having still to sleep for so long at most.
pub(super) fn again<D: Recorded>(
    plan: &Arc<Plan<D::Callable>>,
    machine: &Machine<D>,
    (host, options): (Host, Option<Options>),
    at: Time,
    sleeps: Option<Time>,
) -> Machine<D> {
    let (plan, mut state) = (Arc::clone(plan), machine.save(at));
    if let Some(left) = sleeps {
        state.sleep_at_most(left);
    }
    let again = match host {
        Host::Same => Machine::restore(plan, state, at),
        Host::Another => Machine::take_over(plan, state, options, at),
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
    pub(super) fn new(mut machine: Machine<D>, parent: Option<(u32, LaneId)>) -> Self {
        let context = machine.context().clone();
        let unbegun = (!machine.has_begun()).then(|| Box::new(machine.clone()));
        let once = machine.take_once();
        let mut place = Self {
            unbegun,
            machine,
            parent,
            asked: Asked::Nothing,
            step: None,
            once,
            spawned: BTreeMap::new(),
            lanes: BTreeMap::new(),
            context,
            question: None,
            finish: None,
            sleeping: None,
            asked_at: None,
        };
        place.pump();
        place
    }

    /// What it sleeps through, if that was written down.
    pub(super) fn sleeping(&self) -> Option<Sleeping> {
        self.sleeping
            .filter(|sleeping| self.machine.timer() == Some(sleeping.timer))
    }

    pub(super) fn sleeps(&mut self, sleeping: Option<Sleeping>) {
        self.sleeping = sleeping;
    }

    /// When the question was asked that it waits with, if that was written down.
    pub(super) fn asked_at(&self) -> Option<WallTime> {
        let (pause, since) = self.asked_at?;
        (self.machine.pause() == Some(pause)).then_some(since)
    }

    /// The question that it waits with was asked then.
    pub(super) fn was_asked(&mut self, since: WallTime) {
        self.asked_at = self.machine.pause().map(|pause| (pause, since));
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
                Command::Finish(mut finish) => {
                    if let (Some(kept), Some(once)) = (&mut finish.kept, self.once.take()) {
                        kept.keep_once(once);
                    }
                    self.finish = Some(finish);
                }
                _ => {}
            }
        }
    }

    /// What was under way is asked for again.
    pub(super) fn go_on(
        &mut self,
        plan: &Arc<Plan<D::Callable>>,
        host: Host,
        options: Option<Options>,
        at: Time,
    ) {
        self.ask_spawned(options);
        if self.finish.is_some() {
            return;
        }
        self.machine = again(plan, &self.machine, (host, options), at, None);
        self.unbegun = None;
        self.asked = Asked::Nothing;
        self.pump();
    }

    /// Lanes that were started, and that had not begun, begin with other options.
    pub(super) fn ask_spawned(&mut self, options: Option<Options>) {
        if let Some(options) = options {
            let lanes = self.spawned.values_mut();
            lanes.for_each(|lane| lane.ask_for(options));
        }
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
        let Some(happened) = self.noted(here, happened) else {
            return Ok(());
        };
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
            Happened::Cancel { at, .. } => Event::Cancel { at },
            Happened::Once { .. }
            | Happened::Sleeps { .. }
            | Happened::Asks { .. }
            | Happened::Began { .. }
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

    /// Takes in what the machine itself isn't told of; gives back anything else, for a machine that is as it was then.
    fn noted(&mut self, here: Option<Arc<str>>, happened: Happened<D>) -> Option<Happened<D>> {
        match happened {
            Happened::Once { call, key, value } => {
                // What was recorded when the call had ended belongs to nothing.
                if let (Asked::Call(asked), Some(here)) = (&self.asked, here)
                    && asked.call == call
                {
                    self.record_once(here, key, value);
                }
            }
            Happened::Sleeps { timer, left, since } => {
                self.sleeping = Some(Sleeping { timer, left, since });
            }
            Happened::Asks { pause, since } => self.asked_at = Some((pause, since)),
            other => {
                let unbegun = self.unbegun.take();
                if let (Happened::Cancel { unbegun: true, .. }, Some(unbegun)) = (&other, unbegun) {
                    self.machine = *unbegun;
                    self.once = self.machine.take_once();
                }
                return Some(other);
            }
        }
        None
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
