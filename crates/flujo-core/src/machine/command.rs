//! What the machine asks of its host, and what the host answers.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Domain, Failure, Finish, Input, LimitBreach, Machine, Notice, Time};
use crate::cache::Uncached;
use crate::plan::NodeId;
use crate::usage::Usage;

/// Names one call of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CallId(pub u64);

/// Names one timer of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TimerId(pub u64);

/// Names one lane of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LaneId(pub u64);

/// Names one question of one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PauseId(pub u64);

/// Names one result of a cached step that is being made, unlike any other in use: its host gives it to whoever makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheTicket(pub u64);

/// What a callable is called for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Prepares the input of an attempt.
    PromptProcessor,
    /// Does the step's work.
    Agent,
    /// Does the step's work after a plugin asked for another agent.
    Redirect,
    /// Works on the output of an attempt.
    OutputProcessor,
    /// Accepts, rejects, replaces or redirects.
    Plugin,
    /// Accepts or rejects.
    Validator,
    /// Merges the output into the context (`updates_context`, `sink_to`).
    Apply,
    /// Writes the feedback of a failed step into the context.
    Persist,
    /// Makes what stands for a cached step's input in keys. Called by hosts as part of a [`CacheGet`], never by machines.
    CacheKey,
    /// Chooses a branch.
    Condition,
    /// Maps the input of the chosen branch.
    BranchInput,
    /// Maps the output of the chosen branch.
    BranchOutput,
    /// Gives the items of a map.
    Items,
    /// Gives the next item of a lazy collection.
    NextItem,
    /// Makes the context that a sub-pipeline starts with.
    Inherit,
    /// Merges the contexts of lanes into the context around them.
    Merge,
    /// Makes one output of the outputs of lanes.
    Collect,
    /// Tells from a router's output which branches run.
    Select,
    /// Maps the input of a loop's first iteration.
    LoopInput,
    /// Tells whether a loop has done.
    Exit,
    /// Maps the output of an iteration to the input of the next one.
    NextInput,
    /// Maps the output of a loop.
    LoopOutput,
    /// Tells which state follows.
    Transition,
    /// Makes the question of a step that asks somebody outside.
    Question,
    /// Checks an answer to it and makes the step's output.
    Accept,
    /// Makes the answer when none came in time.
    DefaultAnswer,
    /// Makes the input of a failure's handler.
    Describe,
    /// Tells a hook.
    Hook(HookPoint),
}

/// When a hook is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookPoint {
    /// Before the first step.
    PreRun,
    /// Before a step.
    PreStep,
    /// After a step that succeeded.
    PostStep,
    /// After a step that failed.
    OnStepFailure,
    /// Before a question is asked.
    PauseRequested,
    /// After the run.
    PostRun,
}

/// One callable to be called.
#[derive(Debug, Clone)]
pub struct Call<D: Domain> {
    /// Names the call in its answer.
    pub call: CallId,
    /// The node that holds the callable.
    pub node: NodeId,
    /// What it is called for.
    pub role: Role,
    /// Which of the node's callables of that role; the branch for branch roles.
    pub index: u32,
    /// What it works on.
    pub input: Input<D>,
    /// The context it may see.
    pub context: D::Context,
    /// Whether that context is already the attempt's own; else the host forks it before user code sees it.
    pub isolated: bool,
    /// The attempt, from 1; 0 outside attempts.
    pub attempt: u32,
    /// When the call must have ended; else it is cancelled, awaited and answered with [`Event::TimedOut`].
    pub deadline: Option<Time>,
}

/// A question that a run, or a lane, stands still for.
#[derive(Debug, Clone)]
pub struct Pause<D: Domain> {
    /// Names it in its answer; the same when it is asked again.
    pub pause: PauseId,
    /// The step that asks.
    pub node: NodeId,
    /// Its record.
    pub record: u32,
    /// The question, as the step made it.
    pub question: D::Object,
    /// How long the answer may take, in time of the world outside; after that [`Event::Expired`] is to be sent.
    pub timeout: Option<std::time::Duration>,
    /// Why the answer before was not taken.
    pub rejected: Option<Arc<Failure<D>>>,
}

/// A look for the result of a cached step, before its first attempt.
#[derive(Debug, Clone)]
pub struct CacheGet<D: Domain> {
    /// Names it in its answer; it is cancelled as a call is.
    pub call: CallId,
    /// The step.
    pub node: NodeId,
    /// What the step was given.
    pub input: D::Object,
    /// The context as the step finds it.
    pub context: D::Context,
    /// When the answer must have come, if only because another run that makes the result takes its time; else
    /// [`Event::TimedOut`] is the answer.
    pub deadline: Option<Time>,
}

/// The result of a cached step, to be kept. Whoever waits for it is given it.
#[derive(Debug, Clone)]
pub struct CachePut<D: Domain> {
    /// Names what was made; known to the host, unless it has been released meanwhile.
    pub ticket: CacheTicket,
    /// The step.
    pub node: NodeId,
    /// Its output.
    pub output: D::Object,
    /// What the step used to make it.
    pub usage: Usage,
}

/// To make a result is this step's turn: others that want it wait.
#[derive(Debug, Clone)]
pub struct CacheLead<D: Domain> {
    /// Names it when it is done, or given up.
    pub ticket: CacheTicket,
    /// The context for the step's attempts, equal to the one around them, when the host wants to see what they read.
    pub context: Option<D::Context>,
}

/// What the machine asks of its host. Commands come in order; every one but `CancelCall`, `CancelSleep`, `CancelLane`,
/// `CachePut`, `CacheRelease`, `Release`, `Notify` and `Finish` is answered by an [`Event`].
#[derive(Debug)]
pub enum Command<D: Domain> {
    /// Call user code.
    Call(Call<D>),
    /// End a call early; it is still answered.
    CancelCall(CallId),
    /// Wait until this time, then send [`Event::Woke`].
    Sleep {
        /// Names the timer.
        timer: TimerId,
        /// When.
        until: Time,
    },
    /// The timer is no longer needed.
    CancelSleep(TimerId),
    /// Run a lane; its end is sent as [`Event::LaneFinished`].
    Spawn {
        /// Names the lane.
        lane: LaneId,
        /// The lane, ready to be polled.
        machine: Box<Machine<D>>,
    },
    /// Send [`Event::Cancel`] to a lane; its end is still awaited.
    CancelLane(LaneId),
    /// Take an estimate from the run's budget, answered by [`Event::Reserved`] or [`Event::Refused`].
    Reserve {
        /// The step that wants to call its agent.
        node: NodeId,
        /// What the call is expected to use.
        estimate: Usage,
    },
    /// Replace a reservation by what was used, answered by [`Event::Reserved`] or [`Event::Refused`] when the limit
    /// has been passed.
    Settle {
        /// The step.
        node: NodeId,
        /// What had been reserved.
        estimate: Usage,
        /// What was used.
        actual: Usage,
    },
    /// Look for the result of a cached step, answered by [`Event::CacheHit`] or [`Event::CacheMiss`].
    CacheGet(CacheGet<D>),
    /// Keep a result.
    CachePut(CachePut<D>),
    /// There is no result: let another one that waits for it have its turn.
    CacheRelease {
        /// Names what was to be made.
        ticket: CacheTicket,
        /// Why there is nothing to keep.
        reason: Uncached,
    },
    /// Wait until the rate limits of a step, and those of the run, let its agent be called. Answered as a call is:
    /// [`Answer::Done`] lets it through, [`Event::Failed`] says that a limit can't be kept.
    Admit {
        /// Names it in its answer.
        call: CallId,
        /// The step.
        node: NodeId,
        /// What the call is expected to use.
        tokens: u64,
        /// When it must have been let through.
        deadline: Option<Time>,
        /// The agent with a limit of its own that a plugin asked for in place of the step's.
        agent: Option<D::Object>,
    },
    /// The call of an agent that was let through last has ended.
    Release {
        /// What it used.
        tokens: u64,
        /// For how many nanoseconds whatever shares its limits is to wait, since a server said so.
        hold: Option<Time>,
    },
    /// Ask somebody outside, then send [`Event::Resumed`] or [`Event::Expired`].
    Pause(Pause<D>),
    /// Something happened, for whoever listens.
    Notify(Notice<D>),
    /// A step took so long that somebody watches it; see [`Options::tell_from`](super::Options::tell_from).
    Took {
        /// The step.
        node: NodeId,
        /// How long it took, with its retries, in nanoseconds of active time.
        latency: Time,
    },
    /// The run or lane has ended; nothing follows.
    Finish(Box<Finish<D>>),
}

/// What the host reports. `at` is the run's active time in nanoseconds; it never goes back.
#[derive(Debug, Clone)]
pub enum Event<D: Domain> {
    /// A call ended with an answer.
    Answered {
        /// The call.
        call: CallId,
        /// The answer.
        answer: Answer<D>,
        /// The context the callable worked on, when it was given one.
        context: Option<D::Context>,
        /// When.
        at: Time,
    },
    /// A call ended with an error.
    Failed {
        /// The call.
        call: CallId,
        /// The error; stage, step and attempt are filled in by the machine.
        failure: Box<Failure<D>>,
        /// What the failed call used.
        usage: Usage,
        /// When.
        at: Time,
    },
    /// A call was ended because its deadline passed.
    TimedOut {
        /// The call.
        call: CallId,
        /// What it used.
        usage: Usage,
        /// When.
        at: Time,
    },
    /// A call ended because it was cancelled.
    CallCancelled {
        /// The call.
        call: CallId,
        /// When.
        at: Time,
    },
    /// A timer fired.
    Woke {
        /// The timer.
        timer: TimerId,
        /// When.
        at: Time,
    },
    /// A lane ended.
    LaneFinished {
        /// The lane.
        lane: LaneId,
        /// How.
        finish: Box<Finish<D>>,
        /// When.
        at: Time,
    },
    /// The budget allows it.
    Reserved,
    /// The budget does not allow it.
    Refused(Arc<LimitBreach>),
    /// A cached step's result was found.
    CacheHit {
        /// The look-up.
        call: CallId,
        /// The step's output.
        output: D::Object,
        /// What the step used when the result was made.
        saved: Usage,
        /// When.
        at: Time,
    },
    /// A cached step has to run.
    CacheMiss {
        /// The look-up.
        call: CallId,
        /// What its result is to be kept by; `None` when it isn't to be kept.
        lead: Option<CacheLead<D>>,
        /// When.
        at: Time,
    },
    /// A question has been answered.
    Resumed {
        /// The question.
        pause: PauseId,
        /// The answer.
        answer: D::Object,
        /// When.
        at: Time,
    },
    /// A question has not been answered in time.
    Expired {
        /// The question.
        pause: PauseId,
        /// When.
        at: Time,
    },
    /// Stop as soon as possible.
    Cancel {
        /// When.
        at: Time,
    },
}

/// What a callable said.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(bound(
    serialize = "D::Object: Serialize, D::Context: Serialize",
    deserialize = "D::Object: Deserialize<'de>, D::Context: Deserialize<'de>"
))]
pub enum Answer<D: Domain> {
    /// A value, and what was used to make it.
    Value {
        /// The value.
        value: D::Object,
        /// The usage.
        #[serde(default, skip_serializing_if = "Usage::is_zero")]
        usage: Usage,
    },
    /// Done, with nothing to say; a validator or plugin accepts.
    Done,
    /// A validator or plugin rejects.
    Rejected {
        /// Why.
        feedback: Arc<str>,
    },
    /// A plugin asks for another agent.
    Redirect {
        /// The agent.
        agent: D::Object,
        /// Tells agents apart: equal for the very same object only, which the machine keeps alive.
        identity: u64,
        /// Whether the agent's calls have no known price.
        unpriced: bool,
        /// Whether the agent has a rate limit of its own, which its host knows.
        rated: bool,
    },
    /// A condition chose a branch.
    Branch {
        /// The key, as text.
        key: Arc<str>,
        /// The branch, `None` when no branch has the key.
        branch: Option<u32>,
    },
    /// A router chose branches; of those named twice the first counts.
    Branches(Vec<Chosen>),
    /// A condition holds, or not.
    Decision(bool),
    /// All items of a map.
    Items(Vec<D::Object>),
    /// A collection that is read item by item: what it is read with, which lives in its process and isn't saved. In another
    /// one the collection is asked for anew, and gives the same items again.
    Cursor(#[serde(skip)] Option<D::Object>),
    /// The next item, `None` at the end.
    Item(Option<D::Object>),
    /// The run is to end here.
    Abort(Arc<str>),
    /// The pipeline cannot work as it is; the run ends here, and nothing catches it.
    Fatal(Box<Failure<D>>),
}

/// A branch that a router chose.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Chosen {
    /// Its name, as the router gave it.
    pub key: Arc<str>,
    /// Its place, `None` when no branch has the name.
    pub branch: Option<u32>,
}
