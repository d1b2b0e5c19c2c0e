//! Rate limits on virtual time: who waits for their turn, and who has it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::task::Waker;

use flujo_core::machine::{Answer, CallId, Command, Event, Time};
use flujo_core::plan::{Kind, NodeId};
use flujo_core::rate::{Admission, RateLimit, Registry, Turn};
use flujo_core::usage::Usage;

use crate::host::Simulation;
use crate::under_way::{Due, Orphan};
use crate::{Case, Object, Simulated};

/// The rate limits of a simulation.
#[derive(Default)]
pub(crate) struct Rates {
    /// Those that hold for every call.
    all: Vec<RateLimit>,
    /// Those of agents that plugins ask for, by their identity.
    agents: BTreeMap<u64, RateLimit>,
    registry: Registry,
    /// In the order in which they came.
    line: Vec<Waiting>,
    /// By machine; each makes one call at a time.
    admitted: HashMap<usize, (CallId, Admission)>,
    /// When to look again.
    again: Option<(Time, u64)>,
}

struct Waiting {
    lane: usize,
    call: CallId,
    admission: Admission,
    /// When it waits no longer.
    gives_up: Option<(Time, u64)>,
}

impl Rates {
    pub(crate) fn new(case: &Case) -> Self {
        Self {
            all: case.rates.clone(),
            agents: case.agent_rates.clone(),
            ..Self::default()
        }
    }

    /// The limit of an agent that a plugin asks for.
    fn of_agent(&self, agent: &Object) -> Option<&RateLimit> {
        let identity = agent.as_int().and_then(|number| u64::try_from(number).ok())?;
        self.agents.get(&identity)
    }

    /// Says in a plugin's answer whether the agent that it asks for has a limit.
    pub(crate) fn note(&self, answer: &mut Answer<Simulated>) {
        if let Answer::Redirect { agent, rated, .. } = answer {
            *rated = self.of_agent(agent).is_some();
        }
    }

    /// The machines that wait for their turn, or have it and haven't been told.
    pub(crate) fn asked(&self) -> impl Iterator<Item = (usize, CallId)> {
        self.line.iter().map(|waiting| (waiting.lane, waiting.call))
    }

    pub(crate) fn call_of(&self, lane: usize) -> Option<CallId> {
        self.admitted.get(&lane).map(|(call, _)| *call)
    }
}

impl Simulation {
    /// What a machine asks about its rate limits.
    pub(crate) fn rate(&mut self, lane: usize, command: &Command<Simulated>) {
        match command {
            Command::Admit {
                call,
                node,
                tokens,
                deadline,
                agent,
            } => self.admit(lane, *call, (*node, agent.as_ref()), *tokens, *deadline),
            Command::Release { tokens, hold } => self.call_ended(lane, *tokens, *hold),
            _ => {}
        }
    }

    fn admit(
        &mut self,
        lane: usize,
        call: CallId,
        (node, agent): (NodeId, Option<&Object>),
        tokens: u64,
        deadline: Option<Time>,
    ) {
        let waiting = self.rates.line.iter_mut().find(|waiting| waiting.lane == lane);
        let known = waiting.map(|waiting| &mut waiting.call);
        let admitted = self.rates.admitted.get_mut(&lane).map(|(call, _)| call);
        if let Some(known) = known.or(admitted) {
            // A restored machine asks again.
            let before = std::mem::replace(known, call);
            self.orphans.remove(&(lane, Orphan::Call(before)));
            return;
        }
        let Kind::Step(step) = &self.plan.node(node).kind else {
            return;
        };
        let rates = &self.rates;
        let own = agent.and_then(|agent| rates.of_agent(agent));
        let limits = rates
            .registry
            .buckets(step.rates.iter().chain(&rates.all).chain(own), self.now)
            .unwrap_or_else(|_| Arc::from([])); // cases are written with limits that can be kept
        let gives_up = deadline.map(|deadline| self.push(deadline, Due::NotAdmitted { lane }));
        self.look_at(Waiting {
            lane,
            call,
            admission: Admission::new(limits, tokens),
            gives_up,
        });
    }

    fn call_ended(&mut self, lane: usize, tokens: u64, hold: Option<Time>) {
        if let Some((_, admission)) = self.rates.admitted.remove(&lane) {
            let hold = hold.map(|wait| self.now.saturating_add(wait));
            admission.settle(tokens, hold, self.now);
            self.look_again(self.now);
        }
    }

    /// Lets the next one through whose turn it is. Those behind it are woken when it has gone on as far as it comes by
    /// itself: a call that takes no time may make them wait.
    pub(crate) fn let_through(&mut self) {
        self.rates.again = None;
        let mut line = std::mem::take(&mut self.rates.line).into_iter();
        let admitted = line.by_ref().any(|waiting| self.look_at(waiting));
        self.rates.line.extend(line);
        if admitted && !self.rates.line.is_empty() {
            self.look_again(self.now);
        }
    }

    /// Lets one through if it is its turn, and says so; else it waits.
    fn look_at(&mut self, mut waiting: Waiting) -> bool {
        match waiting.admission.poll(self.now, Waker::noop()) {
            Turn::Admitted => {
                if let Some(key) = waiting.gives_up {
                    self.queue.remove(&key);
                }
                let Waiting {
                    lane,
                    call,
                    admission,
                    ..
                } = waiting;
                self.rates.admitted.insert(lane, (call, admission));
                self.push(self.now, Due::Admitted { lane });
                true
            }
            Turn::Wait(until) => {
                self.rates.line.push(waiting);
                if let Some(at) = until {
                    self.look_again(at);
                }
                false
            }
        }
    }

    /// Those who wait look again at this time, or before. Whoever's call has ended goes on as far as it comes by itself
    /// before those who wait for its end are woken.
    fn look_again(&mut self, at: Time) {
        if let Some(key) = self.rates.again {
            if key.0 <= at {
                return;
            }
            self.queue.remove(&key);
        }
        self.rates.again = Some(self.push(at, Due::NextTurn));
    }

    pub(crate) fn was_admitted(&mut self, lane: usize) {
        if let Some(call) = self.rates.call_of(lane) {
            let event = Event::Answered {
                call,
                answer: Answer::Done,
                context: None,
                at: self.now,
            };
            self.tell(lane, event);
        }
    }

    /// It waits no longer: its time is up.
    pub(crate) fn was_not_admitted(&mut self, lane: usize) {
        if let Some(call) = self.leave_line(lane) {
            let (usage, at) = (Usage::ZERO, self.now);
            self.tell(lane, Event::TimedOut { call, usage, at });
        }
    }

    /// Whether the call was one that waited for its turn; it waits no longer.
    pub(crate) fn cancel_admission(&mut self, lane: usize, call: CallId) -> bool {
        let waits = self.rates.asked().any(|asked| asked == (lane, call));
        if waits && self.leave_line(lane).is_some() {
            let at = self.now;
            self.tell(lane, Event::CallCancelled { call, at });
        }
        waits
    }

    fn leave_line(&mut self, lane: usize) -> Option<CallId> {
        let place = self.rates.line.iter().position(|waiting| waiting.lane == lane)?;
        let waiting = self.rates.line.remove(place);
        if let Some(key) = waiting.gives_up {
            self.queue.remove(&key);
        }
        let call = waiting.call;
        drop(waiting);
        self.look_again(self.now);
        Some(call)
    }
}
