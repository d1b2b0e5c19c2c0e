//! What a run that was stopped can go on from: its state as it was before it was stopped, with that of its lanes. A run
//! can be stopped by a limit on its usage or by being cancelled, and go on later: nothing that had ended runs again, and
//! a call that was broken off is made anew.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use super::cursor::{Cursor, Next};
use super::frame::Frame;
use super::{
    Command, Completion, Domain, Event, Finish, Held, LaneId, LimitKind, Machine, Options, Outcome, Pending,
    State, Stop, Time, step,
};
use crate::plan::Plan;
use crate::usage::Usage;

/// What a run, or lane, that was stopped can go on from. See [`Machine::go_on`].
#[derive(Clone)]
pub struct Kept<D: Domain> {
    state: Box<State<D>>,
    lanes: Vec<(LaneId, KeptLane<D>)>,
}

/// A lane that was under way when the machine around it was stopped.
#[derive(Debug, Clone)]
pub(super) enum KeptLane<D: Domain> {
    /// It was stopped too.
    Stopped(Kept<D>),
    /// It ended meanwhile.
    Ended(Box<Finish<D>>),
}

impl<D: Domain> fmt::Debug for Kept<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("records", &self.state.history.records.len())
            .field("lanes", &self.lanes.len())
            .finish_non_exhaustive()
    }
}

impl<D: Domain> Drop for Kept<D> {
    /// Lanes hold lanes: taken apart in a loop, so that depth costs no call stack.
    fn drop(&mut self) {
        let mut waiting = std::mem::take(&mut self.lanes);
        while let Some((_, lane)) = waiting.pop() {
            if let KeptLane::Stopped(mut kept) = lane {
                waiting.append(&mut kept.lanes);
            }
        }
    }
}

impl<D: Domain> Kept<D> {
    fn of(state: &State<D>) -> Self {
        Self {
            state: Box::new(state.clone()),
            lanes: Vec::new(),
        }
    }

    /// Shows everything it holds to `visit`.
    pub fn visit(&self, visit: &mut dyn FnMut(Held<'_, D>)) {
        let mut waiting = vec![self];
        while let Some(kept) = waiting.pop() {
            kept.state.visit(visit);
            for (_, lane) in &kept.lanes {
                match lane {
                    KeptLane::Stopped(kept) => waiting.push(kept),
                    KeptLane::Ended(finish) => finish.visit(visit),
                }
            }
        }
    }

    /// Adds what a call used that was broken off.
    pub(super) fn spend(&mut self, record: u32, usage: Usage) {
        self.state.usage += usage;
        if let Some(entry) = self.state.history.records.get_mut(record as usize) {
            entry.usage += usage;
        }
    }
}

impl<D: Domain> Machine<D> {
    /// A run that was stopped, going on at `now` with other options but its own seed. What had been used counts in it as
    /// before; its host begins with a meter that knows of it. Timers and deadlines keep what remained of them.
    pub fn go_on(plan: Arc<Plan<D::Callable>>, mut kept: Kept<D>, options: Options, now: Time) -> Self {
        let lanes = std::mem::take(&mut kept.lanes);
        // `Kept` takes itself apart when it is dropped, so that its parts can't be moved out.
        let mut state = State::clone(&kept.state);
        state.options = Options {
            seed: state.options.seed,
            ..options
        };
        state.tell_from = options.tell_from.unwrap_or(Time::MAX);
        state.shift_time(now);
        state.forget_leads();
        Self {
            plan,
            state,
            commands: VecDeque::new(),
            kept: None,
            dormant: Some(lanes),
        }
    }

    /// Goes on, when it is first polled: lanes in lanes cost no call stack.
    #[cold]
    pub(super) fn wake(&mut self) {
        let Some(lanes) = self.dormant.take() else { return };
        self.cursor().take_up();
        let (options, now) = (self.state.options, self.state.now);
        for (lane, kept) in lanes {
            match kept {
                KeptLane::Stopped(kept) => {
                    let machine = Box::new(Self::go_on(Arc::clone(&self.plan), kept, options, now));
                    self.commands.push_back(Command::Spawn { lane, machine });
                }
                KeptLane::Ended(finish) => self.handle(Event::LaneFinished {
                    lane,
                    finish,
                    at: now,
                }),
            }
        }
    }
}

impl<D: Domain> Cursor<'_, D> {
    /// Keeps what the run can go on from when `event` is about to stop it, and the lanes of one that is being stopped.
    pub(super) fn keep_before(&mut self, event: &mut Event<D>) {
        let stops = match event {
            Event::LaneFinished { lane, finish, .. } => {
                let (lane, kept) = (*lane, finish.kept.take());
                let limited = matches!(finish.outcome, Outcome::Stopped(Stop::LimitExceeded(_)));
                if self.state.stopping.is_none() && self.kept.is_none() && limited && kept.is_some() {
                    *self.kept = Some(Box::new(Kept::of(self.state)));
                }
                if let Some(own) = self.kept {
                    own.lanes.push(match kept {
                        Some(kept) => (lane, KeptLane::Stopped(*kept)),
                        None => (lane, KeptLane::Ended(finish.clone())),
                    });
                }
                return;
            }
            Event::Cancel { .. } => true,
            Event::CallCancelled { call, .. } => {
                let gave_up =
                    matches!(self.state.stack.last(), Some(Frame::Map(map)) if map.gave_up_reading());
                self.state.pending == Pending::Call(*call) && !gave_up
            }
            Event::Refused(breach) => {
                self.state.pending == Pending::Budget && breach.which != LimitKind::Price
            }
            _ => false,
        };
        if stops && self.state.stopping.is_none() && self.kept.is_none() {
            *self.kept = Some(Box::new(Kept::of(self.state)));
        }
    }

    /// The end of the run or lane.
    pub(super) fn conclude(&mut self, completion: Completion<D>) -> Next<D> {
        let stopped = matches!(
            completion,
            Completion::Stopped(Stop::Cancelled | Stop::LimitExceeded(_))
        );
        let kept = self.kept.take().filter(|_| stopped);
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
