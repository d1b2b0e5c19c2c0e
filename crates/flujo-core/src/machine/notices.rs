//! Telling what happens, when anybody listens.

use super::cursor::Cursor;
use super::{Command, Domain, Notice, NoticeKind};
use crate::plan::NodeId;
use crate::usage::Usage;

impl<D: Domain> Cursor<'_, D> {
    #[inline]
    pub(super) fn notify(&mut self, kind: NoticeKind<D>, node: NodeId, record: u32, attempt: u32) {
        if self.state.options.notices {
            self.tell(kind, node, record, attempt);
        }
    }

    #[cold]
    fn tell(&mut self, kind: NoticeKind<D>, node: NodeId, record: u32, attempt: u32) {
        let pauses = matches!(kind, NoticeKind::Paused | NoticeKind::Resumed);
        if pauses || !self.plan.node(node).inner {
            let records = &self.state.history.records;
            let entry = records.get(record as usize);
            let (usage, at) = (entry.map_or(Usage::ZERO, |entry| entry.usage), self.state.now);
            let mut parent = entry.and_then(|entry| entry.parent);
            while let Some(around) = parent.and_then(|parent| records.get(parent as usize))
                && self.plan.node(around.node).inner
            {
                parent = around.parent;
            }
            self.commands.push_back(Command::Notify(Notice {
                kind,
                node,
                record,
                parent,
                attempt,
                round: self.state.round.clone(),
                usage,
                at,
            }));
        }
    }
}
