//! The same pipeline for each item of a `Vec`, typed.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use flujo_core::context::MergeStrategy;
use flujo_core::machine::LaneRecord;
use flujo_tokio::{Handler as Erased, ItemFailure, MapOver as Untyped, Raised, Tokio};

use crate::payload::{look, unwrap, wrap};
use crate::pipeline::{Pipeline, Stage};
use crate::rules::merge_with;
use crate::{BoxError, Context, Payload};

/// Runs a pipeline from `I` to `O` for each item of a `Vec<I>`; gives a `Vec<O>` in the items' order. A failing item
/// fails the whole, unless [`skip_failures`](Self::skip_failures) or [`keep_failures`](Self::keep_failures) is set.
#[must_use = "a map does nothing until its pipeline runs"]
pub struct MapOver<I, O, C = ()> {
    untyped: Untyped,
    types: PhantomData<fn(I, C) -> O>,
}

impl<I: Payload, O: Payload, C: Context> MapOver<I, O, C> {
    pub(crate) fn new(body: Pipeline<I, O, C>, max_concurrency: u32) -> Self {
        let untyped = Untyped::new("map", body.into_untyped())
            .items(|input, _| {
                let items = look::<Vec<I>>(input)?;
                Ok(items.iter().map(|item| wrap(item.clone(), None)).collect())
            })
            .max_concurrency(max_concurrency)
            .collect(Erased::collect(|lanes| {
                let outputs: Result<Vec<O>, Raised> = outputs(lanes).flatten().collect();
                Ok(wrap(outputs?, None))
            }));
        Self {
            untyped,
            types: PhantomData,
        }
    }

    /// The step's name; `map` without this.
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.untyped = self.untyped.named(name);
        self
    }

    /// Leaves failed items out of the output. The record keeps why they failed.
    pub fn skip_failures(mut self) -> Self {
        self.untyped = self.untyped.on_item_failure(ItemFailure::Skip);
        self
    }

    /// Gives `None` for failed items. The record keeps why they failed.
    pub fn keep_failures(self) -> Pipeline<Vec<I>, Vec<Option<O>>, C> {
        let untyped = self
            .untyped
            .on_item_failure(ItemFailure::None)
            .collect(Erased::collect(|lanes| {
                let outputs: Result<Vec<Option<O>>, Raised> = outputs(lanes).map(Option::transpose).collect();
                Ok(wrap(outputs?, None))
            }));
        Pipeline::typed(untyped.into(), None)
    }

    /// How the contexts of items that ran at the same time become one; [`MergeStrategy::ContextUpdate`] without this.
    pub fn merge(mut self, strategy: MergeStrategy) -> Self {
        self.untyped = self.untyped.merge(strategy);
        self
    }

    /// Merges by a function of the context at the fork, which it changes, and of the contexts of the items that succeeded,
    /// in declared order. When it fails the whole fails, and what it has changed is dropped. It must not wait.
    pub fn merge_with<F>(mut self, merge: F) -> Self
    where
        F: Fn(&mut C, &[(Arc<str>, C)]) -> Result<(), BoxError> + Send + Sync + 'static,
    {
        self.untyped = self.untyped.merge(merge_with(merge));
        self
    }

    /// The longest time the whole may take.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.untyped = self.untyped.deadline(deadline);
        self
    }
}

/// The lanes' outputs in order; nothing for one that failed.
fn outputs<O: Payload>(lanes: &[LaneRecord<Tokio>]) -> impl Iterator<Item = Option<Result<O, Raised>>> {
    lanes.iter().map(|lane| lane.output().cloned().map(unwrap::<O>))
}

impl<I: Payload, O: Payload, C: Context> Stage for MapOver<I, O, C> {
    type In = Vec<I>;
    type Out = Vec<O>;
    type Context = C;

    fn into_pipeline(self) -> Pipeline<Vec<I>, Vec<O>, C> {
        Pipeline::typed(self.untyped.into(), None)
    }
}
