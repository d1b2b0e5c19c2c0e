//! The questions that a run waits with, and which of them an answer is for.

use std::sync::Arc;

use flujo_core::plan::Plan;

use crate::{DurableError, OpenQuestion, Recorded, Replay};

/// The questions of a run that wait for answers.
#[derive(Debug)]
pub struct Questions<D: Recorded> {
    run: Arc<str>,
    plan: Arc<Plan<D::Callable>>,
    open: Vec<OpenQuestion<D>>,
}

impl<D: Recorded> Questions<D> {
    /// Those of a run that was made again.
    pub fn of(run: Arc<str>, replay: &Replay<D>) -> Self {
        Self {
            run,
            plan: Arc::clone(replay.plan()),
            open: replay.questions(),
        }
    }

    /// All of them, those of machines that began earlier first.
    pub fn open(&self) -> &[OpenQuestion<D>] {
        &self.open
    }

    /// The one that an answer is for: that of this id, else the only one of the step of this path, else of this name; with
    /// `None` the only one that is open.
    ///
    /// # Errors
    /// [`DurableError::NotPaused`], [`DurableError::UnknownPause`] or [`DurableError::AmbiguousAnswer`].
    pub fn addressed(&self, to: Option<&str>) -> Result<&OpenQuestion<D>, DurableError> {
        let run = || Arc::clone(&self.run);
        if self.open.is_empty() {
            return Err(DurableError::NotPaused { run: run() });
        }
        let fitting = match to {
            None => self.open.iter().collect(),
            Some(to) => self.fitting(to),
        };
        match (&*fitting, to) {
            ([one], _) => Ok(one),
            ([], Some(to)) => Err(DurableError::UnknownPause {
                run: run(),
                pause: Arc::from(to),
                open: self.named(&self.open.iter().collect::<Vec<_>>()),
            }),
            (several, _) => Err(DurableError::AmbiguousAnswer {
                run: run(),
                open: self.named(several),
            }),
        }
    }

    fn fitting(&self, to: &str) -> Vec<&OpenQuestion<D>> {
        if let Some(one) = self.open.iter().find(|open| open.id == to) {
            return vec![one];
        }
        let node = |open: &OpenQuestion<D>| self.plan.node(open.question.node);
        let at_path: Vec<_> = self.open.iter().filter(|open| *node(open).path == *to).collect();
        if at_path.is_empty() {
            self.open.iter().filter(|open| *node(open).name == *to).collect()
        } else {
            at_path
        }
    }

    /// Their ids with the paths of their steps.
    fn named(&self, open: &[&OpenQuestion<D>]) -> Vec<String> {
        let named = |open: &&OpenQuestion<D>| {
            let path = &self.plan.node(open.question.node).path;
            format!("`{}` (step `{path}`)", open.id)
        };
        open.iter().map(named).collect()
    }
}
