//! How work on Python objects shares the interpreter with everybody else: a walk tells its [`Pace`] what it is about to
//! do, and the pace lets signal handlers and other threads run every few milliseconds, stops work that nobody waits for
//! any more, or ends work that has turned out too large for the event loop's thread.
//!
//! Copying one flat container is one call into the interpreter and isn't interrupted: 10 to 20 ms for a million entries.

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;

/// How long a walk goes on before others get their turn.
const SLICE: Duration = Duration::from_millis(3);

/// How long the interpreter is left to others. Merely giving it up isn't enough: whoever waits for it is woken, finds it
/// taken again, and waits anew.
const TURN: Duration = Duration::from_micros(100);

/// Units between two looks at the clock; a fraction of a millisecond.
const CLOCK_INTERVAL: usize = 20_000;

/// Units that may be spent on the event loop's own thread: about two milliseconds.
const INLINE_LIMIT: usize = 200_000;

/// Containers that a walk which can't be interrupted meets at most: about twenty milliseconds.
const UNINTERRUPTED: usize = 500_000;

/// How long withdrawn work is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// What meeting a container costs, in units. One unit is one entry of a flat container: about ten nanoseconds.
pub(crate) const CONTAINER: usize = 8;

/// The pace of one piece of work.
pub(crate) struct Pace<'a> {
    rule: Rule<'a>,
    spent: Cell<usize>,
    total: Cell<usize>,
    last: Cell<Option<Instant>>,
}

#[derive(Clone, Copy)]
enum Rule<'a> {
    Attended,
    Brief,
    Inline,
    Aside(&'a Ticket),
}

impl<'a> Pace<'a> {
    fn of(rule: Rule<'a>) -> Self {
        Self {
            rule,
            spent: Cell::new(0),
            total: Cell::new(0),
            last: Cell::new(None),
        }
    }

    /// For work that its caller waits for in Python code: signal handlers and other threads get their turn.
    pub(crate) fn attended() -> Self {
        Self::of(Rule::Attended)
    }

    /// For what must not be left half done and is known to be short: nothing interrupts it.
    pub(crate) fn brief() -> Self {
        Self::of(Rule::Brief)
    }

    /// For the event loop's thread: ends with an error once the work has turned out large. See `too_large`.
    pub(crate) fn inline() -> Self {
        Self::of(Rule::Inline)
    }

    /// For a worker thread: other threads get their turn, and the work ends with an error once the ticket is withdrawn.
    pub(crate) fn aside(ticket: &'a Ticket) -> Self {
        Self::of(Rule::Aside(ticket))
    }

    /// Whether the work was ended because it is too large for the event loop's thread.
    pub(crate) fn too_large(&self) -> bool {
        matches!(self.rule, Rule::Inline) && self.total.get() > INLINE_LIMIT
    }

    /// Whether other code may run while the work is under way.
    pub(super) fn shares(&self) -> bool {
        matches!(self.rule, Rule::Attended | Rule::Aside(_))
    }

    /// How many containers a walk that can't be interrupted may meet. One that meets more on the event loop's thread and
    /// tells so by `spend` has turned out too large.
    pub(super) fn uninterrupted(&self) -> usize {
        match self.rule {
            Rule::Inline => INLINE_LIMIT / CONTAINER,
            Rule::Attended | Rule::Brief | Rule::Aside(_) => UNINTERRUPTED,
        }
    }

    /// Announces that what follows takes so many units. Other Python code may run meanwhile, on this thread a signal
    /// handler.
    ///
    /// Errors: what a signal handler raised; a `BaseException` that ends work which was withdrawn or is too large.
    #[inline]
    pub(crate) fn spend(&self, py: Python<'_>, units: usize) -> PyResult<()> {
        let spent = self.spent.get() + units;
        self.spent.set(spent);
        if spent < CLOCK_INTERVAL {
            return Ok(());
        }
        self.look(py)
    }

    #[cold]
    fn look(&self, py: Python<'_>) -> PyResult<()> {
        self.total
            .set(self.total.get().saturating_add(self.spent.replace(0)));
        match self.rule {
            Rule::Inline if self.too_large() => {
                return Err(PyBaseException::new_err(
                    "work on the context is too large for the event loop's thread",
                ));
            }
            Rule::Brief | Rule::Inline => return Ok(()),
            Rule::Attended | Rule::Aside(_) => {}
        }
        let due = self.last.get().is_some_and(|last| last.elapsed() >= SLICE);
        if due {
            py.check_signals()?;
            py.detach(|| std::thread::sleep(TURN));
        }
        if due || self.last.get().is_none() {
            self.last.set(Some(Instant::now()));
        }
        match self.rule {
            Rule::Aside(ticket) => ticket.check(),
            _ => Ok(()),
        }
    }

    /// Calls a function of somebody else's, which may take any time: not on the event loop's thread, and withdrawn work
    /// isn't waited for meanwhile.
    ///
    /// Errors: as `spend`.
    pub(super) fn of_others<T>(&self, py: Python<'_>, call: impl FnOnce() -> T) -> PyResult<T> {
        match self.rule {
            Rule::Inline => {
                self.total.set(usize::MAX);
                self.look(py)?;
            }
            Rule::Aside(ticket) => ticket.pass(Stage::UnderWay, Stage::Elsewhere)?,
            Rule::Attended | Rule::Brief => {}
        }
        let result = call();
        if let Rule::Aside(ticket) = self.rule {
            ticket.pass(Stage::Elsewhere, Stage::UnderWay)?;
        }
        Ok(result)
    }

    /// To be called right before the result is written, with no chance for other code in between.
    ///
    /// Errors: as `spend`, where the work was withdrawn.
    pub(super) fn before_writing(&self) -> PyResult<()> {
        match self.rule {
            Rule::Aside(ticket) => ticket.check(),
            _ => Ok(()),
        }
    }
}

/// The agreement between a worker thread and whoever waits for it: once withdrawn, the work writes nothing.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    stage: Mutex<Stage>,
    ended: Condvar,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    UnderWay,
    /// Inside a function of somebody else's.
    Elsewhere,
    /// Withdrawn while the work was under way.
    Stopping,
    /// The work has ended, or won't begin.
    Over,
}

impl Ticket {
    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does the work unless it has been withdrawn.
    pub(crate) fn work(&self, act: impl FnOnce(&Pace<'_>) -> PyResult<()>) -> PyResult<()> {
        {
            let mut stage = self.stage();
            if *stage != Stage::Waiting {
                return Err(withdrawn());
            }
            *stage = Stage::UnderWay;
        }
        let result = act(&Pace::aside(self));
        *self.stage() = Stage::Over;
        self.ended.notify_all();
        result
    }

    /// From one stage to another, unless the work has been withdrawn.
    fn pass(&self, from: Stage, to: Stage) -> PyResult<()> {
        let mut stage = self.stage();
        if *stage != from {
            return Err(withdrawn());
        }
        *stage = to;
        Ok(())
    }

    /// Ends the work and waits for that: a few milliseconds, or one uninterruptible copy. A class's own code that runs on
    /// isn't waited for; what it comes to isn't written. Tells whether somebody else's function still runs.
    pub(crate) fn withdraw(&self, py: Python<'_>) -> bool {
        {
            let mut stage = self.stage();
            match *stage {
                Stage::Waiting => *stage = Stage::Over,
                Stage::UnderWay => *stage = Stage::Stopping,
                Stage::Elsewhere => {
                    *stage = Stage::Stopping;
                    return true;
                }
                Stage::Stopping | Stage::Over => {}
            }
            if *stage == Stage::Over {
                return false;
            }
        }
        // The worker needs the interpreter to come to its end.
        py.detach(|| {
            let stage = self.stage();
            drop(
                self.ended
                    .wait_timeout_while(stage, LONGEST_WAIT, |stage| *stage != Stage::Over)
                    .unwrap_or_else(PoisonError::into_inner),
            );
        });
        false
    }

    fn check(&self) -> PyResult<()> {
        match *self.stage() {
            Stage::Stopping => Err(withdrawn()),
            _ => Ok(()),
        }
    }
}

fn withdrawn() -> PyErr {
    PyBaseException::new_err("work on the context was withdrawn: its run was cancelled")
}
