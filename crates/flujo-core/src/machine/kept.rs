//! What a run that was stopped can go on from: its state as it was before it was stopped, with that of its lanes. A run
//! can be stopped by a limit on its usage or by being cancelled, and go on later: nothing that had ended runs again, and
//! a call that was broken off is made anew.
//!
//! Whether anybody will go on is known to the outermost machine alone: a lane may be cancelled because another one has
//! failed. So what is kept shares the histories of ended lanes, and costs no more than what was under way.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::cursor::{Cursor, Next, Reply};
use super::frame::{self, Frame};
use super::held::Visitor;
use super::{
    Command, Completion, Domain, Finish, Held, History, LaneId, Machine, Once, Options, Outcome, Pending,
    Record, State, Stop, Time, step,
};
use crate::plan::Plan;
use crate::usage::Usage;

/// What a run, or lane, that was stopped can go on from. See [`Machine::go_on`].
#[derive(Clone)]
pub struct Kept<D: Domain> {
    /// As it was, but for the history: until [`Kept::recall`] that has the records alone that were open.
    state: Box<State<D>>,
    /// How many records there were, and the places of the open ones among them.
    records: usize,
    open: Vec<u32>,
    lanes: Vec<(LaneId, KeptLane<D>)>,
    /// What its step had recorded that was broken off.
    once: Option<Once<D::Object>>,
}

/// What a machine goes on with that was stopped.
#[derive(Debug, Clone)]
pub(super) struct Dormant<D: Domain> {
    lanes: Vec<(LaneId, KeptLane<D>)>,
    once: Option<Once<D::Object>>,
}

/// A lane that was under way when the machine around it was stopped.
#[derive(Debug, Clone)]
pub(super) enum KeptLane<D: Domain> {
    /// It was stopped too.
    Stopped(Box<Kept<D>>, Arc<Finish<D>>),
    /// It ended meanwhile.
    Ended(Arc<Finish<D>>),
}

impl<D: Domain> fmt::Debug for Kept<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("records", &self.records)
            .field("lanes", &self.lanes.len())
            .finish_non_exhaustive()
    }
}

impl<D: Domain> Drop for Kept<D> {
    /// Lanes hold lanes: taken apart in a loop, so that depth costs no call stack.
    fn drop(&mut self) {
        let mut waiting = std::mem::take(&mut self.lanes);
        while let Some((_, lane)) = waiting.pop() {
            if let KeptLane::Stopped(mut kept, _) = lane {
                waiting.append(&mut kept.lanes);
            }
        }
    }
}

impl<D: Domain> Kept<D> {
    fn of(state: &mut State<D>) -> Self {
        let history = std::mem::take(&mut state.history);
        let mut kept = Box::new(state.clone());
        state.history = history;
        let mut open = Vec::with_capacity(state.stack.len());
        for opened in state.stack.iter().filter_map(Frame::opened) {
            if let Some(record) = state.history.records.get(opened.record as usize) {
                kept.history.records.push(record.clone());
                open.push(opened.record);
            }
        }
        Self {
            state: kept,
            records: state.history.records.len(),
            open,
            lanes: Vec::new(),
            once: None,
        }
    }

    /// Takes back what had happened until then from the history that it ended with: only open records have changed since.
    fn recall(&mut self, ended: &History<D>) {
        let mut records: Vec<Record<D>> = ended.records.iter().take(self.records).cloned().collect();
        let open = std::mem::take(&mut self.open);
        for (place, record) in open.into_iter().zip(self.state.history.records.drain(..)) {
            if let Some(place) = records.get_mut(place as usize) {
                *place = record;
            }
        }
        self.state.history.records = records;
    }

    /// The run's own time when it was stopped.
    pub fn now(&self) -> Time {
        self.state.now
    }

    /// So much time has passed since it was stopped: what it and its lanes slept through then ends so much sooner.
    pub fn sleep_on(&mut self, passed: Time) {
        let mut waiting = vec![self];
        while let Some(kept) = waiting.pop() {
            if let Pending::Timer(_, until) = kept.state.pending {
                let left = until.saturating_sub(kept.state.now);
                kept.state.sleep_at_most(left.saturating_sub(passed));
            }
            waiting.extend(kept.lanes.iter_mut().filter_map(|(_, lane)| match lane {
                KeptLane::Stopped(kept, _) => Some(&mut **kept),
                KeptLane::Ended(_) => None,
            }));
        }
    }

    /// Shows everything it holds to `show`.
    pub fn visit(&self, show: &mut dyn FnMut(Held<'_, D>)) {
        self.shown(&mut Visitor::new(show));
    }

    pub(super) fn shown(&self, visit: &mut Visitor<'_, D>) {
        self.state.visit(visit);
        visit_kept(&self.lanes, self.once.as_ref(), visit);
    }

    /// Keeps what the step had recorded that was broken off: [`Machine::take_once`] gives it back when it goes on.
    pub fn keep_once(&mut self, once: Once<D::Object>) {
        self.once = Some(once);
    }

    /// Adds what a call used that was broken off.
    pub(super) fn spend(&mut self, record: u32, usage: Usage) {
        self.state.usage += usage;
        let place = self.open.iter().rposition(|open| *open == record);
        if let Some(entry) = place.and_then(|place| self.state.history.records.get_mut(place)) {
            entry.usage += usage;
        }
    }
}

impl<D: Domain> Dormant<D> {
    pub(super) fn visit(&self, visit: &mut Visitor<'_, D>) {
        visit_kept(&self.lanes, self.once.as_ref(), visit);
    }
}

/// Shows what is kept beside the state of a machine. A loop, since lanes hold lanes.
fn visit_kept<D: Domain>(
    lanes: &[(LaneId, KeptLane<D>)],
    once: Option<&Once<D::Object>>,
    visit: &mut Visitor<'_, D>,
) {
    let mut waiting = vec![(lanes, once)];
    while let Some((lanes, once)) = waiting.pop() {
        for (_, value) in once.iter().flat_map(|once| &once.values) {
            visit.object(value);
        }
        for (_, lane) in lanes {
            let (KeptLane::Stopped(_, finish) | KeptLane::Ended(finish)) = lane;
            if visit.holders.are_all(finish) {
                finish.shown(visit);
            }
            if let KeptLane::Stopped(kept, _) = lane {
                kept.state.visit(visit);
                waiting.push((&kept.lanes, kept.once.as_ref()));
            }
        }
    }
}

impl<D: Domain> State<D> {
    /// Another host goes on with it, which wants these options. The seed is the run's own.
    pub(super) fn ask_for(&mut self, options: Options) {
        let seed = self.options.seed;
        self.options = Options { seed, ..options };
        self.tell_from = options.tell_from.unwrap_or(Time::MAX);
    }
}

impl<D: Domain> Machine<D> {
    /// A machine that was made again of another one's state, and is on its way to an end like that: it keeps what that
    /// keeps to go on from.
    #[must_use]
    pub fn stopped_like(mut self, other: &Self) -> Self {
        self.kept.clone_from(&other.kept);
        self
    }

    /// A run that was stopped, going on at `now` with other options but its own seed. What had been used counts in it as
    /// before; its host begins with a meter that knows of it. Timers and deadlines keep what remained of them.
    pub fn go_on(plan: Arc<Plan<D::Callable>>, mut kept: Kept<D>, options: Options, now: Time) -> Self {
        let (lanes, once) = (std::mem::take(&mut kept.lanes), kept.once.take());
        let history = std::mem::take(&mut kept.state.history);
        // `Kept` takes itself apart when it is dropped, so that its parts can't be moved out.
        let mut state = State::clone(&kept.state);
        state.history = history;
        state.ask_for(options);
        state.shift_time(now);
        state.forget_leads();
        state.read_anew();
        Self {
            plan,
            state,
            commands: VecDeque::new(),
            kept: None,
            dormant: Some(Box::new(Dormant { lanes, once })),
        }
    }

    /// What its step had recorded when it was stopped, for a host that goes on with it: to be taken before it is polled.
    #[inline]
    pub fn take_once(&mut self) -> Option<Once<D::Object>> {
        self.dormant.as_mut()?.once.take()
    }

    /// Goes on, when it is first polled: lanes in lanes cost no call stack.
    #[cold]
    pub(super) fn wake(&mut self) {
        let Some(dormant) = self.dormant.take() else {
            return;
        };
        self.cursor().take_up();
        let (options, now) = (self.state.options, self.state.now);
        for (lane, kept) in dormant.lanes {
            match kept {
                KeptLane::Stopped(mut kept, finish) => {
                    kept.recall(&finish.history);
                    let machine = Box::new(Self::go_on(Arc::clone(&self.plan), *kept, options, now));
                    self.commands.push_back(Command::Spawn { lane, machine });
                }
                KeptLane::Ended(finish) if !self.state.finished => {
                    let mut cursor = self.cursor();
                    let next = cursor.lane_finished(lane, finish, None, now);
                    cursor.follow(next);
                }
                KeptLane::Ended(_) => {}
            }
        }
    }
}

impl<D: Domain> Cursor<'_, D> {
    /// Keeps what the run can go on from: it is about to be stopped.
    #[cold]
    pub(super) fn keep(&mut self) {
        if self.state.stopping.is_none() && self.kept.is_none() {
            *self.kept = Some(Box::new(Kept::of(self.state)));
        }
    }

    /// Takes in the end of a lane, and what it was kept to go on from.
    pub(super) fn lane_finished(
        &mut self,
        lane: LaneId,
        finish: Arc<Finish<D>>,
        kept: Option<Box<Kept<D>>>,
        at: Time,
    ) -> Next<D> {
        self.keep_lane(lane, &finish, kept);
        self.pass_time(at);
        frame::replied(self, Reply::Lane(lane, finish))
    }

    /// Keeps the end of a lane of a run that is being stopped. A lane that a limit stopped stops the run.
    #[inline]
    fn keep_lane(&mut self, lane: LaneId, finish: &Arc<Finish<D>>, kept: Option<Box<Kept<D>>>) {
        if kept.is_some() && matches!(finish.outcome, Outcome::Stopped(Stop::LimitExceeded(_))) {
            self.keep();
        }
        if let Some(own) = self.kept {
            let finish = Arc::clone(finish);
            own.lanes.push(match kept {
                Some(kept) => (lane, KeptLane::Stopped(kept, finish)),
                None => (lane, KeptLane::Ended(finish)),
            });
        }
    }

    /// The end of the run or lane.
    pub(super) fn conclude(&mut self, completion: Completion<D>) -> Next<D> {
        let stopped = matches!(
            completion,
            Completion::Stopped(Stop::Cancelled | Stop::LimitExceeded(_))
        );
        let mut kept = self.kept.take().filter(|_| stopped);
        if let (Some(kept), None) = (&mut kept, &self.state.lane) {
            kept.recall(&self.state.history);
        }
        let outcome = Outcome::from(completion);
        self.state.finished = true;
        let finish = Finish {
            outcome,
            context: self.state.context.clone(),
            history: std::mem::take(&mut self.state.history),
            usage: self.state.usage,
            kept,
        };
        self.commands.push_back(Command::Finish(Box::new(finish)));
        Next::Wait
    }

    /// Goes on from where it was stopped.
    pub(super) fn take_up(&mut self) {
        let in_step = matches!(self.state.pending, Pending::Call(_) | Pending::Budget)
            && !self.state.gate.is_waiting()
            && matches!(self.state.stack.last(), Some(Frame::Step(_)));
        if !in_step {
            return self.ask_again();
        }
        self.state.pending = Pending::Nothing;
        let next = step::take_up(self);
        self.follow(next);
    }
}
