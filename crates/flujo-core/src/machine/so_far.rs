//! What a run that stands still has done so far, in the form in which the end of a run is kept.

use std::sync::Arc;

use super::{Domain, Finish, LaneId, Machine, Outcome, Status, Stop};

impl<D: Domain> Machine<D> {
    /// What has been done so far. Nodes under way have open records with the usage of what is below them; the lanes
    /// under way are shown as `lanes` gives them, and what they used counts. The outcome is [`Stop::Paused`].
    pub fn so_far(&self, mut lanes: impl FnMut(LaneId) -> Option<Arc<Finish<D>>>) -> Finish<D> {
        let mut history = self.state.history.clone();
        let mut usage = self.state.usage;
        let top = self.state.stack.last();
        if let Some((under_way, opened)) = top.and_then(|frame| frame.lanes().zip(frame.opened()))
            && let Some(record) = history.records.get_mut(opened.record as usize)
        {
            let mut shown = under_way.records(&self.plan);
            for (shown, lane) in Arc::make_mut(&mut shown).iter_mut().zip(under_way.ids()) {
                if let Some(finish) = lane.and_then(&mut lanes) {
                    usage += finish.usage;
                    record.usage += finish.usage;
                    shown.finish = Some(finish);
                }
            }
            record.details_mut().lanes = shown;
        }
        for place in (0..history.records.len()).rev() {
            let record = &mut history.records[place];
            if record.status != Status::Running {
                continue;
            }
            record.ended = self.state.now;
            let (parent, below) = (record.parent, record.usage);
            if let Some(parent) = parent.and_then(|parent| history.records.get_mut(parent as usize)) {
                parent.usage += below;
            }
        }
        Finish {
            outcome: Outcome::Stopped(Stop::Paused),
            context: self.state.context.clone(),
            history,
            usage,
            kept: None,
        }
    }
}
