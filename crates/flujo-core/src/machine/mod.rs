//! How a run advances. A machine walks a plan without doing anything itself: it asks its host with [`Command`]s and is
//! told with [`Event`]s. The same events give the same run, on every host.
//!
//! A run is a stack of small frames, one for each node that has begun and not ended. Each construct is one file with
//! the same few functions: `enter`, `child_finished`, `answered`. No construct knows another.

mod cached;
mod cancel;
mod command;
mod conditional;
mod cursor;
mod domain;
mod failure;
mod fault;
mod frame;
mod gate;
mod group;
mod guard;
mod held;
mod history;
mod human;
mod input;
mod kept;
mod lanes;
mod limits;
mod located;
mod map;
mod notices;
mod once;
mod outcome;
mod parallel;
mod place;
mod plain;
mod repeat;
mod retry;
mod round;
mod saved;
mod so_far;
mod states;
mod step;
mod storage;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use command::{
    Answer, CacheGet, CacheLead, CachePut, CacheTicket, Call, CallId, Chosen, Command, Event, HookPoint,
    LaneId, Pause, PauseId, Role, TimerId,
};
pub use domain::Domain;
pub use failure::{Failure, FailureKind, LimitBreach, LimitKind, RetryAdvice};
#[cfg(feature = "planted-faults")]
pub use fault::{Fault, plant};
pub use held::{Held, Holders};
pub use history::{Details, ExitReason, History, LaneRecord, LoopEnd, Mark, Record, Status};
pub use input::Input;
pub use kept::Kept;
pub use notices::{Notice, NoticeKind};
pub use once::Once;
pub use outcome::{Finish, Outcome, Stop};
pub use place::{LanePlace, lane_name};
pub use round::Round;
pub use storage::Storage;

use crate::plan::{NodeId, Plan};
use crate::usage::Usage;
use cursor::Cursor;
use frame::Frame;
use gate::Gate;
use kept::Dormant;
use outcome::Completion;

/// There is room for this many records when a run begins, or for as many as its plan has nodes.
const FIRST_RECORDS: usize = 128;

/// Active time of a run in nanoseconds. It starts anywhere, never goes back, and stands still while the run is paused.
pub type Time = u64;

/// What a host wants to be asked and told.
#[allow(clippy::struct_excessive_bools)] // each is a question of its own
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Whether hooks are called.
    pub hooks: bool,
    /// Whether usage is limited, so that each agent call must be reserved first.
    pub limits: bool,
    /// Whether every call of an agent has to be admitted by the host, besides those of steps with rate limits of their own.
    #[serde(default)]
    pub rates: bool,
    /// Whether anybody listens to notices.
    pub notices: bool,
    /// What jitter is derived from; one per run.
    pub seed: u64,
    /// Steps that take this long or longer are told of with [`Command::Took`], and once there was one, all that follow
    /// it in the run or lane; `None`: no step is.
    pub tell_from: Option<Time>,
}

/// One run, or one lane of one. See the module's documentation.
#[derive(Debug, Clone)]
pub struct Machine<D: Domain> {
    plan: Arc<Plan<D::Callable>>,
    state: State<D>,
    commands: VecDeque<Command<D>>,
    /// What it can go on from, while it is being stopped.
    kept: Option<Box<Kept<D>>>,
    /// Of a run that goes on after it was stopped, until it is polled for the first time.
    dormant: Option<Box<Dormant<D>>>,
}

/// What a run is right now; together with its plan all that is needed to go on.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub struct State<D: Domain> {
    options: Options,
    lane: Option<Arc<LanePlace>>,
    stack: Vec<Frame<D>>,
    gate: Gate<D>,
    context: D::Context,
    history: History<D>,
    /// The record new records are put under.
    parent: Option<u32>,
    /// The deadline of the innermost construct that has one.
    deadline: Option<Time>,
    /// The turns of the loops and state machines around.
    round: Option<Arc<Round>>,
    usage: Usage,
    /// How many steps with limits of their own are under way around the top of the stack.
    limited: u32,
    now: Time,
    /// See [`Options::tell_from`].
    tell_from: Time,
    next_id: u64,
    pending: Pending,
    /// Where the run or lane begins, until it is polled for the first time.
    begin: Option<(NodeId, D::Object)>,
    /// Why the run is being stopped, while what is under way is awaited.
    stopping: Option<Stop<D>>,
    finished: bool,
}

/// What the machine waits for, apart from lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Pending {
    Nothing,
    Call(CallId),
    Timer(TimerId, Time),
    Budget,
    Pause(PauseId),
}

impl<D: Domain> Clone for Command<D> {
    fn clone(&self) -> Self {
        match self {
            Self::Call(call) => Self::Call(call.clone()),
            Self::CancelCall(call) => Self::CancelCall(*call),
            Self::Sleep { timer, until } => Self::Sleep {
                timer: *timer,
                until: *until,
            },
            Self::CancelSleep(timer) => Self::CancelSleep(*timer),
            Self::Spawn { lane, machine } => Self::Spawn {
                lane: *lane,
                machine: machine.clone(),
            },
            Self::CancelLane(lane) => Self::CancelLane(*lane),
            Self::Pause(pause) => Self::Pause(pause.clone()),
            Self::Reserve { node, estimate } => Self::Reserve {
                node: *node,
                estimate: *estimate,
            },
            Self::Settle {
                node,
                estimate,
                actual,
            } => Self::Settle {
                node: *node,
                estimate: *estimate,
                actual: *actual,
            },
            Self::CacheGet(get) => Self::CacheGet(get.clone()),
            Self::CachePut(put) => Self::CachePut(put.clone()),
            Self::CacheRelease { ticket, reason } => Self::CacheRelease {
                ticket: *ticket,
                reason: *reason,
            },
            Self::Admit {
                call,
                node,
                tokens,
                deadline,
                agent,
            } => Self::Admit {
                call: *call,
                node: *node,
                tokens: *tokens,
                deadline: *deadline,
                agent: agent.clone(),
            },
            Self::Release { tokens, hold } => Self::Release {
                tokens: *tokens,
                hold: *hold,
            },
            Self::Notify(notice) => Self::Notify(notice.clone()),
            Self::Took { node, latency } => Self::Took {
                node: *node,
                latency: *latency,
            },
            Self::Finish(finish) => Self::Finish(finish.clone()),
        }
    }
}

impl<D: Domain> Machine<D> {
    /// A run of `plan` from its root, begun at `now`, with an optional deadline for the whole run.
    pub fn start(
        plan: Arc<Plan<D::Callable>>,
        options: Options,
        input: D::Object,
        context: D::Context,
        now: Time,
        deadline: Option<Time>,
    ) -> Self {
        let begin = (plan.root(), input);
        let mut state = State::new(options, None, begin, context, now, deadline);
        state.history.records.reserve(plan.len().min(FIRST_RECORDS));
        Self {
            plan,
            state,
            commands: VecDeque::new(),
            kept: None,
            dormant: None,
        }
    }

    /// The next thing to do for the host; `None` when the machine waits for an event, or has ended.
    #[inline]
    pub fn poll(&mut self) -> Option<Command<D>> {
        match self.commands.pop_front() {
            None if self.state.begin.is_some() => {
                self.dormant = None;
                self.cursor().begin();
                self.commands.pop_front()
            }
            None if self.dormant.is_some() => {
                self.wake();
                self.commands.pop_front()
            }
            command => command,
        }
    }

    /// Takes in what happened. An event that nothing waits for any more (a late timer, the answer to a call that was
    /// given up) is ignored.
    #[inline]
    pub fn handle(&mut self, event: Event<D>) {
        if self.dormant.is_some() {
            // What it goes on with is stopped with it.
            self.wake();
        }
        if !self.state.finished {
            self.cursor().handle(event);
        }
    }

    /// Takes in a call's answer as [`Machine::handle`] does for [`Event::Answered`], for the most frequent kind: from a
    /// callable that has written nothing into a context.
    #[inline]
    pub fn answered(&mut self, call: CallId, answer: Answer<D>, at: Time) {
        if !self.state.finished {
            self.cursor().answered(call, answer, at);
        }
    }

    /// The plan it walks.
    pub fn plan(&self) -> &Arc<Plan<D::Callable>> {
        &self.plan
    }

    /// Everything recorded so far.
    pub fn history(&self) -> &History<D> {
        &self.state.history
    }

    /// The context as it was committed last.
    pub fn context(&self) -> &D::Context {
        &self.state.context
    }

    /// What has been used so far by finished calls.
    pub fn usage(&self) -> Usage {
        self.state.usage
    }

    /// The lane this machine runs, `None` for the run itself.
    pub fn lane(&self) -> Option<&Arc<LanePlace>> {
        self.state.lane.as_ref()
    }

    /// The time of the last event.
    pub fn now(&self) -> Time {
        self.state.now
    }

    /// What the run is at time `at`, to be saved once [`Machine::poll`] has given `None`: what has been asked for and
    /// not been answered is part of it, what has not been polled is not. Lanes are machines of their own and are saved
    /// by their host.
    pub fn save(&self, at: Time) -> State<D> {
        let mut state = self.state.clone();
        state.now = state.now.max(at);
        state
    }

    /// The run that `state` was saved from, which goes on at `now`: what was under way when it was saved is asked for
    /// again. Timers and deadlines keep what remained of them. A cached step that was under way goes on without its result
    /// being kept. Lanes that were running are the host's to restore; the
    /// machine waits for their end as before.
    pub fn restore(plan: Arc<Plan<D::Callable>>, state: State<D>, now: Time) -> Self {
        let mut machine = Self::again(plan, state, now);
        machine.cursor().ask_again();
        machine
    }

    /// The same in another process, which wants these options in place of those that it had, but for its seed. Its meter
    /// knows what was used and nothing of what was reserved: an attempt whose agent was being called begins anew, under its
    /// own number.
    pub fn take_over(
        plan: Arc<Plan<D::Callable>>,
        state: State<D>,
        options: Option<Options>,
        now: Time,
    ) -> Self {
        let mut machine = Self::again(plan, state, now);
        if let Some(options) = options {
            machine.state.ask_for(options);
        }
        machine.state.read_anew();
        machine.cursor().take_up();
        machine
    }

    /// A machine of a state that was saved; it has asked for nothing yet.
    fn again(plan: Arc<Plan<D::Callable>>, mut state: State<D>, now: Time) -> Self {
        state.shift_time(now);
        state.forget_leads();
        Self {
            plan,
            state,
            commands: VecDeque::new(),
            kept: None,
            dormant: None,
        }
    }

    /// Whether anybody listens to notices, from now on: a run that goes on may have other listeners than before.
    pub fn listen(&mut self, notices: bool) {
        self.state.options.notices = notices;
    }

    /// Wants other options from now on, but its own seed; for one that has not begun.
    pub fn ask_for(&mut self, options: Options) {
        self.state.ask_for(options);
    }

    /// Whether it has been polled, which is when it begins, or goes on after it was stopped. One that is cancelled before it
    /// has begun ends with nothing done.
    pub fn has_begun(&self) -> bool {
        self.state.begin.is_none() && self.dormant.is_none()
    }

    /// The record of the innermost step or construct under way.
    pub fn record_under_way(&self) -> Option<u32> {
        self.state.parent
    }

    /// Whether it waits for such an event; any other is ignored.
    pub fn expects(&self, event: &Event<D>) -> bool {
        let awaited = match event {
            Event::Answered { call, .. }
            | Event::Failed { call, .. }
            | Event::TimedOut { call, .. }
            | Event::CallCancelled { call, .. }
            | Event::CacheHit { call, .. }
            | Event::CacheMiss { call, .. } => self.state.pending == Pending::Call(*call),
            Event::Woke { timer, .. } => matches!(self.state.pending, Pending::Timer(id, _) if id == *timer),
            Event::Reserved | Event::Refused(_) => self.state.pending == Pending::Budget,
            Event::Resumed { pause, .. } | Event::Expired { pause, .. } => {
                self.state.pending == Pending::Pause(*pause)
            }
            Event::LaneFinished { .. } | Event::Cancel { .. } => true,
        };
        awaited && !self.state.finished
    }

    /// The question it waits to be answered, if it stands still for one.
    pub fn pause(&self) -> Option<PauseId> {
        match self.state.pending {
            Pending::Pause(pause) if !self.state.finished => Some(pause),
            _ => None,
        }
    }

    /// The timer that it sleeps through, if it does.
    pub fn timer(&self) -> Option<TimerId> {
        match self.state.pending {
            Pending::Timer(timer, _) if !self.state.finished => Some(timer),
            _ => None,
        }
    }

    /// Whether it waits for lanes and for nothing else.
    pub fn waits_for_lanes(&self) -> bool {
        self.state.pending == Pending::Nothing && !self.state.finished
    }

    /// Whether a lane that completes changes nothing as long as another one runs, so that a host may tell of such ends
    /// together.
    pub fn awaits_all_lanes(&self) -> bool {
        let all_started = match self.state.stack.last() {
            Some(Frame::Parallel(frame)) => frame.lanes.all_started(),
            Some(Frame::Map(frame)) => frame.all_started(),
            _ => false,
        };
        // What a lane used is looked at when it ends where a step around it has a limit.
        all_started && self.waits_for_lanes() && self.state.limited == 0 && self.state.stopping.is_none()
    }

    /// Lanes under way: whom a host must restore beside this machine.
    pub fn running_lanes(&self) -> Vec<LaneId> {
        self.state
            .stack
            .iter()
            .filter_map(Frame::lanes)
            .flat_map(lanes::Lanes::running)
            .collect()
    }

    #[inline]
    fn cursor(&mut self) -> Cursor<'_, D> {
        Cursor {
            plan: &self.plan,
            state: &mut self.state,
            commands: &mut self.commands,
            kept: &mut self.kept,
        }
    }
}

impl<D: Domain> State<D> {
    /// The time when it was so.
    pub fn now(&self) -> Time {
        self.now
    }

    fn new(
        options: Options,
        lane: Option<Arc<LanePlace>>,
        begin: (NodeId, D::Object),
        context: D::Context,
        now: Time,
        deadline: Option<Time>,
    ) -> Self {
        Self {
            options,
            lane,
            stack: Vec::new(),
            gate: Gate::default(),
            context,
            history: History::default(),
            parent: None,
            deadline,
            round: None,
            usage: Usage::ZERO,
            limited: 0,
            now,
            tell_from: options.tell_from.unwrap_or(Time::MAX),
            next_id: 0,
            pending: Pending::Nothing,
            begin: Some(begin),
            stopping: None,
            finished: false,
        }
    }
}
