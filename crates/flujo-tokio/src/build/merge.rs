//! How the contexts of lanes that ran at the same time become one: by a strategy, or by a function of the user's.

use std::sync::Arc;

use flujo_core::context::{Context, MergeStrategy};

use crate::Handler;
use crate::domain::Raised;

/// How the contexts of branches or items become the one around them.
#[derive(Debug, Clone)]
pub struct Merge(Option<Handler>);

impl Merge {
    /// By a function of the context at the fork, which it changes, and of the contexts of the lanes that succeeded, by
    /// name in declared order. What it has changed when it fails is dropped. It runs in place and must not wait.
    pub fn with<F>(function: F) -> Self
    where
        F: Fn(&mut Context, &[(Arc<str>, &Context)]) -> Result<(), Raised> + Send + Sync + 'static,
    {
        Self(Some(Handler::merge(function)))
    }

    /// What is called; `None`: the context stays as it was.
    pub(super) fn handler(self) -> Option<Handler> {
        self.0
    }
}

impl Default for Merge {
    fn default() -> Self {
        MergeStrategy::default().into()
    }
}

impl From<MergeStrategy> for Merge {
    fn from(strategy: MergeStrategy) -> Self {
        if strategy == MergeStrategy::NoMerge {
            return Self(None);
        }
        Self::with(move |context, lanes| {
            *context = context.merge(lanes, strategy)?;
            Ok(())
        })
    }
}
