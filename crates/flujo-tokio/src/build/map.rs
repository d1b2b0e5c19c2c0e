//! The same body for each item, under construction.

use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::Context;
use flujo_core::machine::LaneRecord;
use flujo_core::plan::{LaneFailure, MapNode};
use flujo_core::value::Value;

use super::Pipeline;
use super::merge::Merge;
use crate::Handler;
use crate::domain::{Raised, Tokio};
use crate::handler::Decision;

/// What a failed item means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ItemFailure {
    /// The other items are cancelled and awaited, and the step fails.
    #[default]
    Fail,
    /// The item is left out of the output.
    Skip,
    /// The item's output is null.
    None,
}

/// Runs a pipeline for each item of a collection.
#[derive(Debug, Clone)]
pub struct MapOver {
    name: Arc<str>,
    body: Pipeline,
    items: Handler,
    max_concurrency: u32,
    on_failure: ItemFailure,
    merge: Merge,
    collect: Option<Handler>,
    deadline: Option<Duration>,
}

impl MapOver {
    /// Runs `body` for each item of an input that is a list, one at a time. The output is the list of outputs in the
    /// items' order.
    pub fn new(name: impl Into<Arc<str>>, body: impl Into<Pipeline>) -> Self {
        Self {
            name: name.into(),
            body: body.into(),
            items: Handler::items(|input, _| match input.as_list() {
                Some(items) => Ok(items.to_vec()),
                None => Err(format!("the input of a map must be a list, but is a {}", input.kind()).into()),
            }),
            max_concurrency: 1,
            on_failure: ItemFailure::default(),
            merge: Merge::default(),
            collect: None,
            deadline: None,
        }
    }

    /// The step's name, instead of the one it was made with.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Gives the items from the input and the context.
    #[must_use]
    pub fn items<F>(mut self, items: F) -> Self
    where
        F: Fn(&Value, &Context) -> Result<Vec<Value>, Raised> + Send + Sync + 'static,
    {
        self.items = Handler::items(items);
        self
    }

    /// Gives the items from all that a decision knows, the outputs of earlier steps included.
    #[must_use]
    pub fn informed_items<F>(mut self, items: F) -> Self
    where
        F: Fn(&Decision<'_>) -> Result<Vec<Value>, Raised> + Send + Sync + 'static,
    {
        self.items = Handler::informed_items(items);
        self
    }

    /// How many items are worked on at the same time, at most. With 1, as without this, an item sees what the items
    /// before it wrote.
    #[must_use]
    pub fn max_concurrency(mut self, limit: u32) -> Self {
        self.max_concurrency = limit;
        self
    }

    /// What a failed item means; [`ItemFailure::Fail`] without this.
    #[must_use]
    pub fn on_item_failure(mut self, policy: ItemFailure) -> Self {
        self.on_failure = policy;
        self
    }

    /// How the contexts of items that ran at the same time become one; [`MergeStrategy::ContextUpdate`](flujo_core::context::MergeStrategy::ContextUpdate)
    /// without this.
    #[must_use]
    pub fn merge(mut self, merge: impl Into<Merge>) -> Self {
        self.merge = merge.into();
        self
    }

    /// Makes the output from the items' lanes; see [`Handler::collect`].
    #[must_use]
    pub fn collect(mut self, collect: Handler) -> Self {
        self.collect = Some(collect);
        self
    }

    /// The longest time the whole may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

impl From<MapOver> for Pipeline {
    fn from(map: MapOver) -> Self {
        let mut nodes = None;
        let body = map.body.place_in(&mut nodes);
        let policy = map.on_failure;
        let node = MapNode {
            body,
            items: map.items,
            max_concurrency: map.max_concurrency,
            on_failure: match policy {
                ItemFailure::Fail => LaneFailure::Propagate,
                ItemFailure::Skip | ItemFailure::None => LaneFailure::Tolerate,
            },
            // One at a time, each item has gone on with the context of the one before.
            merge: map.merge.handler().filter(|_| map.max_concurrency != 1),
            collect: map
                .collect
                .unwrap_or_else(|| Handler::collect(move |lanes| Ok(outputs(lanes, policy)))),
        };
        let mut nodes = nodes.unwrap_or_default();
        let id = nodes.map(map.name, node);
        Pipeline::of(nodes, id, map.deadline)
    }
}

fn outputs(lanes: &[LaneRecord<Tokio>], policy: ItemFailure) -> Value {
    let outputs = lanes.iter().map(|lane| lane.output().cloned());
    if policy == ItemFailure::None {
        Value::list(outputs.map(Option::unwrap_or_default))
    } else {
        Value::list(outputs.flatten())
    }
}
