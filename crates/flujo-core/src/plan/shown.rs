//! What of a history belongs to one step as its user wrote it, though the plan runs it as two: a construct that is tried
//! as a whole, and the step that tries it.

use super::Plan;
use crate::machine::{Domain, History, Record};

impl<C> Plan<C> {
    /// The record of the construct in the step at `place`, as its last attempt went; see [`Plan::construct_in`].
    pub fn construct<'h, D: Domain>(
        &self,
        history: &'h History<D>,
        place: u32,
    ) -> Option<(u32, &'h Record<D>)> {
        let construct = self.construct_in(history.records.get(place as usize)?.node)?;
        history
            .children(Some(place))
            .filter(|(_, record)| record.node == construct)
            .last()
    }

    /// The records below the step at `place`, each with its place: those in its construct, then its own, as its fallback.
    /// Earlier attempts at the construct are left out: the step's record tells why they failed.
    pub fn below<'h, D: Domain>(
        &self,
        history: &'h History<D>,
        place: u32,
    ) -> impl Iterator<Item = (u32, &'h Record<D>)> {
        let construct = self.construct(history, place);
        let inside = construct.map(|(place, _)| history.children(Some(place)));
        let node = construct.map(|(_, record)| record.node);
        let own = history.children(Some(place));
        let own = own.filter(move |(_, record)| Some(record.node) != node);
        inside.into_iter().flatten().chain(own)
    }
}
