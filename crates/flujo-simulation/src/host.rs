//! The simulation itself: machines that are polled, calls that take virtual time, and one queue of what is due, from
//! which the seed draws what comes first among things due at the same time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use flujo_core::cache::Uncached;
use flujo_core::machine::{
    CallId, Command, Event, Finish, LaneId, LanePlace, Machine, Pause, PauseId, Role, Time, TimerId,
};
use flujo_core::plan::{Kind, NodeId, Plan};
use flujo_core::usage::Usage;
use flujo_durable::Start;

use crate::budget::Budget;
use crate::cache::Cache;
use crate::calls::{unclocked, written_event};
use crate::random::{Random, mix};
use crate::rates::Rates;
use crate::recording::Recording;
use crate::script::Reply;
use crate::trace::{NoticeTrace, PauseTrace, Ran, Trace};
use crate::under_way::{Due, Flight, Lane, Orphan};
use crate::{Callable, Case, Clock, Context, Object, Schedule, Script, Simulated, Ties};

pub use crate::stuck::Stuck;

/// More commands than any sensible case gives: a machine that goes round in circles.
pub(crate) const ENDLESS: u64 = 20_000_000;

/// A run and everything around it.
pub struct Simulation {
    pub(crate) plan: Arc<Plan<Callable>>,
    /// What hooks do: they share one script, whose acts go by the number of hook calls of the whole run.
    pub(crate) hook: Script,
    pub(crate) hook_calls: usize,
    pub(crate) schedule: Schedule,
    pub(crate) random: Random,
    pub(crate) now: Time,
    pub(crate) lanes: Vec<Option<Lane>>,
    /// Where each lane that has not been taken over by its parent is.
    pub(crate) ids: HashMap<(usize, LaneId), usize>,
    ready: Vec<usize>,
    pub(crate) flights: HashMap<(usize, CallId), Flight>,
    pub(crate) queue: BTreeMap<(Time, u64), Due>,
    sequence: u64,
    /// The lane that something happened to last.
    latest: Option<usize>,
    /// How often each callable has been called to the end, per lane.
    pub(crate) counts: HashMap<(u64, NodeId, Role, u32), usize>,
    pub(crate) rates: Rates,
    pub(crate) budget: Budget,
    pub(crate) cache: Cache,
    deadline: Option<Time>,
    pub(crate) trace: Trace,
    finished: Option<Box<Finish<Simulated>>>,
    /// What restored machines have yet to ask for again.
    pub(crate) orphans: HashSet<(usize, Orphan)>,
    pub(crate) dead_timers: HashSet<(usize, TimerId)>,
    /// Where in the trace each question is, once for each time it has been asked.
    asked: HashMap<(usize, PauseId), Vec<usize>>,
    /// What is written of a run that is saved on its way.
    pub(crate) recording: Option<Recording>,
}

impl Simulation {
    /// A run of a case, about to begin at time 0.
    ///
    /// # Errors
    /// [`Stuck::Unusable`] when the pipeline does not compile.
    pub fn new(case: &Case) -> Result<Self, Stuck> {
        let plan = case.plan().map_err(|error| Stuck::Unusable(error.to_string()))?;
        let mut simulation = Self::of(Arc::new(plan), case.input.clone(), case.context.clone(), case);
        simulation.hook = case.hook.clone();
        Ok(simulation)
    }

    /// A run of a plan that was made elsewhere; hooks, limits, deadline and schedule are those of `case`.
    pub fn of(plan: Arc<Plan<Callable>>, input: Object, context: Context, case: &Case) -> Self {
        let twin = case.twin();
        let recording = Recording::of(Start {
            options: case.options(),
            input: input.clone(),
            context: context.clone(),
            now: 0,
            deadline: case.deadline,
        });
        let machine = Machine::start(
            Arc::clone(&plan),
            case.options(),
            input,
            context,
            0,
            case.deadline,
        );
        let mut simulation = Self {
            plan,
            hook: Script::default(),
            hook_calls: 0,
            schedule: case.schedule.clone(),
            random: Random::new(case.schedule.seed),
            now: 0,
            lanes: vec![Some(Lane {
                machine,
                cancelled: false,
                parent: None,
                key: 0,
            })],
            ids: HashMap::new(),
            ready: vec![0],
            flights: HashMap::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            latest: None,
            counts: HashMap::new(),
            rates: Rates::new(case),
            budget: Budget::new(twin, case.limits),
            cache: Cache::new(twin),
            deadline: case.deadline,
            trace: Trace::default(),
            finished: None,
            orphans: HashSet::new(),
            dead_timers: HashSet::new(),
            asked: HashMap::new(),
            recording: (!case.schedule.save_after.is_empty()).then_some(recording),
        };
        if let Some(at) = case.schedule.cancel_at {
            simulation.push(at, Due::Cancelled);
        }
        simulation
    }

    /// Runs to the end.
    ///
    /// # Errors
    /// [`Stuck`] when the run does not end.
    pub fn run(mut self) -> Result<Ran, Stuck> {
        loop {
            self.poll_all()?;
            if let Some(finish) = self.finished.take() {
                self.tells(&finish)?;
                return Ok(self.end(*finish));
            }
            if self.wants_save() {
                self.save_and_restore()?;
                continue;
            }
            let Some(due) = self.take_due() else {
                return Err(Stuck::Waiting(self.describe()));
            };
            self.happen(due);
        }
    }

    fn end(mut self, finish: Finish<Simulated>) -> Ran {
        self.trace.left_calls += self.flights.len();
        self.trace.left_leads += self.cache.left();
        self.trace.left_lanes += self.lanes.iter().flatten().count();
        // Reservations that were given back in the last moment.
        for due in std::mem::take(&mut self.queue).into_values() {
            if let Due::Budget {
                node,
                estimate,
                actual,
                ..
            } = due
            {
                let _ = self.ask_budget(node, estimate, actual);
            }
        }
        Ran {
            finish,
            trace: self.trace,
            budget: self.budget,
            ended: self.now,
            deadline: self.deadline,
            recording: self.recording,
        }
    }

    /// Polls machines until all of them wait.
    pub(crate) fn poll_all(&mut self) -> Result<(), Stuck> {
        while !self.ready.is_empty() {
            let place = self.random.below(self.ready.len());
            let lane = self.ready[place];
            let command = self.lanes[lane].as_mut().and_then(|lane| lane.machine.poll());
            let Some(command) = command else {
                self.ready.swap_remove(place);
                continue;
            };
            self.carry_out(lane, command)?;
            self.trace.commands += 1;
            if self.trace.commands > ENDLESS {
                return Err(Stuck::Endless);
            }
            if self
                .schedule
                .cancel_after
                .is_some_and(|after| self.trace.commands >= u64::from(after))
            {
                self.schedule.cancel_after = None;
                self.cancel();
            }
        }
        Ok(())
    }

    fn cancel(&mut self) {
        if self.finished.is_none() {
            self.trace.cancelled_at = Some(self.now);
            self.tell(0, Event::Cancel { at: self.now });
        }
    }

    pub(crate) fn tell(&mut self, lane: usize, event: Event<Simulated>) {
        if let Some(running) = self.lanes.get_mut(lane).and_then(Option::as_mut) {
            running.cancelled |= matches!(event, Event::Cancel { .. });
            let event = match self.schedule.clock {
                Clock::AskedWhereItShows => unclocked(&running.machine, event, self.now),
                Clock::Heard | Clock::Asked => event,
            };
            if let Some(recording) = &mut self.recording
                && running.machine.expects(&event)
            {
                recording.told(lane, &running.machine, &event);
            }
            running.machine.handle(event);
            self.wake(lane);
        }
    }

    pub(crate) fn wake(&mut self, lane: usize) {
        if !self.ready.contains(&lane) {
            self.ready.push(lane);
        }
    }

    pub(crate) fn push(&mut self, at: Time, due: Due) -> (Time, u64) {
        self.sequence += 1;
        let key = (at.max(self.now), self.sequence);
        self.queue.insert(key, due);
        key
    }

    /// The next thing to happen: any of those that are due first. A run that only waits for answers stands still, and
    /// so does its time.
    fn take_due(&mut self) -> Option<Due> {
        let is_answer = |due: &Due| matches!(due, Due::Replied { .. });
        // What a call that was given up does later, a timer that nobody needs any more, and a request from outside keep no
        // run going.
        let is_left = |due: &Due| match due {
            Due::Late { .. } | Due::Cancelled => true,
            Due::LookLate { look, .. } => !self.cache.is_waiting(*look),
            Due::Woke { lane, timer } => self.dead_timers.contains(&(*lane, *timer)),
            due => is_answer(due),
        };
        if self.queue.values().all(is_left) {
            let answers = self.queue.extract_if(.., |_, due| is_answer(due));
            for (_, due) in answers.collect::<Vec<_>>() {
                self.push(self.now, due);
            }
        }
        let (first, _) = *self.queue.first_key_value()?.0;
        let together = || self.queue.range((first, 0)..=(first, u64::MAX));
        let mut lanes = together().map(|(_, due)| due.lane());
        let one = lanes.next();
        self.trace.seed_decided += u32::from(lanes.any(|lane| Some(lane) != one));
        let chosen = match self.schedule.ties {
            Ties::Drawn => self.random.below(together().count()),
            Ties::LaneGoesOn => {
                let goes_on = |due: &Due| due.lane().is_some() && due.lane() == self.latest;
                together().position(|(_, due)| goes_on(due)).unwrap_or(0)
            }
        };
        let key = *together().nth(chosen)?.0;
        self.now = first;
        self.queue.remove(&key).inspect(|due| self.latest = due.lane())
    }

    fn happen(&mut self, due: Due) {
        let at = self.now;
        match due {
            Due::Cancelled => self.cancel(),
            Due::NextTurn => self.let_through(),
            Due::Admitted { lane } => self.was_admitted(lane),
            Due::NotAdmitted { lane } => self.was_not_admitted(lane),
            Due::CallEnds { lane, call, end } => self.call_ends(lane, call, end),
            Due::Late {
                lane,
                call,
                written,
                usage,
            } => {
                self.tell(lane, written_event(call, *written, usage, at));
            }
            Due::Look { look, .. } => self.look(look),
            Due::LookLate { look, .. } => self.look_late(look),
            Due::Woke { lane, timer } => self.tell(lane, Event::Woke { timer, at }),
            Due::Replied { lane, pause, answer } => {
                self.trace.replies += 1;
                let asked = self.asked.get(&(lane, pause)).and_then(|places| places.last());
                if let Some(asked) = asked.and_then(|place| self.trace.pauses.get_mut(*place)) {
                    asked.answered = Some(answer.is_some());
                }
                let event = match answer {
                    Some(answer) => Event::Resumed { pause, answer, at },
                    None => Event::Expired { pause, at },
                };
                self.tell(lane, event);
            }
            Due::LaneFinished { parent, lane, finish } => {
                self.ids.remove(&(parent, lane));
                self.tell(parent, Event::LaneFinished { lane, finish, at });
            }
            Due::Budget {
                lane,
                node,
                estimate,
                actual,
            } => {
                let event = self.ask_budget(node, estimate, actual);
                self.tell(lane, event);
            }
        }
    }

    fn ask_budget(&mut self, node: NodeId, estimate: Usage, actual: Option<Usage>) -> Event<Simulated> {
        let step = Arc::clone(&self.plan.node(node).name);
        let answer = match actual {
            None => self.budget.reserve(&step, estimate),
            Some(actual) => self.budget.settle(&step, estimate, actual),
        };
        match answer {
            Ok(()) => Event::Reserved,
            Err(breach) => Event::Refused(breach),
        }
    }

    fn carry_out(&mut self, lane: usize, command: Command<Simulated>) -> Result<(), Stuck> {
        match command {
            Command::Call(call) => {
                if let Some(recording) = &mut self.recording {
                    recording.asked.insert(lane, call.context.clone());
                }
                return self.begin_call(lane, &call);
            }
            Command::CancelCall(call) => {
                if !self.cancel_look(lane, call) && !self.cancel_admission(lane, call) {
                    self.cancel_call(lane, call);
                }
            }
            Command::CacheGet(get) => self.begin_look(lane, &get),
            Command::CachePut(put) => self.put(lane, &put),
            Command::CacheRelease { ticket, reason } => self.release(ticket, reason),
            command @ (Command::Admit { .. } | Command::Release { .. }) => self.rate(lane, &command),
            Command::Sleep { timer, until } => {
                if self.orphans.remove(&(lane, Orphan::Timer(timer, until))) {
                    return Ok(());
                }
                self.push(until, Due::Woke { lane, timer });
            }
            // A timer that fires nevertheless must do nothing, so it is left to fire.
            Command::CancelSleep(timer) => {
                self.dead_timers.insert((lane, timer));
            }
            Command::Took { .. } => {} // nobody watches
            Command::Notify(notice) => {
                let place = self.place(lane);
                self.trace.notices.push(NoticeTrace { lane: place, notice });
            }
            Command::Spawn { lane: id, machine } => self.spawn(lane, id, *machine),
            Command::CancelLane(id) => {
                if let Some(child) = self.ids.get(&(lane, id)).copied() {
                    if let Some(place) = self.place(child) {
                        self.trace.cancelled_lanes.push(place);
                    }
                    self.tell(child, Event::Cancel { at: self.now });
                }
            }
            Command::Reserve { node, estimate } => self.budget_due(lane, node, estimate, None),
            Command::Settle {
                node,
                estimate,
                actual,
            } => {
                self.budget_due(lane, node, estimate, Some(actual));
            }
            Command::Pause(pause) => self.ask_outside(lane, &pause),
            Command::Finish(finish) => self.finish(lane, finish),
        }
        Ok(())
    }

    /// Asks whoever the question's script names. A restored machine asks what has been asked already.
    fn ask_outside(&mut self, lane: usize, pause: &Pause<Simulated>) {
        if self.orphans.remove(&(lane, Orphan::Pause(pause.pause))) {
            return;
        }
        self.give_up_leads(lane, Uncached::Paused);
        let replies = match &self.plan.node(pause.node).kind {
            Kind::Human(human) => human.question.act(0).replies,
            _ => Vec::new(),
        };
        let asked = PauseTrace {
            lane: self.place(lane),
            record: pause.record,
            pause: pause.pause,
            after_rejection: pause.rejected.is_some(),
            answered: None,
        };
        let places = self.asked.entry((lane, pause.pause)).or_default();
        let reply = replies.get(places.len()).or(replies.last()).cloned();
        places.push(self.trace.pauses.len());
        self.trace.pauses.push(asked);
        if self.schedule.cancel_asked == u32::try_from(self.trace.pauses.len()).ok() {
            self.push(self.now, Due::Cancelled);
        }
        let reply = reply.unwrap_or(Reply {
            after: 0,
            answer: Some(Object::Int(1)),
        });
        self.push(
            self.now.saturating_add(reply.after),
            Due::Replied {
                lane,
                pause: pause.pause,
                answer: reply.answer,
            },
        );
    }

    pub(crate) fn place(&self, lane: usize) -> Option<Arc<LanePlace>> {
        self.lanes[lane].as_ref()?.machine.lane().cloned()
    }

    fn spawn(&mut self, parent: usize, id: LaneId, machine: Machine<Simulated>) {
        let around = self.lanes[parent].as_ref().map_or(0, |lane| lane.key);
        let key = machine.lane().map_or(0, |place| {
            mix(around.wrapping_add(0x9e37_79b9_7f4a_7c15)
                ^ (u64::from(place.node.0) << 32 | u64::from(place.index)))
        });
        let lane = self.lanes.len();
        if let Some(recording) = &mut self.recording {
            recording.began(lane, parent, id);
        }
        self.lanes.push(Some(Lane {
            machine,
            cancelled: false,
            parent: Some((parent, id)),
            key,
        }));
        self.ids.insert((parent, id), lane);
        self.ready.push(lane);
        self.trace.most_lanes = self.trace.most_lanes.max(self.ids.len());
    }

    fn finish(&mut self, lane: usize, finish: Box<Finish<Simulated>>) {
        let left = self.flights.keys().filter(|(of, _)| *of == lane).count();
        self.trace.left_calls += left;
        self.trace.left_leads += self.leads_of(lane);
        if let Some(place) = self.place(lane) {
            self.trace.lane_ends.push((place, self.now));
        }
        match self.lanes[lane].take().and_then(|lane| lane.parent) {
            Some((parent, id)) => {
                self.push(
                    self.now,
                    Due::LaneFinished {
                        parent,
                        lane: id,
                        finish,
                    },
                );
            }
            None => self.finished = Some(finish),
        }
    }

    fn budget_due(&mut self, lane: usize, node: NodeId, estimate: Usage, actual: Option<Usage>) {
        let waiting = self.orphans.iter().find_map(|orphan| match orphan {
            (of, Orphan::Budget(sequence)) if *of == lane => Some(*sequence),
            _ => None,
        });
        if let Some(sequence) = waiting {
            self.orphans.remove(&(lane, Orphan::Budget(sequence)));
            return;
        }
        self.push(
            self.now,
            Due::Budget {
                lane,
                node,
                estimate,
                actual,
            },
        );
    }
}
