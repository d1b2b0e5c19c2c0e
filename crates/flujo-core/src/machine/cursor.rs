//! The hand that moves a machine: it takes an event to the frame that waits for it and follows what comes of it until
//! something must be awaited again. A loop, so that nesting costs no call stack.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fault::{Fault, is_planted};
use super::frame::{self, Frame, Opened};
use super::{
    Answer, CacheLead, Call, CallId, Command, Completion, Domain, Event, Failure, FailureKind, Finish, Input,
    Kept, LaneId, LanePlace, LimitKind, Machine, Mark, NoticeKind, PauseId, Pending, Record, Role, State,
    Status, Stop, Time, TimerId, gate, human,
};
use crate::cache::Uncached;
use crate::plan::{NodeId, Plan};
use crate::usage::Usage;

/// What is to be done next.
pub(super) enum Next<D: Domain> {
    /// Begin a node.
    Enter(NodeId, D::Object),
    /// The frame on top has ended like this.
    Return(Completion<D>),
    /// The same, and whoever wanted to hear of it first has: the frame goes, the one below is told.
    Leave(Completion<D>),
    /// Nothing, until the next event.
    Wait,
}

/// How a call ended, as a frame sees it.
pub(super) enum Reply<D: Domain> {
    Answer(Answer<D>, Option<D::Context>),
    Failed(Box<Failure<D>>, Usage),
    TimedOut(Usage),
    Woke,
    Reserved,
    Refused(Arc<super::LimitBreach>),
    Hit(D::Object, Usage),
    Miss(Option<CacheLead<D>>),
    Lane(LaneId, Arc<Finish<D>>),
}

pub(super) struct Cursor<'a, D: Domain> {
    pub(super) plan: &'a Arc<Plan<D::Callable>>,
    pub(super) state: &'a mut State<D>,
    pub(super) commands: &'a mut VecDeque<Command<D>>,
    /// What the run can go on from, while it is being stopped.
    pub(super) kept: &'a mut Option<Box<Kept<D>>>,
}

impl<D: Domain> Cursor<'_, D> {
    /// Begins the run or lane. Only when it is polled, never from within the machine that started it: lanes in lanes
    /// cost no call stack.
    pub(super) fn begin(&mut self) {
        let Some((root, input)) = self.state.begin.take() else {
            return;
        };
        let next = if self.state.lane.is_none() && self.state.options.hooks {
            gate::before_run(self, root, input)
        } else {
            Next::Enter(root, input)
        };
        self.follow(next);
    }

    /// Takes in an event.
    #[inline]
    pub(super) fn handle(&mut self, event: Event<D>) {
        match event {
            Event::Answered {
                call,
                answer,
                context: None,
                at,
            } => self.answered(call, answer, at),
            event => self.take_in(event),
        }
    }

    /// Takes in an answer, on a short way where that is allowed.
    #[inline]
    pub(super) fn answered(&mut self, call: CallId, answer: Answer<D>, at: Time) {
        match answer {
            Answer::Value { value, usage } if let Some(successor) = self.plain_successor(call) => {
                self.pass_on(successor, value, usage, at);
            }
            answer if self.is_for_step(call, &answer) => self.tell_step(answer, at),
            answer => self.take_in(Event::Answered {
                call,
                answer,
                context: None,
                at,
            }),
        }
    }

    fn take_in(&mut self, event: Event<D>) {
        let next = match event {
            Event::Answered {
                call,
                answer,
                context,
                at,
            } => {
                if !self.take_call(call, at) {
                    return;
                }
                self.reply(Reply::Answer(answer, context))
            }
            Event::Failed {
                call,
                failure,
                usage,
                at,
            } => {
                if !self.take_call(call, at) {
                    return;
                }
                self.reply(Reply::Failed(failure, usage))
            }
            Event::TimedOut { call, usage, at } => {
                if !self.take_call(call, at) {
                    return;
                }
                self.reply(Reply::TimedOut(usage))
            }
            Event::CallCancelled { call, at } => match self.call_cancelled(call, at) {
                Some(next) => next,
                None => return,
            },
            Event::Woke { timer, at } => {
                if !matches!(self.state.pending, Pending::Timer(waiting, _) if waiting == timer) {
                    return;
                }
                self.state.pending = Pending::Nothing;
                self.pass_time(at);
                self.reply(Reply::Woke)
            }
            Event::LaneFinished { lane, mut finish, at } => {
                let kept = finish.kept.take();
                self.lane_finished(lane, Arc::from(finish), kept, at)
            }
            Event::Reserved | Event::Refused(_) => {
                if self.state.pending != Pending::Budget {
                    return;
                }
                if matches!(&event, Event::Refused(breach) if breach.which != LimitKind::Price) {
                    self.keep();
                }
                self.state.pending = Pending::Nothing;
                match event {
                    Event::Refused(breach) => self.reply(Reply::Refused(breach)),
                    _ => self.reply(Reply::Reserved),
                }
            }
            Event::CacheHit {
                call,
                output,
                saved,
                at,
            } => {
                if !self.take_call(call, at) {
                    return;
                }
                self.reply(Reply::Hit(output, saved))
            }
            Event::CacheMiss { call, lead, at } => {
                if !self.take_call(call, at) {
                    self.release(lead.map(|lead| lead.ticket), Uncached::Stopped);
                    return;
                }
                self.reply(Reply::Miss(lead))
            }
            Event::Resumed { pause, answer, at } => {
                if !self.take_pause(pause, at) {
                    return;
                }
                human::resumed(self, Some(answer))
            }
            Event::Expired { pause, at } => {
                if !self.take_pause(pause, at) {
                    return;
                }
                human::resumed(self, None)
            }
            Event::Cancel { at } => {
                self.pass_time(at);
                self.keep();
                self.cancel()
            }
        };
        self.follow(next);
    }

    /// Takes a reply to whoever asked: the gate around steps, or the frame on top. A run that is stopping only counts
    /// what the call used.
    #[inline]
    pub(super) fn reply(&mut self, reply: Reply<D>) -> Next<D> {
        if let Reply::Answer(Answer::Abort(reason), _) = &reply {
            self.state
                .stopping
                .get_or_insert_with(|| Stop::Aborted(Arc::clone(reason)));
        }
        if let Reply::Answer(Answer::Fatal(failure), _) = &reply {
            let failure = self.placed(Failure::clone(failure));
            self.state
                .stopping
                .get_or_insert_with(|| Stop::Fatal(Arc::new(failure)));
        }
        if self.state.stopping.is_some() {
            self.reply_while_stopping(&reply)
        } else if self.state.gate.is_waiting() {
            gate::replied(self, reply)
        } else {
            frame::replied(self, reply)
        }
    }

    pub(super) fn follow(&mut self, mut next: Next<D>) {
        loop {
            next = match next {
                Next::Enter(node, input) => gate::enter(self, node, input),
                Next::Return(completion) => gate::leave(self, completion),
                Next::Leave(completion) => {
                    self.state.stack.pop();
                    if self.state.stack.is_empty() {
                        gate::after_run(self, completion)
                    } else {
                        frame::child_finished(self, completion)
                    }
                }
                Next::Wait => return,
            }
        }
    }

    /// Asks the host to call user code. The reply goes to the frame on top.
    #[inline(always)]
    #[allow(clippy::inline_always)] // the call is large, and moved once less when it is made by its caller
    pub(super) fn call(&mut self, call: Ask<D>) -> Next<D> {
        let id = CallId(self.next_id());
        self.state.pending = Pending::Call(id);
        let (context, isolated) = match call.view {
            Some(view) => (view, true),
            None => (self.state.context.clone(), false),
        };
        self.commands.push_back(Command::Call(Call {
            call: id,
            node: call.node,
            role: call.role,
            index: call.index,
            input: call.input,
            context,
            isolated,
            attempt: call.attempt,
            deadline: call.deadline,
        }));
        Next::Wait
    }

    pub(super) fn sleep(&mut self, until: Time) -> Next<D> {
        let timer = TimerId(self.next_id());
        self.state.pending = Pending::Timer(timer, until);
        self.commands.push_back(Command::Sleep { timer, until });
        Next::Wait
    }

    pub(super) fn spawn(
        &mut self,
        place: (NodeId, u32),
        body: NodeId,
        input: D::Object,
        context: D::Context,
    ) -> LaneId {
        let lane = LaneId(self.next_id());
        let (node, index) = place;
        let opened = self.state.stack.last().and_then(Frame::opened);
        let place = LanePlace {
            parent: self.state.lane.clone(),
            node,
            record: opened.map_or(0, |opened| opened.record),
            index,
        };
        let mut state = State::new(
            self.state.options,
            Some(Arc::new(place)),
            (body, input),
            context,
            self.state.now,
            self.state.deadline,
        );
        state.round.clone_from(&self.state.round);
        let machine = Machine {
            plan: Arc::clone(self.plan),
            state,
            commands: VecDeque::new(),
            kept: None,
            dormant: None,
        };
        self.commands.push_back(Command::Spawn {
            lane,
            machine: Box::new(machine),
        });
        lane
    }

    #[inline]
    pub(super) fn next_id(&mut self) -> u64 {
        self.state.next_id += 1;
        self.state.next_id
    }

    #[inline]
    pub(super) fn take_call(&mut self, call: CallId, at: Time) -> bool {
        if self.state.pending != Pending::Call(call) {
            return false;
        }
        self.state.pending = Pending::Nothing;
        self.pass_time(at);
        true
    }

    fn take_pause(&mut self, pause: PauseId, at: Time) -> bool {
        if self.state.pending != Pending::Pause(pause) {
            return false;
        }
        self.state.pending = Pending::Nothing;
        self.pass_time(at);
        true
    }

    #[inline]
    pub(super) fn pass_time(&mut self, at: Time) {
        self.state.now = self.state.now.max(at);
    }

    /// Begins a node: its record, under which the records of its children go, and its deadline.
    pub(super) fn open(&mut self, node: NodeId) -> Opened {
        let record = u32::try_from(self.state.history.records.len()).unwrap_or(u32::MAX);
        let (outer_parent, outer_deadline) = (self.state.parent, self.state.deadline);
        let now = self.state.now;
        // `extend` makes room first and then writes the record where it stays; `push` writes it twice.
        self.state.history.records.extend(std::iter::once_with(|| Record {
            node,
            parent: outer_parent,
            status: Status::Running,
            attempts: 0,
            started: now,
            ended: now,
            usage: Usage::ZERO,
            output: None,
            failure: None,
            details: None,
        }));
        self.state.parent = Some(record);
        if let Some(limit) = self
            .plan
            .node(node)
            .deadline
            .filter(|_| !is_planted(Fault::DeadlineIgnored))
        {
            let own = self.state.now.saturating_add(nanoseconds(limit));
            self.state.deadline = Some(outer_deadline.map_or(own, |outer| outer.min(own)));
        }
        self.notify(NoticeKind::StepStarted, node, record, 0);
        Opened {
            node,
            record,
            outer_parent,
            outer_deadline,
        }
    }

    /// Ends the node of the frame on top.
    pub(super) fn end_top(&mut self, completion: Completion<D>) -> Next<D> {
        if let Some(opened) = self.state.stack.last().and_then(Frame::opened) {
            self.close(opened, &completion);
        }
        Next::Return(completion)
    }

    /// Ends it with a failure of its own.
    pub(super) fn fail_top(&mut self, failure: Failure<D>, kind: FailureKind) -> Next<D> {
        let node = self.state.stack.last().and_then(Frame::opened);
        let node = node.map_or(self.plan.root(), |opened| opened.node);
        let failure = self.located(failure, kind, node, 0);
        self.end_top(Completion::Failed(Arc::new(failure)))
    }

    /// Ends a node as `completion` says. Its usage goes up to the record around it.
    pub(super) fn close(&mut self, opened: Opened, completion: &Completion<D>) {
        let (status, kind) = match completion {
            Completion::Success(_) => (Status::Succeeded, NoticeKind::StepFinished),
            Completion::Failed(failure) => (Status::Failed, NoticeKind::StepFailed(Arc::clone(failure))),
            Completion::Stopped(stop) => {
                let (status, failure) = match stop {
                    Stop::Fatal(failure) => (Status::Failed, Some(Arc::clone(failure))),
                    Stop::LimitExceeded(_) => (Status::LimitExceeded, None),
                    Stop::Cancelled | Stop::Paused | Stop::Aborted(_) => (Status::Cancelled, None),
                };
                (status, NoticeKind::StepStopped { status, failure })
            }
        };
        if let Completion::Stopped(_) = completion
            && let Some(Frame::Step(step)) = self.state.stack.last_mut()
        {
            let lead = step.take_lead();
            self.release(lead, Uncached::Stopped);
        }
        if let Some(record) = self.record(opened.record) {
            match completion {
                Completion::Success(output) => record.output = Some(output.clone()),
                Completion::Failed(failure) | Completion::Stopped(Stop::Fatal(failure)) => {
                    record.failure = Some(Arc::clone(failure));
                }
                Completion::Stopped(_) => {}
            }
        }
        self.end(opened, status, kind);
    }

    /// Ends a node whose record already says what came of it.
    #[inline]
    pub(super) fn end(&mut self, opened: Opened, status: Status, kind: NoticeKind<D>) {
        self.leave_round(opened.node);
        self.state.parent = opened.outer_parent;
        self.state.deadline = opened.outer_deadline;
        let now = self.state.now;
        let Some(record) = self.state.history.records.get_mut(opened.record as usize) else {
            return;
        };
        (record.ended, record.status) = (now, status);
        let (usage, attempts, latency) = (record.usage, record.attempts, record.latency());
        if let Some(parent) = opened.outer_parent
            && let Some(parent) = self.state.history.records.get_mut(parent as usize)
        {
            parent.usage += usage;
        }
        self.notify(kind, opened.node, opened.record, attempts);
        if latency >= self.state.tell_from {
            self.tell_time(opened.node, latency);
        }
    }

    /// Tells of a step that somebody watches, and of those that follow: whether they are fast again is of interest too.
    #[cold]
    fn tell_time(&mut self, node: NodeId, latency: Time) {
        // A construct that a step works with is told of with the step.
        if self.state.options.tell_from.is_some() && !self.plan.node(node).inner {
            self.state.tell_from = 0;
            self.commands.push_back(Command::Took { node, latency });
        }
    }

    /// This moment in the history.
    #[inline]
    pub(super) fn mark(&self) -> Mark {
        Mark {
            at: self.state.now,
            records: u32::try_from(self.state.history.records.len()).unwrap_or(u32::MAX),
        }
    }

    #[inline]
    pub(super) fn record(&mut self, record: u32) -> Option<&mut Record<D>> {
        self.state.history.records.get_mut(record as usize)
    }
}

/// A call to be made, as a frame describes it.
pub(super) struct Ask<D: Domain> {
    pub(super) node: NodeId,
    pub(super) role: Role,
    pub(super) index: u32,
    pub(super) input: Input<D>,
    pub(super) view: Option<D::Context>,
    pub(super) attempt: u32,
    pub(super) deadline: Option<Time>,
}

/// A duration in nanoseconds, as many as fit.
pub(super) fn nanoseconds(duration: std::time::Duration) -> Time {
    Time::try_from(duration.as_nanos()).unwrap_or(Time::MAX)
}
