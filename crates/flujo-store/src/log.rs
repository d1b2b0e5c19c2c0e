//! Where a run's log stands, and whether changes can follow: the same in every store.

use std::sync::Arc;

use flujo_core::store::{Change, StoreError};

/// Where a run's log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Log {
    /// The number of the last record that is in the snapshot.
    pub(crate) through: u64,
    /// The number of the last record.
    pub(crate) last: u64,
}

impl Log {
    /// Where it stands after the changes. An error when they can't follow, or when one comes after the claim is given up.
    pub(crate) fn after(mut self, run: &Arc<str>, changes: &[Change]) -> Result<Self, StoreError> {
        let mut claimed = true;
        for change in changes {
            if !claimed {
                return Err(self.out_of_order(run, "a change behind its release".to_owned()));
            }
            match change {
                Change::Append(records) => {
                    for record in records {
                        if record.number != self.last + 1 {
                            return Err(self.out_of_order(run, format!("record {}", record.number)));
                        }
                        self.last += 1;
                    }
                }
                Change::Snapshot { through, .. } => {
                    if *through < self.through || *through > self.last {
                        return Err(self.out_of_order(run, format!("a snapshot through record {through}")));
                    }
                    self.through = *through;
                }
                Change::Release | Change::Delete => claimed = false,
                Change::Blob(_) | Change::Keep(_) | Change::Summary(_) | Change::Taken(_) => {}
            }
        }
        Ok(self)
    }

    fn out_of_order(self, run: &Arc<str>, what: String) -> StoreError {
        StoreError::OutOfOrder {
            run: run.clone(),
            last: self.last,
            what,
        }
    }
}
