//! What is under way in a run: machines, calls, and what is about to happen.

use flujo_core::machine::{CallId, Finish, LaneId, Machine, PauseId, Role, Time, TimerId};
use flujo_core::plan::NodeId;
use flujo_core::usage::Usage;

use crate::behaviour::Result as Written;
use crate::script::Act;
use crate::{Object, Simulated};

/// One machine under way.
pub(crate) struct Lane {
    pub(crate) machine: Machine<Simulated>,
    /// Whether it has been told to end.
    pub(crate) cancelled: bool,
    pub(crate) parent: Option<(usize, LaneId)>,
    /// Tells lanes apart by where they stand, not by when they began.
    pub(crate) key: u64,
}

/// One call under way.
pub(crate) struct Flight {
    pub(crate) trace: usize,
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    pub(crate) index: u32,
    pub(crate) attempt: u32,
    pub(crate) act: Act,
    /// Where in the queue its end is.
    pub(crate) due: Option<(Time, u64)>,
    /// Whether it has been told to end.
    pub(crate) cancelled: bool,
}

/// Something of a saved machine that must be asked for again, as far as it can be told before it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Orphan {
    Call(CallId),
    Timer(TimerId, Time),
    Budget(u64),
    Pause(PauseId),
    Look(u64),
}

/// Something that is to happen.
#[derive(Debug, Clone)]
pub(crate) enum Due {
    CallEnds {
        lane: usize,
        call: CallId,
        end: End,
    },
    /// A call that was given up answers after all.
    Late {
        lane: usize,
        call: CallId,
        written: Box<Written>,
        usage: Usage,
    },
    Woke {
        lane: usize,
        timer: TimerId,
    },
    LaneFinished {
        parent: usize,
        lane: LaneId,
        finish: Box<Finish<Simulated>>,
    },
    Budget {
        lane: usize,
        node: NodeId,
        estimate: Usage,
        actual: Option<Usage>,
    },
    /// A call's turn has come.
    Admitted {
        lane: usize,
    },
    /// A call has waited for its turn for as long as it may.
    NotAdmitted {
        lane: usize,
    },
    /// Somebody's turn may have come.
    NextTurn,
    /// Somebody outside answers a question, or it is too late to.
    Replied {
        lane: usize,
        pause: PauseId,
        answer: Option<Object>,
    },
    /// The cache is asked.
    Look {
        lane: usize,
        look: u64,
    },
    /// It is too late to wait for somebody else's result.
    LookLate {
        lane: usize,
        look: u64,
    },
    /// Somebody outside asks the run to end.
    Cancelled,
}

impl Due {
    /// Whom it happens to; a request from outside is nobody else's.
    pub(crate) fn lane(&self) -> Option<usize> {
        match self {
            Self::CallEnds { lane, .. }
            | Self::Late { lane, .. }
            | Self::Woke { lane, .. }
            | Self::Budget { lane, .. }
            | Self::Look { lane, .. }
            | Self::LookLate { lane, .. }
            | Self::Replied { lane, .. }
            | Self::Admitted { lane }
            | Self::NotAdmitted { lane }
            | Self::LaneFinished { parent: lane, .. } => Some(*lane),
            Self::Cancelled | Self::NextTurn => None,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) enum End {
    Written(Box<Written>),
    TimedOut(Usage),
    Cancelled,
}
