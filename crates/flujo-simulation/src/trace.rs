//! What the simulation saw of a run.

use std::sync::Arc;

use flujo_core::machine::{CacheTicket, CallId, Finish, LanePlace, Notice, PauseId, Role, Time};
use flujo_core::plan::NodeId;
use flujo_core::usage::Usage;

use crate::Simulated;
use crate::budget::Budget;
use crate::recording::Recording;

/// How a call ended, as the machine was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallEnd {
    /// With an answer.
    Answered,
    /// With a rejection.
    Rejected,
    /// With the wish for another agent.
    Redirected,
    /// A condition holds, or not.
    Decided(bool),
    /// With an error.
    Failed,
    /// Its deadline passed.
    TimedOut,
    /// It was cancelled.
    Cancelled,
}

/// One call.
#[derive(Debug, Clone)]
pub struct CallTrace {
    /// The lane it was made in.
    pub lane: Option<Arc<LanePlace>>,
    /// The node that holds the callable.
    pub node: NodeId,
    /// The node's record in the history of its lane; none for hooks and for what describes a failure.
    pub record: Option<u32>,
    /// What it was called for.
    pub role: Role,
    /// Which of the node's callables of that role.
    pub index: u32,
    /// The attempt.
    pub attempt: u32,
    /// What the machine calls it.
    pub call: CallId,
    /// When it began.
    pub started: Time,
    /// When the machine was told of its end.
    pub ended: Option<Time>,
    /// How it ended.
    pub end: Option<CallEnd>,
    /// What the machine was told that it used.
    pub usage: Usage,
    /// The fields it wrote into the context it was given.
    pub wrote: Vec<String>,
    /// Whether it ends as soon as it is told to.
    pub obeys: bool,
}

/// One notice, with the lane it came from.
#[derive(Debug, Clone)]
pub struct NoticeTrace {
    /// The lane.
    pub lane: Option<Arc<LanePlace>>,
    /// The notice.
    pub notice: Notice<Simulated>,
}

/// One time a question was asked.
#[derive(Debug, Clone)]
pub struct PauseTrace {
    /// The lane that stands still for it.
    pub lane: Option<Arc<LanePlace>>,
    /// The record of the step that asks.
    pub record: u32,
    /// What the machine calls it.
    pub pause: PauseId,
    /// Whether an answer to it had not been taken.
    pub after_rejection: bool,
    /// Whether it was answered, or not in time; none while it is open.
    pub answered: Option<bool>,
}

/// How a look for a result ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookEnd {
    /// With a result.
    Hit,
    /// With the turn to make it.
    Led(CacheTicket),
    /// With the news that it isn't kept.
    Uncached,
    /// Its deadline passed.
    TimedOut,
    /// It was cancelled.
    Cancelled,
}

/// One look for the result of a cached step.
#[derive(Debug, Clone)]
pub struct LookTrace {
    /// The lane.
    pub lane: Option<Arc<LanePlace>>,
    /// The step.
    pub node: NodeId,
    /// Its record.
    pub record: Option<u32>,
    /// How it ended.
    pub end: Option<LookEnd>,
    /// Whether it waited for somebody else's result.
    pub waited: bool,
}

/// One result that was put.
#[derive(Debug, Clone)]
pub struct PutTrace {
    /// The lane.
    pub lane: Option<Arc<LanePlace>>,
    /// The step.
    pub node: NodeId,
    /// Its record.
    pub record: Option<u32>,
}

/// Everything the simulation saw.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// Calls in the order in which they began.
    pub calls: Vec<CallTrace>,
    /// Notices in the order in which they came.
    pub notices: Vec<NoticeTrace>,
    /// How many commands there were.
    pub commands: u64,
    /// How many of them only go on after a restore.
    pub saves: u32,
    /// How many questions were answered, or not in time.
    pub replies: u32,
    /// Questions in the order in which they were asked, each as often as it was.
    pub pauses: Vec<PauseTrace>,
    /// How many lanes ran at the same time, at most.
    pub most_lanes: usize,
    /// When each lane ended.
    pub lane_ends: Vec<(Arc<LanePlace>, Time)>,
    /// Which lanes were told to end.
    pub cancelled_lanes: Vec<Arc<LanePlace>>,
    /// Calls that were under way when the run ended.
    pub left_calls: usize,
    /// Lanes that were under way when the run ended.
    pub left_lanes: usize,
    /// Looks for results in the order in which they began.
    pub looks: Vec<LookTrace>,
    /// Results that were put.
    pub puts: Vec<PutTrace>,
    /// How often two made one result at the same time.
    pub double_leads: u32,
    /// How often a result was put or released that nobody was to make.
    pub strange_tickets: u32,
    /// Results still to be made, and looks not answered, when their lane or the run ended.
    pub left_leads: usize,
    /// When the run was cancelled from outside.
    pub cancelled_at: Option<Time>,
    /// How often the seed decided which of two lanes came first.
    pub seed_decided: u32,
    /// Calls that ended by themselves in the very instant of their deadline.
    pub ended_at_deadline: u32,
}

/// A run that has ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// How it ended.
    pub finish: Finish<Simulated>,
    /// What was seen of it.
    pub trace: Trace,
    /// Its budget at the end.
    pub budget: Budget,
    /// When it ended.
    pub ended: Time,
    /// When it had to end.
    pub deadline: Option<Time>,
    /// What was written of it, if anything was.
    pub(crate) recording: Option<Recording>,
}

impl Ran {
    /// Everything in the result as text; equal for equal results.
    pub fn text(&self) -> String {
        serde_json::to_string(&self.finish).unwrap_or_else(|error| error.to_string())
    }

    /// The notices of each lane in order, as text; equal for runs that went the same way.
    pub fn notices_text(&self) -> Vec<String> {
        self.trace
            .notices
            .iter()
            .map(|told| {
                let notice = &told.notice;
                let lane = place(told.lane.as_deref());
                format!(
                    "{lane} {:?} {} {} at {}",
                    notice.node, notice.record, notice.attempt, notice.at
                ) + &format!(" {:?}", notice.kind)
            })
            .collect()
    }
}

/// A lane's place as text, from the outermost construct to the innermost.
pub fn place(mut lane: Option<&LanePlace>) -> String {
    let mut parts = Vec::new();
    while let Some(place) = lane {
        parts.push(format!("{}#{}[{}]", place.node.0, place.record, place.index));
        lane = place.parent.as_deref();
    }
    parts.reverse();
    parts.join("/")
}
