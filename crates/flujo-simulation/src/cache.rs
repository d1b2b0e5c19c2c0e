//! The cache of a run's cached steps: the engine's own, with look-ups that take virtual time, that find nothing, or what
//! nobody made, where the seed says so, that wait for one another and are given up.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use flujo_core::cache::{
    CacheKey, Found, Kept, KeyBuilder, Landed, ReadSet, StepCache, Turn, Uncached, Waiter, Wanted,
};
use flujo_core::config::Twin;
use flujo_core::machine::{CacheGet, CacheLead, CachePut, CacheTicket, CallId, Event, Role, Time};
use flujo_core::plan::{Kind, NodeId};
use flujo_core::usage::Usage;

use crate::host::Simulation;
use crate::random::mix;
use crate::trace::{LookEnd, LookTrace, PutTrace};
use crate::under_way::{Due, Orphan};
use crate::{Object, Simulated};

/// The fate of a look-up that takes no time and finds what is there.
const SOUND: u64 = 15;

/// The results of a run, and what is under way with them.
pub(crate) struct Cache {
    steps: StepCache<Object, Seat>,
    waiting: Rc<RefCell<Waiting>>,
    looks: BTreeMap<u64, Look>,
    leads: BTreeMap<CacheTicket, Lead>,
    serial: u64,
}

/// Look-ups that wait for somebody else's result, and what they were told.
#[derive(Default)]
struct Waiting {
    looks: BTreeSet<u64>,
    told: Vec<(u64, Told)>,
}

enum Told {
    Landed(Arc<Landed<Object>>),
    Turn(Turn),
}

/// The place of a look-up among those that wait.
struct Seat {
    look: u64,
    waiting: Rc<RefCell<Waiting>>,
}

impl Waiter<Object> for Seat {
    fn landed(self, landed: Arc<Landed<Object>>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.looks.remove(&self.look) {
            waiting.told.push((self.look, Told::Landed(landed)));
        }
    }

    fn turn(self, turn: Turn) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        let waits = waiting.looks.remove(&self.look);
        if waits {
            waiting.told.push((self.look, Told::Turn(turn)));
        }
        waits
    }
}

struct Look {
    lane: usize,
    call: CallId,
    node: NodeId,
    primary: CacheKey,
    deadline: Option<Time>,
    trace: usize,
    /// What the seed says of it.
    fate: u64,
}

struct Lead {
    lane: usize,
    turn: Turn,
    primary: CacheKey,
    record: Option<u32>,
}

impl Cache {
    /// An empty cache, kept by either twin.
    pub(crate) fn new(twin: Twin) -> Self {
        Self {
            steps: StepCache::new(twin, 64),
            waiting: Rc::default(),
            looks: BTreeMap::new(),
            leads: BTreeMap::new(),
            serial: 0,
        }
    }

    /// How many results are still to be made, and how many look-ups not answered.
    pub(crate) fn left(&self) -> usize {
        self.leads.len() + self.looks.len() + self.steps.under_way()
    }

    /// Look-ups that a saved machine must ask for again.
    pub(crate) fn orphans(&self) -> impl Iterator<Item = (usize, Orphan)> {
        self.looks.iter().map(|(look, of)| (of.lane, Orphan::Look(*look)))
    }

    pub(crate) fn any_led(&self) -> bool {
        !self.leads.is_empty()
    }

    pub(crate) fn is_waiting(&self, look: u64) -> bool {
        self.waiting.borrow().looks.contains(&look)
    }
}

impl Simulation {
    pub(crate) fn begin_look(&mut self, lane: usize, get: &CacheGet<Simulated>) {
        let orphan = self.orphans.iter().find_map(|orphan| match orphan {
            (of, Orphan::Look(look)) if *of == lane => Some(*look),
            _ => None,
        });
        if let Some(look) = orphan {
            self.orphans.remove(&(lane, Orphan::Look(look)));
            if let Some(look) = self.cache.looks.get_mut(&look) {
                look.call = get.call;
            }
            return;
        }
        let Some(key) = self.lanes[lane].as_ref().map(|lane| lane.key) else {
            return;
        };
        let nth = self.counts.entry((key, get.node, Role::CacheKey, 0)).or_default();
        *nth += 1;
        let fate = if self.schedule.faulty_cache {
            mix(self.schedule.seed ^ key ^ (u64::from(get.node.0) << 32) ^ *nth as u64)
        } else {
            SOUND
        };
        let record = self.open_record(lane, get.node);
        self.trace.looks.push(LookTrace {
            lane: self.place(lane),
            node: get.node,
            record,
            end: None,
            waited: false,
        });
        self.cache.serial += 1;
        let look = self.cache.serial;
        let of = Look {
            lane,
            call: get.call,
            node: get.node,
            primary: self.key_of(get),
            deadline: get.deadline,
            trace: self.trace.looks.len() - 1,
            fate,
        };
        self.cache.looks.insert(look, of);
        // Half of them take no time.
        let takes = if fate >> 16 & 1 == 0 { 0 } else { fate >> 32 & 31 };
        let at = self.now.saturating_add(takes);
        let at = get.deadline.map_or(at, |deadline| at.min(deadline));
        self.push(at, Due::Look { lane, look });
    }

    fn key_of(&self, get: &CacheGet<Simulated>) -> CacheKey {
        let mut key = KeyBuilder::new("simulation");
        if let Kind::Step(step) = &self.plan.node(get.node).kind
            && let Some(cache) = &step.cache
            && cache.policy.version.is_none()
        {
            key.key(cache.base).text(&format!("{:?}", get.input));
        }
        key.finish()
    }

    pub(crate) fn look(&mut self, look: u64) {
        let Some(of) = self.cache.looks.get(&look) else {
            return;
        };
        let (primary, late) = (
            of.primary,
            of.deadline.is_some_and(|deadline| self.now >= deadline),
        );
        match of.fate & 15 {
            _ if late => self.look_ends(look, LookEnd::TimedOut, None),
            0 => self.look_ends(look, LookEnd::Uncached, None),
            // Whoever put it there is another run.
            1..4 => {
                let output = Object::Int(i64::from(of.node.0));
                let kept = Kept {
                    output,
                    usage: Usage {
                        tokens: 3,
                        ..Usage::ZERO
                    },
                };
                self.look_ends(look, LookEnd::Hit, Some(kept));
            }
            _ => {
                let waiting = Rc::clone(&self.cache.waiting);
                let wanted = Wanted {
                    primary,
                    fields: None,
                };
                let seat = || {
                    waiting.borrow_mut().looks.insert(look);
                    Seat {
                        look,
                        waiting: Rc::clone(&waiting),
                    }
                };
                match self.cache.steps.look(wanted, self.now, seat) {
                    Found::Kept(kept) => self.look_ends(look, LookEnd::Hit, Some(kept)),
                    Found::Lead(turn) => self.lead(look, turn),
                    Found::UnderWay => {
                        let trace = self.trace.looks.get_mut(of.trace);
                        if let Some(trace) = trace {
                            trace.waited = true;
                        }
                        if let Some(deadline) = of.deadline {
                            let lane = of.lane;
                            self.push(deadline, Due::LookLate { lane, look });
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn look_late(&mut self, look: u64) {
        if self.cache.waiting.borrow_mut().looks.remove(&look) {
            self.look_ends(look, LookEnd::TimedOut, None);
        }
    }

    /// Gives a look-up up; false when it is none.
    pub(crate) fn cancel_look(&mut self, lane: usize, call: CallId) -> bool {
        let mut looks = self.cache.looks.iter();
        let Some((look, _)) = looks.find(|(_, of)| (of.lane, of.call) == (lane, call)) else {
            return false;
        };
        let look = *look;
        self.cache.waiting.borrow_mut().looks.remove(&look);
        self.look_ends(look, LookEnd::Cancelled, None);
        true
    }

    fn lead(&mut self, look: u64, turn: Turn) {
        let Some(of) = self.cache.looks.get(&look) else {
            return;
        };
        let (lane, primary) = (of.lane, of.primary);
        self.trace.double_leads += u32::from(self.cache.leads.values().any(|lead| lead.primary == primary));
        self.cache.serial += 1;
        let record = self.trace.looks.get(of.trace).and_then(|trace| trace.record);
        let lead = Lead {
            lane,
            turn,
            primary,
            record,
        };
        self.cache.leads.insert(CacheTicket(self.cache.serial), lead);
        self.look_ends(look, LookEnd::Led(CacheTicket(self.cache.serial)), None);
    }

    fn look_ends(&mut self, look: u64, end: LookEnd, kept: Option<Kept<Object>>) {
        let Some(Look {
            lane, call, trace, ..
        }) = self.cache.looks.remove(&look)
        else {
            return;
        };
        if let Some(trace) = self.trace.looks.get_mut(trace) {
            trace.end = Some(end);
        }
        let at = self.now;
        let event = match (end, kept) {
            (LookEnd::Hit, Some(kept)) => Event::CacheHit {
                call,
                output: kept.output,
                saved: kept.usage,
                at,
            },
            (LookEnd::Led(ticket), _) => {
                let context = self.lanes[lane]
                    .as_ref()
                    .map(|lane| lane.machine.context().clone());
                Event::CacheMiss {
                    call,
                    lead: Some(CacheLead { ticket, context }),
                    at,
                }
            }
            (LookEnd::TimedOut, _) => Event::TimedOut {
                call,
                usage: Usage::ZERO,
                at,
            },
            (LookEnd::Cancelled, _) => Event::CallCancelled { call, at },
            _ => Event::CacheMiss { call, lead: None, at },
        };
        self.tell(lane, event);
    }

    pub(crate) fn put(&mut self, lane: usize, put: &CachePut<Simulated>) {
        let Some(lead) = self.cache.leads.remove(&put.ticket) else {
            self.trace.strange_tickets += 1;
            return;
        };
        self.trace.puts.push(PutTrace {
            lane: self.place(lane),
            node: put.node,
            record: lead.record,
        });
        let wanted = Wanted {
            primary: lead.primary,
            fields: None,
        };
        let kept = Kept {
            output: put.output.clone(),
            usage: put.usage,
        };
        // Without fields there is always a key.
        let _ = self
            .cache
            .steps
            .put(lead.turn, wanted, ReadSet::default(), kept, None, self.now);
        self.tell_waiting();
    }

    pub(crate) fn release(&mut self, ticket: CacheTicket, reason: Uncached) {
        match self.cache.leads.remove(&ticket) {
            Some(lead) => self.cache.steps.release(lead.turn, reason),
            None => self.trace.strange_tickets += 1,
        }
        self.tell_waiting();
    }

    /// A machine and those it is a lane of stand still, or are dropped: others make the results.
    pub(crate) fn give_up_leads(&mut self, lane: usize, reason: Uncached) {
        let mut next = Some(lane);
        while let Some(lane) = next {
            let Some(running) = self.lanes[lane].as_mut() else {
                return;
            };
            next = running.parent.map(|(parent, _)| parent);
            for ticket in running.machine.give_up_leads() {
                self.release(ticket, reason);
            }
        }
    }

    fn tell_waiting(&mut self) {
        loop {
            let told = self.cache.waiting.borrow_mut().told.pop();
            let Some((look, told)) = told else { return };
            match told {
                Told::Turn(turn) => self.lead(look, turn),
                Told::Landed(landed) => {
                    let primary = self.cache.looks.get(&look).map(|of| of.primary);
                    let kept = primary.and_then(|primary| {
                        landed.answers(Wanted {
                            primary,
                            fields: None,
                        })
                    });
                    match kept {
                        Some(kept) => self.look_ends(look, LookEnd::Hit, Some(kept)),
                        None => self.look(look),
                    }
                }
            }
        }
    }

    pub(crate) fn leads_of(&self, lane: usize) -> usize {
        self.cache.leads.values().filter(|lead| lead.lane == lane).count()
    }
}
