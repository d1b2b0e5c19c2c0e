//! Doing what a machine asks for beside calls.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;

use super::Driver;
use crate::host::clock::seconds;
use crate::host::domain::{Command, Event};
use crate::host::events;
use crate::host::inbox::Waker;

impl Driver {
    pub(super) fn carry_out(&mut self, py: Python<'_>, command: Command) -> PyResult<()> {
        match command {
            Command::Spawn { lane, machine } => {
                self.take_in_outputs(py)?;
                let outputs = self.place.outputs().for_lane(py);
                let recorder = self.recorder.as_ref().map(|own| Box::new(own.lane(lane)));
                let (lanes, around) = self.lanes();
                let mut trace = around.trace_of(py, &machine, None)?;
                if let (Some(trace), true) = (&mut trace, machine.record_under_way().is_some()) {
                    trace.reopen(py, around.shared, &machine)?;
                }
                let mut driver = Self::new(machine, Arc::clone(around.shared), outputs, trace);
                if let Some(recorder) = &recorder {
                    driver.place.is_machine(recorder.machine);
                }
                driver.recorder = recorder;
                lanes.spawn(py, around.inbox, lane, driver)?;
            }
            Command::CancelLane(lane) => {
                let (lanes, around) = self.lanes();
                lanes.cancel(py, around, lane)?;
            }
            Command::Sleep { timer, .. } if self.shared.engine.player.is_some() => {
                let at = self.shared.now(py);
                self.take_event(py, Event::Woke { timer, at });
            }
            Command::Sleep { timer, until } => {
                let left = until.saturating_sub(self.shared.now(py));
                if let Some(recorder) = &self.recorder {
                    recorder.sleeps(timer, left);
                }
                let wait = seconds(left);
                let waker = Bound::new(
                    py,
                    Waker {
                        inbox: Arc::clone(&self.inbox),
                        timer: Some(timer),
                    },
                )?;
                let event_loop = self.shared.event_loop(py);
                let handle = event_loop.call_method1(intern!(py, "call_later"), (wait, waker))?;
                self.timer = Some((timer, handle.unbind()));
            }
            Command::CancelSleep(timer) => {
                if let Some((_, handle)) = self.timer.take_if(|(armed, _)| *armed == timer) {
                    handle.bind(py).call_method0(intern!(py, "cancel"))?;
                }
            }
            Command::Reserve { node, estimate } => self.budget(py, node, estimate, None)?,
            Command::Settle {
                node,
                estimate,
                actual,
            } => self.budget(py, node, estimate, Some(actual))?,
            Command::Pause(question) => {
                events::paused(py, &self.shared, &self.machine, &question)?;
                self.question = Some(question);
            }
            Command::Took { node, latency } => {
                self.shared.took(py, self.machine.lane(), node, latency)?;
            }
            Command::CachePut(put) => self.leads.keep(py, &self.shared, &put)?,
            Command::CacheRelease { ticket, reason } => self.leads.release(py, ticket, reason),
            Command::Notify(_) | Command::Call(_) | Command::CacheGet(_) | Command::Finish(_) => {}
            Command::Admit {
                call,
                node,
                tokens,
                deadline,
                agent,
            } => self.admit(py, call, (node, agent.as_ref()), tokens, deadline)?,
            Command::Release { tokens, hold } => self.release(py, tokens, hold),
            Command::CancelCall(call) => {
                if !self.let_go_of(py, call) {
                    self.leave_line(py, call)?;
                }
            }
        }
        Ok(())
    }
}
