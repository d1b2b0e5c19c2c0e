//! Calls of the simulation: how long each takes, how it ends, and what becomes of it when it is cancelled, late or
//! saved half-way.

use flujo_core::machine::{Answer, Call, CallId, Event, Input, Machine, Role, Status, Time};
use flujo_core::plan::{Kind, NodeId};
use flujo_core::usage::Usage;

use crate::behaviour::{self, Result as Written};
use crate::host::{Simulation, Stuck};
use crate::script::{Act, Does, OnCancel};
use crate::trace::{CallEnd, CallTrace, place};
use crate::under_way::{Due, End, Flight, Orphan};
use crate::{Callable, Object, Simulated};

impl Simulation {
    pub(crate) fn begin_call(&mut self, lane: usize, call: &Call<Simulated>) -> Result<(), Stuck> {
        if self
            .orphans
            .iter()
            .any(|(of, orphan)| *of == lane && matches!(orphan, Orphan::Call(_)))
        {
            return self.resume_call(lane, call);
        }
        let Some(key) = self.lanes[lane].as_ref().map(|lane| lane.key) else {
            return Ok(());
        };
        let nth = self
            .counts
            .get(&(key, call.node, call.role, script_index(call.role, call.index)))
            .copied()
            .unwrap_or(0);
        let node = self.plan.node(call.node);
        let mut act = match (&node.kind, call.role) {
            (_, Role::Hook(_)) => {
                self.hook_calls += 1;
                self.hook.act(self.hook_calls - 1)
            }
            (Kind::Map(map), Role::NextItem) => reading(&map.items, nth),
            (_, role) => {
                let script = node.callable(role, call.index);
                script.map_or_else(Act::default, |script| script.act(nth))
            }
        };
        let lane_place = self.place(lane);
        for (field, _) in &mut act.writes {
            if field.ends_with('#') {
                *field = format!("{field}{nth}@{}", place(lane_place.as_deref()));
            }
        }
        let mut written = behaviour::result(call, node, &act, nth);
        if let Written::Answer(answer, _) = &mut written {
            self.rates.note(answer);
        }
        let record = self.open_record(lane, call.node);
        let trace = self.trace.calls.len();
        self.trace.calls.push(CallTrace {
            lane: lane_place,
            node: call.node,
            record: record.filter(|_| !matches!(call.role, Role::Hook(_))),
            role: call.role,
            index: call.index,
            attempt: call.attempt,
            call: call.call,
            started: self.now,
            ended: None,
            end: None,
            usage: Usage::ZERO,
            wrote: act.writes.iter().map(|(field, _)| field.clone()).collect(),
            obeys: !act.inline && !matches!(act.on_cancel, OnCancel::Linger(_) | OnCancel::Ignore),
        });
        let (at, end) = self.end_of(lane, call, &act, written);
        let due = at.map(|at| {
            self.push(
                at,
                Due::CallEnds {
                    lane,
                    call: call.call,
                    end,
                },
            )
        });
        let flight = Flight {
            trace,
            node: call.node,
            role: call.role,
            index: call.index,
            attempt: call.attempt,
            act,
            due,
            cancelled: false,
        };
        self.flights.insert((lane, call.call), flight);
        Ok(())
    }

    /// The record of this node that is open: there is only one at a time in a lane.
    pub(crate) fn open_record(&self, lane: usize, node: NodeId) -> Option<u32> {
        let records = &self.lanes[lane].as_ref()?.machine.history().records;
        let open = records
            .iter()
            .rposition(|record| record.node == node && record.status == Status::Running);
        open.and_then(|record| u32::try_from(record).ok())
    }

    /// When and how a call ends that is not cancelled: by itself, or at its deadline.
    fn end_of(
        &mut self,
        lane: usize,
        call: &Call<Simulated>,
        act: &Act,
        written: Written,
    ) -> (Option<Time>, End) {
        let by_itself = (act.does != Does::Hang).then(|| self.now.saturating_add(duration(call, act)));
        let written = Box::new(written);
        self.trace.ended_at_deadline +=
            u32::from(act.takes > 0 && by_itself.is_some() && by_itself == call.deadline);
        let deadline = call
            .deadline
            .filter(|deadline| !act.inline && by_itself.is_none_or(|end| end > *deadline));
        let Some(deadline) = deadline.map(|deadline| deadline.max(self.now)) else {
            return (by_itself, End::Written(written));
        };
        match act.on_cancel {
            OnCancel::Linger(more) => (Some(deadline.saturating_add(more)), End::TimedOut(act.usage)),
            OnCancel::Ignore if by_itself.is_some() => (by_itself, End::Written(written)),
            OnCancel::Abandon => {
                if let Some(late) = by_itself {
                    self.push(
                        late.max(deadline.saturating_add(1)),
                        Due::Late {
                            lane,
                            call: call.call,
                            written,
                            usage: act.usage,
                        },
                    );
                }
                (Some(deadline), End::TimedOut(Usage::ZERO))
            }
            OnCancel::Obey | OnCancel::Report | OnCancel::Ignore => {
                (Some(deadline), End::TimedOut(act.usage))
            }
        }
    }

    pub(crate) fn call_ends(&mut self, lane: usize, call: CallId, end: End) {
        let Some(flight) = self.flights.remove(&(lane, call)) else {
            return;
        };
        if let Some(key) = self.lanes[lane].as_ref().map(|lane| lane.key) {
            *self
                .counts
                .entry((
                    key,
                    flight.node,
                    flight.role,
                    script_index(flight.role, flight.index),
                ))
                .or_default() += 1;
        }
        let at = self.now;
        let (event, how, usage) = match end {
            End::TimedOut(usage) => (Event::TimedOut { call, usage, at }, CallEnd::TimedOut, usage),
            End::Cancelled => (Event::CallCancelled { call, at }, CallEnd::Cancelled, Usage::ZERO),
            End::Written(written) => {
                let (how, usage) = match &*written {
                    Written::Failure(_) => (CallEnd::Failed, flight.act.usage),
                    Written::Answer(Answer::Value { usage, .. }, _) => (CallEnd::Answered, *usage),
                    Written::Answer(Answer::Rejected { .. }, _) => (CallEnd::Rejected, Usage::ZERO),
                    Written::Answer(Answer::Redirect { .. }, _) => (CallEnd::Redirected, Usage::ZERO),
                    Written::Answer(Answer::Decision(done), _) => (CallEnd::Decided(*done), Usage::ZERO),
                    Written::Answer(..) => (CallEnd::Answered, Usage::ZERO),
                };
                (written_event(call, *written, usage, at), how, usage)
            }
        };
        if let Some(trace) = self.trace.calls.get_mut(flight.trace) {
            (trace.ended, trace.end, trace.usage) = (Some(at), Some(how), usage);
        }
        self.tell(lane, event);
    }

    pub(crate) fn cancel_call(&mut self, lane: usize, call: CallId) {
        let Some(flight) = self.flights.get_mut(&(lane, call)) else {
            return;
        };
        flight.cancelled = true;
        let after = match flight.act.on_cancel {
            _ if flight.act.inline => return,
            OnCancel::Ignore if flight.act.does != Does::Hang => return,
            OnCancel::Linger(more) => more,
            _ => 0,
        };
        let due = flight.due.take();
        let was = due.and_then(|key| self.queue.remove(&key));
        let at = self.now.saturating_add(after);
        // A call that is being ended by its deadline already ends no later for being cancelled.
        let (at, end) = match (due, was) {
            (
                Some((natural_end, _)),
                Some(Due::CallEnds {
                    end: End::Written(written),
                    ..
                }),
            ) if flight.act.on_cancel == OnCancel::Abandon => {
                let usage = flight.act.usage;
                let answers = natural_end.max(at.saturating_add(1));
                self.push(
                    answers,
                    Due::Late {
                        lane,
                        call,
                        written,
                        usage,
                    },
                );
                (at, End::Cancelled)
            }
            (
                Some((at, _)),
                Some(Due::CallEnds {
                    end: End::TimedOut(usage),
                    ..
                }),
            ) if at <= self.now.saturating_add(after) => (at, End::TimedOut(usage)),
            _ if flight.act.on_cancel == OnCancel::Report && !flight.act.usage.is_zero() => {
                (at, End::TimedOut(flight.act.usage))
            }
            _ => (at, End::Cancelled),
        };
        let key = self.push(at, Due::CallEnds { lane, call, end });
        if let Some(flight) = self.flights.get_mut(&(lane, call)) {
            flight.due = Some(key);
        }
    }

    /// A restored machine asks again for the call that was under way: it goes on under its new name.
    fn resume_call(&mut self, lane: usize, call: &Call<Simulated>) -> Result<(), Stuck> {
        let old = self.orphans.iter().find_map(|orphan| match orphan {
            (of, Orphan::Call(old)) if *of == lane => Some(*old),
            _ => None,
        });
        let Some((old, mut flight)) = old.and_then(|old| Some((old, self.flights.remove(&(lane, old))?)))
        else {
            return Err(Stuck::Forgot(format!(
                "nothing is known of the call of {:?}",
                call.node
            )));
        };
        self.orphans.remove(&(lane, Orphan::Call(old)));
        let same = (flight.node, flight.role, flight.index, flight.attempt)
            == (call.node, call.role, call.index, call.attempt);
        if !same {
            return Err(Stuck::Forgot(format!(
                "{:?} {:?} was under way, but {:?} {:?} is asked for",
                flight.node, flight.role, call.node, call.role
            )));
        }
        if let Some(Due::CallEnds { call: name, .. }) = flight.due.and_then(|key| self.queue.get_mut(&key)) {
            *name = call.call;
        }
        if let Some(trace) = self.trace.calls.get_mut(flight.trace) {
            trace.call = call.call;
        }
        flight.cancelled = false;
        self.flights.insert((lane, call.call), flight);
        Ok(())
    }
}

/// What happened by `now`, with the time of what happened before where a host needn't ask its clock.
pub(crate) fn unclocked(
    machine: &Machine<Simulated>,
    mut event: Event<Simulated>,
    now: Time,
) -> Event<Simulated> {
    if let Event::Answered {
        answer: Answer::Value { .. } | Answer::Done,
        context: None,
        at,
        ..
    } = &mut event
        && *at <= now // one that is made in place is ahead of the other lanes
        && !machine.shows_time()
    {
        *at = machine.now();
    }
    event
}

pub(crate) fn written_event(call: CallId, written: Written, usage: Usage, at: Time) -> Event<Simulated> {
    match written {
        Written::Answer(answer, context) => Event::Answered {
            call,
            answer,
            context,
            at,
        },
        Written::Failure(failure) => Event::Failed {
            call,
            failure: Box::new(failure),
            usage,
            at,
        },
    }
}

/// Which script of a role: a conditional's mappers are the same for all branches.
fn script_index(role: Role, index: u32) -> u32 {
    match role {
        Role::BranchInput | Role::BranchOutput => 0,
        _ => index,
    }
}

/// How long a call takes that is left alone.
fn duration(call: &Call<Simulated>, act: &Act) -> u64 {
    let units = match &call.input {
        Input::Value(Object::Int(number)) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    };
    act.takes.saturating_add(act.takes_per_unit.saturating_mul(units))
}

/// The nth reading of a lazy collection: what its script does after it has given the collection. Only how long it takes,
/// whether it fails and whether it ends is taken from there; the item is the natural one.
fn reading(items: &Callable, nth: usize) -> Act {
    if items.acts.len() < 2 {
        return Act::default();
    }
    let mut act = items.act(nth + 1);
    if !matches!(act.does, Does::Fail { .. } | Does::Hang) {
        act.does = Does::Natural;
    }
    act
}
