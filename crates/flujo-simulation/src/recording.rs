//! What is written of a run while it is simulated, as a host with a store writes it: saving means to make the run again
//! from that.

use std::collections::HashMap;
use std::sync::Arc;

use flujo_core::machine::{Event, Finish, LaneId, Machine, Options};
use flujo_core::plan::Plan;
use flujo_durable::{Entry, GoingOn, Happened, Host, Recorded, Replay, Saved, Snapshot, Start};

use crate::{Callable, Context, Simulated, Stuck};

impl Recorded for Simulated {
    type Base = Context;

    /// Simulated contexts are small.
    type Writes = Context;

    fn writes(_: &Context, fork: &Context) -> Context {
        fork.clone()
    }

    fn written(_: &Context, _: bool, writes: Context) -> Result<Context, String> {
        Ok(writes)
    }
}

/// A snapshot, and what came after it.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    snapshot: Vec<u8>,
    entries: Vec<u8>,
    /// What could not be written.
    failed: Option<Stuck>,
    /// The contexts of the calls that are under way.
    pub(crate) asked: HashMap<usize, Context>,
}

fn unusable(error: &impl ToString) -> Stuck {
    Stuck::Unusable(error.to_string())
}

fn number(lane: usize) -> Result<u32, Stuck> {
    u32::try_from(lane).map_err(|error| unusable(&error))
}

impl Recording {
    /// A run that is about to begin.
    pub(crate) fn of(start: Start<Simulated>) -> Self {
        let mut recording = Self {
            snapshot: Vec::new(),
            entries: Vec::new(),
            failed: None,
            asked: HashMap::new(),
        };
        recording.begin_behind(&Snapshot::Start(start));
        recording
    }

    fn begin_behind(&mut self, snapshot: &Snapshot<Simulated>) {
        match snapshot.to_bytes() {
            Ok(bytes) => self.snapshot = bytes,
            Err(error) => self.failed = Some(unusable(&error)),
        }
        self.entries.clear();
    }

    fn push(&mut self, lane: usize, happened: Happened<Simulated>) {
        let written = number(lane).and_then(|machine| {
            let entry = Entry::of(machine, happened);
            entry.write(&mut self.entries).map_err(|error| unusable(&error))
        });
        self.failed = self.failed.take().or(written.err());
    }

    /// A machine is about to be told of this.
    pub(crate) fn told(&mut self, lane: usize, machine: &Machine<Simulated>, event: &Event<Simulated>) {
        self.push(lane, Happened::of(machine, event, self.asked.get(&lane)));
    }

    pub(crate) fn began(&mut self, lane: usize, parent: usize, id: LaneId) {
        match number(parent) {
            Ok(parent) => self.push(lane, Happened::Began { parent, lane: id }),
            Err(stuck) => self.failed = Some(stuck),
        }
    }

    /// The run goes on after it was stopped: its machines are numbered anew.
    pub(crate) fn taken_up(&mut self, options: Options) {
        let (at, limits) = (0, None);
        self.asked.clear();
        self.push(0, Happened::TakenUp { options, at, limits });
    }

    fn read(&mut self, plan: &Arc<Plan<Callable>>) -> Result<Replay<Simulated>, Stuck> {
        if let Some(stuck) = self.failed.take() {
            return Err(stuck);
        }
        let snapshot = Snapshot::from_bytes(&self.snapshot).map_err(|error| unusable(&error))?;
        let mut replay = Replay::new(Arc::clone(plan), snapshot).map_err(Stuck::Forgot)?;
        for entry in Entry::read_all(&self.entries).map_err(|error| unusable(&error))? {
            replay.feed(entry).map_err(Stuck::Forgot)?;
        }
        Ok(replay)
    }

    /// The end that was written of the run.
    pub(crate) fn end(&mut self, plan: &Arc<Plan<Callable>>) -> Result<Box<Finish<Simulated>>, Stuck> {
        let end = self.read(plan)?.into_finish();
        end.ok_or_else(|| Stuck::Forgot("what was written doesn't tell of the end of the run".to_owned()))
    }

    /// The run as it was written, on its way again.
    pub(crate) fn replay(
        &mut self,
        plan: &Arc<Plan<Callable>>,
        now: u64,
    ) -> Result<HashMap<usize, Machine<Simulated>>, Stuck> {
        let GoingOn::Machines {
            entries, machines, ..
        } = self
            .read(plan)?
            .go_on(Host::Same, None, now, 0)
            .map_err(Stuck::Forgot)?
        else {
            return Err(Stuck::Forgot(
                "what was written tells of the end of the run".to_owned(),
            ));
        };
        for entry in entries {
            entry.write(&mut self.entries).map_err(|error| unusable(&error))?;
        }
        Ok(machines
            .into_iter()
            .map(|restored| (restored.number as usize, restored.machine))
            .collect())
    }

    /// Begins anew behind a snapshot of these machines.
    pub(crate) fn begin_anew(&mut self, machines: Vec<Saved<Simulated>>, next: usize) -> Result<(), Stuck> {
        let next = number(next)?;
        self.begin_behind(&Snapshot::Machines {
            machines,
            next,
            asked: Vec::new(),
            limits: None,
        });
        Ok(())
    }
}
