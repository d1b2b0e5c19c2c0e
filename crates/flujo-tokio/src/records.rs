//! The records of a run that has ended.

use flujo_core::machine::{Finish, Record};

use crate::domain::Tokio;

/// All records of a history and of the lanes in it.
pub(crate) struct Records<'a> {
    open: Vec<std::slice::Iter<'a, Record<Tokio>>>,
}

impl<'a> Records<'a> {
    pub(crate) fn of(finish: &'a Finish<Tokio>) -> Self {
        Self {
            open: vec![finish.history.records.iter()],
        }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a Record<Tokio>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.open.last_mut()?.next() {
                None => drop(self.open.pop()),
                Some(record) => {
                    let lanes = record.lanes().iter().filter_map(|lane| lane.finish.as_ref());
                    self.open
                        .extend(lanes.map(|finish| finish.history.records.iter()));
                    return Some(record);
                }
            }
        }
    }
}
