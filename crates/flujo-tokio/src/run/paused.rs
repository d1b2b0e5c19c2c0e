//! A run that stands still, from its first pause on: what it is resumed with, and why it can't be.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flujo_core::config::Twins;
use flujo_core::machine::Time;
use flujo_core::telemetry::SpanContext;
use flujo_core::usage::{Usage, UsageMeter};
use flujo_core::value::Value;
use flujo_durable::Journal;
use tokio::time::Instant;

use super::parked::{Open, Parked, Pause, Wake};
use super::{RunId, Shared};
use crate::analysis::Analysed;
use crate::domain::Tokio;
use crate::runner::Running;

/// A run that can go no further but for answers. Cloning shares it; see [`Runner::resume`](crate::Runner::resume).
#[derive(Clone)]
pub struct PausedRun {
    pauses: Arc<[Pause]>,
    pub(super) kept: Arc<Kept>,
}

/// Why a run is not resumed. It stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The run waits for no answer now.
    #[error("run {run} waits for no answer: it was resumed already, and goes on, has ended or was dropped")]
    NotPaused {
        /// The run.
        run: RunId,
    },
    /// No open question has this id.
    #[error("no pause has the id `{id}`: open are {open}", open = listed(.open))]
    UnknownPause {
        /// The id.
        id: String,
        /// The ids of the open ones.
        open: Vec<String>,
    },
    /// Several questions are open, and the answer doesn't say which one it is for.
    #[error("{count} pauses are open: address the answer to one of {open}", count = .open.len(), open = listed(.open))]
    Ambiguous {
        /// Their ids.
        open: Vec<String>,
    },
    /// The question has been answered before.
    #[error("the pause `{id}` has been answered already")]
    AlreadyAnswered {
        /// Its id.
        id: String,
    },
    /// The answer comes after the time it was allowed.
    #[error(
        "the answer to the pause `{id}` comes too late: resume the run without an answer to it, and it goes on with the \
         default"
    )]
    Expired {
        /// Its id.
        id: String,
    },
    /// There is nothing to go on with.
    #[error("no answer was given and no pause has expired: answer one of {open}", open = listed(.open))]
    NoAnswer {
        /// The ids of the open ones.
        open: Vec<String>,
    },
    /// The run is not one that was stopped and can go on.
    #[error("run {run} is not stopped: it was resumed already, and goes on or has ended")]
    NotStopped {
        /// The run.
        run: RunId,
    },
    /// The run has used more already than it may with these limits.
    #[error(
        "run {run} has used {cost} and {tokens} tokens in {requests} requests already, which is more than the limits \
         allow: raise them further",
        cost = .used.cost, tokens = .used.tokens, requests = .used.requests
    )]
    LimitTooLow {
        /// The run.
        run: RunId,
        /// What it has used.
        used: Usage,
    },
    /// Another runner's pipeline made the run.
    #[error("run {run} belongs to another runner: resume it with the one that began it")]
    OtherRunner {
        /// The run.
        run: RunId,
    },
}

fn listed(ids: &[String]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| format!("`{id}`")).collect();
    ids.join(", ")
}

/// What a run keeps from its first pause on.
pub(super) struct Kept {
    pub(super) id: RunId,
    pub(super) runner: Arc<Running>,
    pub(super) meter: Option<Arc<dyn UsageMeter>>,
    pub(super) twins: Twins,
    pub(super) parent: Option<SpanContext>,
    pub(super) analysed: Arc<Analysed>,
    /// When it went on after it was stopped, and what had been used by then: that has been counted.
    pub(super) counted: (Time, Usage),
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None` while the run goes on.
    parked: Option<Box<Parked>>,
    /// The run's own time when it stopped.
    stopped: Time,
    /// What was written of it, when it is kept in a store.
    journal: Option<Arc<Journal<Tokio>>>,
    /// The questions that were answered, or whose time was up.
    answered: HashSet<String>,
}

/// What a run goes on from. Puts everything back when it is dropped before the run has gone on.
pub(super) struct Resumption {
    pub(super) kept: Arc<Kept>,
    pub(super) stopped: Time,
    pub(super) journal: Option<Arc<Journal<Tokio>>>,
    parked: Option<Box<Parked>>,
    answered: HashSet<String>,
}

impl Resumption {
    pub(super) fn take(mut self) -> Option<Box<Parked>> {
        self.parked.take()
    }
}

impl Drop for Resumption {
    fn drop(&mut self) {
        if let Some(mut parked) = self.parked.take() {
            parked.sleep();
            let mut state = self.kept.lock();
            for id in &self.answered {
                state.answered.remove(id);
            }
            state.parked = Some(parked);
        }
    }
}

impl Kept {
    pub(super) fn new(shared: &Shared, runner: Arc<Running>, counted: (Time, Usage)) -> Self {
        Self {
            id: shared.id.clone(),
            runner,
            meter: shared.meter.clone(),
            twins: shared.twins.now(),
            parent: shared.parent,
            analysed: Arc::clone(&shared.analysed),
            counted,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole values are put in place, so the state is good also after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The run stands still again.
    pub(super) fn park(
        self: Arc<Self>,
        parked: Box<Parked>,
        stopped: Time,
        journal: Option<Arc<Journal<Tokio>>>,
    ) -> PausedRun {
        let open: Arc<[Pause]> = parked.open().into_iter().map(|open| open.pause).collect();
        let mut state = self.lock();
        for pause in open.iter() {
            state.answered.remove(&pause.id); // one whose answer was not taken is open again
        }
        state.parked = Some(parked);
        state.stopped = stopped;
        state.journal = journal;
        drop(state);
        PausedRun {
            pauses: open,
            kept: self,
        }
    }
}

/// What a paused run is resumed with.
pub(crate) enum Answers {
    /// The one answer.
    Bare(Value),
    /// Answers by the ids of their questions.
    To(Vec<(String, Value)>),
    /// None: the run is to end.
    Cancel,
}

impl PausedRun {
    /// The run.
    pub fn id(&self) -> RunId {
        self.kept.id.clone()
    }

    /// The questions it waits with, in declared order, as they were when it paused.
    pub fn pauses(&self) -> &[Pause] {
        &self.pauses
    }

    /// Takes the run out to be driven on, with what came of each question.
    pub(super) fn take(&self, runner: &Arc<Running>, answers: Answers) -> Result<Resumption, ResumeError> {
        let run = self.kept.id.clone();
        if !Arc::ptr_eq(&self.kept.runner, runner) {
            return Err(ResumeError::OtherRunner { run });
        }
        let mut state = self.kept.lock();
        let open = match &state.parked {
            Some(parked) => parked.open(),
            None => Vec::new(),
        };
        let now = Instant::now();
        let late = |pause: &Pause| pause.expires.is_some_and(|expires| expires <= now);
        let ids = || open.iter().map(|open| open.pause.id.clone()).collect::<Vec<_>>();
        let mut wakes = Vec::new();
        let answers = match answers {
            Answers::Cancel => {
                wakes.push((&[][..], Wake::Cancel));
                Vec::new()
            }
            Answers::To(answers) => answers,
            Answers::Bare(answer) => {
                let asked = |id: &str| self.pauses.iter().any(|pause| pause.id == id);
                let mut waiting = open.iter().filter(|open| asked(&open.pause.id));
                let in_time = waiting.clone().filter(|open| !late(&open.pause)).count();
                if in_time > 1 {
                    return Err(ResumeError::Ambiguous { open: ids() });
                }
                let one = waiting.clone().find(|open| !late(&open.pause));
                match (one.or_else(|| waiting.next()), self.pauses.first()) {
                    (Some(open), _) => vec![(open.pause.id.clone(), answer)],
                    (None, Some(pause)) if state.answered.contains(&pause.id) => {
                        return Err(ResumeError::AlreadyAnswered { id: pause.id.clone() });
                    }
                    _ => return Err(ResumeError::NotPaused { run }),
                }
            }
        };
        let by_id: HashMap<&str, &Open> = open.iter().map(|open| (&*open.pause.id, open)).collect();
        let mut answered = HashSet::new();
        for (id, answer) in answers {
            if state.answered.contains(&id) || answered.contains(&id) {
                return Err(ResumeError::AlreadyAnswered { id });
            }
            if state.parked.is_none() {
                return Err(ResumeError::NotPaused { run });
            }
            let Some(open) = by_id.get(&*id) else {
                return Err(ResumeError::UnknownPause { id, open: ids() });
            };
            if late(&open.pause) {
                return Err(ResumeError::Expired { id });
            }
            wakes.push((&open.way, Wake::Answer(answer)));
            answered.insert(id);
        }
        if !matches!(wakes.first(), Some((_, Wake::Cancel))) {
            for open in open.iter().filter(|open| late(&open.pause)) {
                wakes.push((&open.way, Wake::Expired));
                answered.insert(open.pause.id.clone());
            }
        }
        let Some(mut parked) = state.parked.take() else {
            return Err(ResumeError::NotPaused { run });
        };
        if wakes.is_empty() {
            state.parked = Some(parked);
            return Err(ResumeError::NoAnswer { open: ids() });
        }
        for (way, wake) in wakes {
            parked.wake(way, wake);
        }
        state.answered.extend(answered.iter().cloned());
        Ok(Resumption {
            kept: Arc::clone(&self.kept),
            stopped: state.stopped,
            journal: state.journal.clone(),
            parked: Some(parked),
            answered,
        })
    }
}

impl fmt::Debug for PausedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PausedRun")
            .field("id", &self.id())
            .field("pauses", &self.pauses)
            .finish_non_exhaustive()
    }
}
