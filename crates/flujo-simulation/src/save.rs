//! Saving and restoring in the middle of a run: every machine is dropped and made again from what was written of the run,
//! which is what happened, behind a snapshot now and then. It must be the very machine that it was. Calls, timers and reservations that were under way go on as soon as the restored machine asks for them again; a
//! machine that forgets one, or asks for another, is found out.

use std::collections::HashMap;
use std::sync::Arc;

use flujo_core::cache::Uncached;
use flujo_core::machine::{Finish, LaneId, Machine, State};
use flujo_core::plan::Plan;
use flujo_durable::Saved;

use crate::budget::Budget;
use crate::host::{Simulation, Stuck};
use crate::under_way::{Due, Orphan};
use crate::{Callable, Case, Ran, Simulated};

impl Simulation {
    /// A run of a case that was stopped, going on with the limits of the case from what it kept.
    ///
    /// # Errors
    /// [`Stuck::Unusable`] when the pipeline does not compile, or nothing was kept.
    pub fn going_on(case: &Case, stopped: Ran) -> Result<Self, Stuck> {
        let (used, mut recording) = (stopped.finish.usage, stopped.recording);
        let kept = stopped.finish.kept;
        let kept = kept.ok_or_else(|| Stuck::Unusable("the run kept nothing to go on from".to_owned()))?;
        let mut simulation = Self::new(case)?;
        let machine = Machine::go_on(Arc::clone(&simulation.plan), *kept, case.options(), 0);
        simulation.budget = Budget::having_used(case.twin(), case.limits, used);
        if let Some(recording) = &mut recording {
            recording.taken_up(case.options());
        }
        simulation.recording = recording;
        if let Some(Some(lane)) = simulation.lanes.first_mut() {
            lane.machine = machine;
        }
        Ok(simulation)
    }

    /// Whether what was written of the run tells of the end that it has come to.
    pub(crate) fn tells(&mut self, finish: &Finish<Simulated>) -> Result<(), Stuck> {
        let Some(recording) = &mut self.recording else {
            return Ok(());
        };
        let (told, ended) = (written(&*recording.end(&self.plan)?)?, written(finish)?);
        if told == ended {
            return Ok(());
        }
        Err(Stuck::Forgot(format!("its end: {}", difference(&told, &ended))))
    }

    /// Whether it is time to save. A run that is being stopped is not saved: what
    /// it waits for would be gone.
    pub(crate) fn wants_save(&self) -> bool {
        let due = self
            .schedule
            .save_after
            .iter()
            .any(|after| u64::from(*after) <= self.trace.commands);
        due && !self.is_stopping()
    }

    fn is_stopping(&self) -> bool {
        self.lanes.iter().flatten().any(|lane| lane.cancelled)
            || self.flights.values().any(|flight| flight.cancelled)
    }

    /// Saves everything, drops it and goes on from what was saved.
    pub(crate) fn save_and_restore(&mut self) -> Result<(), Stuck> {
        let commands = self.trace.commands;
        self.schedule
            .save_after
            .retain(|after| u64::from(*after) > commands);
        // Whoever's turn it is then is dropped too.
        while self.cache.any_led() {
            for lane in 0..self.lanes.len() {
                self.give_up_leads(lane, Uncached::Stopped);
            }
            self.poll_all()?;
        }
        // That may have been the command behind which it is cancelled.
        if self.is_stopping() {
            return Ok(());
        }
        self.trace.saves += 1;
        self.note_orphans();
        if self.trace.saves.is_multiple_of(2) {
            self.begin_anew_behind_a_snapshot()?;
        }
        let now = self.now;
        let replayed = match &mut self.recording {
            Some(recording) => recording.replay(&self.plan, now)?,
            None => return Err(Stuck::Unusable("nothing was recorded".to_owned())),
        };
        self.restore(replayed)?;
        for due in self.queue.values_mut() {
            if let Due::LaneFinished { finish, .. } = due {
                let text = written(&**finish)?;
                **finish = read::<Finish<Simulated>>(&text)?;
            }
        }
        // What is asked for again takes neither a place in the count of commands nor a number from the seed, so that
        // everything after it goes as it would have gone.
        let (random, cancel_after) = (self.random.clone(), self.schedule.cancel_after.take());
        self.poll_all()?;
        (self.random, self.schedule.cancel_after) = (random, cancel_after);
        self.trace.commands = commands;
        // A reservation that was given back unasked is answered to nobody; all else must have been asked for again.
        self.orphans
            .retain(|(_, orphan)| !matches!(orphan, Orphan::Budget(_)));
        match self.orphans.iter().next() {
            Some((lane, orphan)) => Err(Stuck::Forgot(format!(
                "machine {lane} did not ask again for {orphan:?}"
            ))),
            None => Ok(()),
        }
    }

    fn note_orphans(&mut self) {
        self.orphans.extend(self.cache.orphans());
        for (lane, call) in self.flights.keys() {
            self.orphans.insert((*lane, Orphan::Call(*call)));
        }
        for (lane, call) in self.rates.asked() {
            self.orphans.insert((lane, Orphan::Call(call)));
        }
        for (at, due) in &self.queue {
            match due {
                Due::Admitted { lane } if self.lanes[*lane].is_some() => {
                    let call = self.rates.call_of(*lane);
                    self.orphans.extend(call.map(|call| (*lane, Orphan::Call(call))));
                }
                Due::Woke { lane, timer }
                    if self.lanes[*lane].is_some() && !self.dead_timers.contains(&(*lane, *timer)) =>
                {
                    self.orphans.insert((*lane, Orphan::Timer(*timer, at.0)));
                }
                Due::Replied { lane, pause, .. } if self.lanes[*lane].is_some() => {
                    self.orphans.insert((*lane, Orphan::Pause(*pause)));
                }
                Due::Budget { lane, .. } if self.lanes[*lane].is_some() => {
                    self.orphans.insert((*lane, Orphan::Budget(at.1)));
                }
                _ => {}
            }
        }
    }

    /// Has a snapshot stand for all that was recorded, unless a lane has ended that the machine around it waits for.
    fn begin_anew_behind_a_snapshot(&mut self) -> Result<(), Stuck> {
        if self
            .queue
            .values()
            .any(|due| matches!(due, Due::LaneFinished { .. }))
        {
            return Ok(());
        }
        let mut machines = Vec::new();
        for (number, lane) in (0u32..).zip(&mut self.lanes) {
            let Some(running) = lane else { continue };
            let text = written(&running.machine.save(self.now))?;
            machines.push(Saved {
                machine: number,
                parent: match running.parent {
                    Some((parent, id)) => Some((
                        u32::try_from(parent).map_err(|error| Stuck::Unusable(error.to_string()))?,
                        id,
                    )),
                    None => None,
                },
                state: read(&text)?,
                once: None,
                sleeping: None,
            });
            running.machine = Machine::restore(Arc::clone(&self.plan), read(&text)?, self.now);
        }
        match &mut self.recording {
            Some(recording) => recording.begin_anew(machines, self.lanes.len()),
            None => Ok(()),
        }
    }

    /// Puts machines that were made again in the places of those that were written.
    fn restore(&mut self, mut machines: HashMap<usize, Machine<Simulated>>) -> Result<(), Stuck> {
        for lane in 0..self.lanes.len() {
            let machine = machines.remove(&lane);
            let Some(running) = self.lanes[lane].as_mut() else {
                continue;
            };
            let machine = machine.ok_or_else(|| Stuck::Forgot(format!("machine {lane} is gone")))?;
            let (left, right) = (
                machine.save(self.now),
                restored_again(&self.plan, &running.machine, self.now),
            );
            let (left, right) = (written(&left)?, written(&right)?);
            if left != right {
                let difference = difference(&left, &right);
                return Err(Stuck::Forgot(format!("machine {lane}: {difference}")));
            }
            running.machine = machine;
            let mut expected: Vec<LaneId> = self
                .ids
                .keys()
                .filter(|(parent, _)| *parent == lane)
                .map(|(_, id)| *id)
                .collect();
            expected.sort_unstable();
            let known = running.machine.running_lanes();
            if known != expected {
                return Err(Stuck::Forgot(format!(
                    "machine {lane} waits for lanes {known:?}, not {expected:?}"
                )));
            }
            self.wake(lane);
        }
        match machines.keys().next() {
            Some(lane) => Err(Stuck::Forgot(format!("machine {lane} had ended"))),
            None => Ok(()),
        }
    }
}

/// What a machine is that was saved and restored in the same process.
fn restored_again(plan: &Arc<Plan<Callable>>, machine: &Machine<Simulated>, now: u64) -> State<Simulated> {
    Machine::restore(Arc::clone(plan), machine.save(now), now).save(now)
}

/// Where two texts begin to differ, and how each goes on.
fn difference(left: &str, right: &str) -> String {
    let same = left
        .bytes()
        .zip(right.bytes())
        .take_while(|(left, right)| left == right)
        .count();
    let from = |text: &str| {
        String::from_utf8_lossy(&text.as_bytes()[same.saturating_sub(100)..])
            .chars()
            .take(300)
            .collect::<String>()
    };
    format!("made again it is …{}…, it was …{}…", from(left), from(right))
}

fn written<T: serde::Serialize>(value: &T) -> Result<String, Stuck> {
    serde_json::to_string(value).map_err(|error| Stuck::Unusable(format!("cannot be saved: {error}")))
}

fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Stuck> {
    serde_json::from_str(text).map_err(|error| Stuck::Unusable(format!("cannot be restored: {error}")))
}
