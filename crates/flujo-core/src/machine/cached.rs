//! Results that others wait for while a step of this machine makes them.

use super::cursor::Cursor;
use super::{CacheTicket, Command, Domain, Frame, Machine, State};
use crate::cache::Uncached;

impl<D: Domain> Cursor<'_, D> {
    /// There will be no result: somebody else may make it.
    #[inline]
    pub(super) fn release(&mut self, lead: Option<CacheTicket>, reason: Uncached) {
        if let Some(ticket) = lead {
            self.commands.push_back(Command::CacheRelease { ticket, reason });
        }
    }
}

impl<D: Domain> Machine<D> {
    /// Gives up, for a run that stands still or ends here, to make the results that others may be waiting for: steps under
    /// way go on without their results being kept. Gives what is to be released.
    pub fn give_up_leads(&mut self) -> Vec<CacheTicket> {
        self.state.forget_leads()
    }
}

impl<D: Domain> State<D> {
    pub(super) fn forget_leads(&mut self) -> Vec<CacheTicket> {
        let steps = self.stack.iter_mut().filter_map(|frame| match frame {
            Frame::Step(step) => step.take_lead(),
            _ => None,
        });
        steps.collect()
    }
}
