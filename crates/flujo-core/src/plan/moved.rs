//! Reading what was written with another plan: its nodes are found where they are in this one.

use std::cell::RefCell;
use std::sync::Arc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::NodeId;

/// For each node of another plan its place in this one, or why it has none.
pub type Moves = Arc<[Result<NodeId, String>]>;

thread_local! {
    static MOVES: RefCell<Option<Moves>> = const { RefCell::new(None) };
}

/// Does `work`, during which the ids of nodes that are read are those of another plan. One that has no place in this plan
/// can't be read.
pub fn with_moves<R>(moves: &Moves, work: impl FnOnce() -> R) -> R {
    struct Restore(Option<Moves>);
    impl Drop for Restore {
        fn drop(&mut self) {
            MOVES.replace(self.0.take());
        }
    }
    let _before = Restore(MOVES.replace(Some(Arc::clone(moves))));
    work()
}

#[derive(Deserialize)]
#[serde(rename = "NodeId")]
struct Written(u32);

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Written(id) = Written::deserialize(deserializer)?;
        MOVES.with_borrow(|moves| match moves {
            None => Ok(Self(id)),
            Some(moves) => match moves.get(id as usize) {
                Some(Ok(id)) => Ok(*id),
                Some(Err(reason)) => Err(D::Error::custom(reason)),
                None => Err(D::Error::custom(format!("node {id} is in no plan"))),
            },
        })
    }
}
