//! A run made again from what was written of it, without a call of user code.

mod fork;
mod place;

use std::collections::BTreeMap;
use std::sync::Arc;

use flujo_core::machine::{
    Call, Event, Failure, Finish, History, LaneId, LanePlace, Machine, Options, Outcome, Pause, Time,
};
use flujo_core::plan::Plan;
use flujo_core::store::WallTime;
use flujo_core::usage::{Usage, UsageLimits};

use crate::snapshot::{Saved, Snapshot};
use crate::{Entry, Happened, Host, Once, Recorded};

use place::{Place, again};

pub use fork::{ForkError, ForkPoint};

/// A run that is made again, entry by entry.
#[derive(Debug)]
pub struct Replay<D: Recorded> {
    plan: Arc<Plan<D::Callable>>,
    /// By number; `None`: it ended and its end was told.
    machines: Vec<Option<Place<D>>>,
    finish: Option<Box<Finish<D>>>,
    limits: Option<UsageLimits>,
}

/// A question that waits for its answer.
#[derive(Debug, Clone)]
pub struct OpenQuestion<D: Recorded> {
    /// Names it within its run; see [`Machine::question_id`].
    pub id: String,
    /// The number of the machine that asks.
    pub machine: u32,
    /// The branch or item around it, such as `split[left]` or `each[3]`; empty outside of them.
    pub lane: String,
    /// What is asked, and by which node.
    pub question: Pause<D>,
}

/// A machine that goes on: what it waited for has been asked for again.
#[derive(Debug)]
pub struct Restored<D: Recorded> {
    /// Its number.
    pub number: u32,
    /// The number of the machine that started it, and its name there; `None` for the run itself.
    pub parent: Option<(u32, LaneId)>,
    /// The machine.
    pub machine: Machine<D>,
    /// What its step that is under way has recorded, to be given back instead of being done again.
    pub once: Option<Once<D::Object>>,
}

/// A run that goes on where the last record was written.
#[derive(Debug)]
pub enum GoingOn<D: Recorded> {
    /// It had ended.
    Ended(Box<Finish<D>>),
    /// It has not ended.
    Machines {
        /// What is to be written before anything else happens.
        entries: Vec<Entry<D>>,
        /// Its machines, each behind the one that started it.
        machines: Vec<Restored<D>>,
        /// The number of the next machine that begins.
        next: u32,
    },
}

impl<D: Recorded> Replay<D> {
    /// A run as a snapshot shows it.
    pub fn new(plan: Arc<Plan<D::Callable>>, snapshot: Snapshot<D>) -> Result<Self, String> {
        let mut replay = Self {
            plan,
            machines: Vec::new(),
            finish: None,
            limits: None,
        };
        match snapshot {
            Snapshot::Start(start) => {
                let machine = Machine::start(
                    Arc::clone(&replay.plan),
                    start.options,
                    start.input,
                    start.context,
                    start.now,
                    start.deadline,
                );
                replay.put(0, None, machine);
            }
            Snapshot::Machines {
                machines,
                next,
                asked,
                limits,
            } => {
                replay.limits = limits;
                replay.machines.resize_with(next as usize, || None);
                for Saved {
                    machine,
                    parent,
                    state,
                    once,
                    sleeping,
                } in machines
                {
                    let now = state.now();
                    let restored = Machine::restore(Arc::clone(&replay.plan), state, now);
                    if let Some((around, lane)) = parent {
                        replay.place(around)?.lanes.insert(lane, machine);
                    }
                    replay.put(machine, parent, restored);
                    let place = replay.place(machine)?;
                    place.once = once;
                    place.sleeps(sleeping);
                }
                for (machine, since) in asked {
                    replay.place(machine)?.was_asked(since);
                }
            }
            Snapshot::Ended(finish) => replay.finish = Some(finish),
        }
        Ok(replay)
    }

    fn put(&mut self, number: u32, parent: Option<(u32, LaneId)>, machine: Machine<D>) {
        let at = number as usize;
        if self.machines.len() <= at {
            self.machines.resize_with(at + 1, || None);
        }
        let place = Place::new(machine, parent);
        self.machines[at] = Some(place);
        self.note_end(number);
    }

    /// The number of the next machine that begins.
    fn next(&self) -> Result<u32, String> {
        u32::try_from(self.machines.len()).map_err(|_| "it has too many lanes".to_owned())
    }

    fn place(&mut self, number: u32) -> Result<&mut Place<D>, String> {
        let place = self.machines.get_mut(number as usize).and_then(Option::as_mut);
        place.ok_or_else(|| format!("it tells of machine {number}, which isn't there"))
    }

    fn note_end(&mut self, number: u32) {
        let Some(Some(place)) = self.machines.get_mut(number as usize) else {
            return;
        };
        if place.parent.is_none()
            && let Some(finish) = place.finish.take()
        {
            self.finish = Some(finish);
            self.machines[number as usize] = None;
        }
    }

    /// Feeds what happened next.
    ///
    /// # Errors
    /// What doesn't fit: the plan asks for something else than was answered.
    pub fn feed(&mut self, entry: Entry<D>) -> Result<(), String> {
        let number = entry.machine;
        match entry.happened {
            Happened::Began { parent, lane } => {
                let around = self.place(parent)?;
                let machine = around.spawned.remove(&lane);
                let machine =
                    machine.ok_or_else(|| format!("it tells of lane {} that nothing started", lane.0))?;
                around.lanes.insert(lane, number);
                self.put(number, Some((parent, lane)), *machine);
                return Ok(());
            }
            Happened::WentOn { host, options, at } => {
                for place in self.machines.iter_mut().flatten() {
                    place.go_on(&self.plan, host, options, at);
                }
                return Ok(());
            }
            Happened::TakenUp { options, at, limits } => {
                self.limits = limits;
                return self.take_up(options, at);
            }
            Happened::LaneFinished { lane, broke, at } => {
                let finish = self.lane_ended(number, lane, broke)?;
                let place = self.place(number)?;
                place.machine.handle(Event::LaneFinished { lane, finish, at });
                place.pump();
            }
            happened => self.place(number)?.take_in(entry.step.as_deref(), happened)?,
        }
        self.note_end(number);
        Ok(())
    }

    /// Takes the end of a lane out.
    fn lane_ended(
        &mut self,
        parent: u32,
        lane: LaneId,
        broke: Option<Arc<Failure<D>>>,
    ) -> Result<Box<Finish<D>>, String> {
        let number = self.place(parent)?.lanes.remove(&lane);
        let number =
            number.ok_or_else(|| format!("it tells of the end of lane {}, which never began", lane.0))?;
        let place = self.machines.get_mut(number as usize).and_then(Option::take);
        let place = place.ok_or_else(|| format!("it tells of the end of lane {} a second time", lane.0))?;
        match (place.finish, broke) {
            (Some(finish), _) => Ok(finish),
            (None, Some(failure)) => Ok(Box::new(Finish {
                outcome: Outcome::Failed(failure),
                context: place.context,
                history: History::default(),
                usage: Usage::ZERO,
                kept: None,
            })),
            (None, None) => Err(format!(
                "it tells of the end of lane {}, which has more to do",
                lane.0
            )),
        }
    }

    fn take_up(&mut self, options: Options, at: Time) -> Result<(), String> {
        let finish = self.finish.take();
        let Some(kept) = finish.and_then(|finish| finish.kept) else {
            return Err("it tells of going on after a stop, which there was none".to_owned());
        };
        let machine = Machine::go_on(Arc::clone(&self.plan), *kept, options, at);
        self.machines.clear();
        self.put(0, None, machine);
        Ok(())
    }

    /// The latest time that was told of.
    pub fn now(&self) -> Time {
        let places = self.machines.iter().flatten();
        places.map(|place| place.machine.now()).max().unwrap_or_default()
    }

    /// A machine that has not ended, by its number, with the path of the step that it asked something for last.
    pub fn step_of(&self, machine: u32) -> Option<(&Machine<D>, &Arc<str>)> {
        let place = self.machines.get(machine as usize)?.as_ref()?;
        let step = place.machine.plan().node(place.step?);
        Some((&place.machine, &step.path))
    }

    /// What the run has done so far, lanes under way included; see [`Machine::so_far`]. `None` once it has ended.
    pub fn so_far(&self) -> Option<Finish<D>> {
        // Lanes have higher numbers than what is around them.
        let mut lanes: Vec<BTreeMap<LaneId, Arc<Finish<D>>>> = Vec::new();
        lanes.resize_with(self.machines.len(), BTreeMap::new);
        for (number, place) in self.machines.iter().enumerate().skip(1).rev() {
            let Some(place) = place else { continue };
            let mut below = std::mem::take(&mut lanes[number]);
            let finish = match &place.finish {
                Some(finish) => (**finish).clone(),
                None => place.machine.so_far(|lane| below.remove(&lane)),
            };
            if let Some((parent, lane)) = place.parent
                && let Some(around) = lanes.get_mut(parent as usize)
            {
                around.insert(lane, Arc::new(finish));
            }
        }
        let mut below = lanes.into_iter().next()?;
        let run = &self.machines.first()?.as_ref()?.machine;
        Some(run.so_far(|lane| below.remove(&lane)))
    }

    /// A machine that waits for a call to be answered, with that call.
    pub fn call(&self, machine: u32) -> Option<(&Machine<D>, &Call<D>)> {
        let place = self.machines.get(machine as usize)?.as_ref()?;
        Some((&place.machine, place.call()?))
    }

    /// The questions that wait for answers, those of machines that began earlier first.
    pub fn questions(&self) -> Vec<OpenQuestion<D>> {
        let open = |(number, place): (u32, &Option<Place<D>>)| {
            let place = place.as_ref()?;
            let question = place.question.as_ref()?;
            if place.machine.pause() != Some(question.pause) {
                return None;
            }
            let lane = place.machine.lane().map(Arc::as_ref);
            Some(OpenQuestion {
                id: place.machine.question_id(question.node, question.pause),
                machine: number,
                lane: lane
                    .map(|lane| LanePlace::name(lane, &self.plan))
                    .unwrap_or_default(),
                question: question.clone(),
            })
        };
        (0u32..).zip(&self.machines).filter_map(open).collect()
    }

    /// When the questions were asked that wait, as far as that was written down: by the numbers of their machines.
    pub fn asked(&self) -> Vec<(u32, WallTime)> {
        let asked = |(number, place): (u32, &Option<Place<D>>)| Some((number, place.as_ref()?.asked_at()?));
        (0u32..).zip(&self.machines).filter_map(asked).collect()
    }

    /// The limits that it went on with after it was stopped, if they weren't its runner's own.
    pub fn limits(&self) -> Option<UsageLimits> {
        self.limits
    }

    /// The plan it is replayed on.
    pub fn plan(&self) -> &Arc<Plan<D::Callable>> {
        &self.plan
    }

    /// Tells machines of the ends of their lanes that were written, and that they had not been told of; gives what is to
    /// be written of that. For a run whose host is gone; then there is nobody else who would tell them.
    ///
    /// # Errors
    /// When what was recorded contradicts itself.
    pub fn settle(&mut self) -> Result<Vec<Entry<D>>, String> {
        let mut entries = Vec::new();
        let mut number = self.machines.len();
        while number > 0 {
            number -= 1;
            let Some(Some(place)) = self.machines.get(number) else {
                continue;
            };
            let (Some((parent, lane)), true) = (place.parent, place.finish.is_some()) else {
                continue;
            };
            let now = self.place(parent)?.machine.now();
            let told = || {
                let (broke, at) = (None, now);
                Entry::of(parent, Happened::LaneFinished { lane, broke, at })
            };
            self.feed(told())?;
            entries.push(told());
        }
        Ok(entries)
    }

    /// The run as it is now, to go on at `at`, which is as late as [`now`](Self::now) or later: what is between has passed
    /// for its timers and deadlines, too. `wall` is the time on the wall: what it slept through goes on by that. Another host
    /// may want other `options` than it had.
    ///
    /// # Errors
    /// When it has too many lanes.
    pub fn go_on(
        mut self,
        host: Host,
        options: Option<Options>,
        at: Time,
        wall: WallTime,
    ) -> Result<GoingOn<D>, String> {
        if let Some(finish) = self.finish {
            return Ok(GoingOn::Ended(finish));
        }
        let mut next = self.next()?;
        let mut entries = vec![Entry::of(0, Happened::WentOn { host, options, at })];
        let mut machines = Vec::new();
        for (number, place) in (0u32..).zip(&mut self.machines) {
            let Some(place) = place.as_mut().filter(|place| place.finish.is_none()) else {
                continue;
            };
            let sleeps = place.sleeping().map(|sleeping| sleeping.left_at(wall));
            machines.push(Restored {
                number,
                parent: place.parent,
                machine: again(&self.plan, &place.machine, (host, options), at, sleeps),
                once: place.once.take(),
            });
            place.ask_spawned(options);
            for (lane, mut machine) in std::mem::take(&mut place.spawned) {
                entries.push(Entry::of(next, Happened::Began { parent: number, lane }));
                machines.push(Restored {
                    number: next,
                    parent: Some((number, lane)),
                    once: machine.take_once(),
                    machine: *machine,
                });
                next += 1;
            }
        }
        Ok(GoingOn::Machines {
            entries,
            machines,
            next,
        })
    }

    /// What the run has done so far, or how it ended.
    pub fn into_done(self) -> Option<Box<Finish<D>>> {
        match self.so_far() {
            Some(so_far) => Some(Box::new(so_far)),
            None => self.finish,
        }
    }

    /// How the run ended, if it has.
    pub fn into_finish(self) -> Option<Box<Finish<D>>> {
        self.finish
    }
}
