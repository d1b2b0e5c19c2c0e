//! Where lanes run, and how lanes and questions of a run are named: the same in every host, in every process.

use std::fmt::{Display, Write};
use std::sync::Arc;

use super::{Domain, Machine, PauseId};
use crate::plan::{Kind, Node, NodeId, Plan};

/// Where a lane runs.
#[derive(Debug, Clone)]
pub struct LanePlace {
    /// The lane around the construct that started this one.
    pub parent: Option<Arc<LanePlace>>,
    /// The construct.
    pub node: NodeId,
    /// The construct's record in the history around it: tells apart the times it runs in a loop.
    pub record: u32,
    /// The branch's place in declared order, or the item's.
    pub index: u32,
}

impl PartialEq for LanePlace {
    fn eq(&self, other: &Self) -> bool {
        let (mut left, mut right) = (self, other);
        while (left.node, left.record, left.index) == (right.node, right.record, right.index) {
            match (&left.parent, &right.parent) {
                (Some(one), Some(two)) if !Arc::ptr_eq(one, two) => (left, right) = (one, two),
                (one, two) => return one.is_some() == two.is_some(),
            }
        }
        false
    }
}

impl Eq for LanePlace {}

impl Drop for LanePlace {
    /// Places hold the places around them: taken apart in a loop, so that depth costs no call stack.
    fn drop(&mut self) {
        let mut around = self.parent.take();
        while let Some(place) = around {
            around = Arc::into_inner(place).and_then(|mut place| place.parent.take());
        }
    }
}

impl LanePlace {
    /// From the outermost lane to this one.
    fn around(&self) -> Vec<&Self> {
        let mut places = vec![self];
        while let Some(around) = places.last().and_then(|place| place.parent.as_deref()) {
            places.push(around);
        }
        places.reverse();
        places
    }

    /// Its name with those around it, such as `split[left]/each[3]`.
    pub fn name<C>(&self, plan: &Plan<C>) -> String {
        let mut name = String::new();
        for lane in self.around() {
            let node = plan.node(lane.node);
            match &node.kind {
                Kind::Parallel(parallel) => {
                    let branch = parallel.branches.get(lane.index as usize);
                    append_lane(&mut name, node, branch.map_or("", |(name, _)| name));
                }
                _ => append_lane(&mut name, node, lane.index),
            }
        }
        name
    }
}

/// The name of a lane in the one `around` it, which may be none: its step's, and its own in brackets, such as
/// `split[left]/each[3]`. The only lane of a sub-pipeline is called as that.
pub fn lane_name<C>(plan: &Plan<C>, around: &str, node: NodeId, own: impl Display) -> String {
    let mut name = around.to_owned();
    append_lane(&mut name, plan.node(node), own);
    name
}

fn append_lane<C>(name: &mut String, node: &Node<C>, own: impl Display) {
    if !name.is_empty() {
        name.push('/');
    }
    name.push_str(&node.name);
    if !matches!(node.kind, Kind::Group(_)) {
        // Writing to a string cannot fail.
        let _ = write!(name, "[{own}]");
    }
}

impl<D: Domain> Machine<D> {
    /// The name of a question within its run: its step's path, the lanes it is in, its number in the innermost one.
    pub fn question_id(&self, node: NodeId, pause: PauseId) -> String {
        let mut id = format!("{}#", self.plan().node(node).path);
        for lane in self
            .lane()
            .map(Arc::as_ref)
            .map(LanePlace::around)
            .unwrap_or_default()
        {
            // Writing to a string cannot fail.
            let _ = write!(id, "{}.{}/", lane.record, lane.index);
        }
        let _ = write!(id, "{}", pause.0);
        id
    }
}
