//! An optimised part that fails: what it breaks is contained, and its plain twin does the work for the rest of the run.
//!
//! The only way an optimised part can fail is a panic: a defect in it, or in something of the user's that it calls, such
//! as a clock. A drill makes a part fail on purpose, at the same place and in the same way.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU8, Ordering};

use super::{OptimizationConfig, Part, Twins};

/// The twin of each part as one run uses them: as decided when it started, but the plain one where the optimised one has
/// failed since. Shared by the lanes of the run.
///
/// ```
/// use flujo_core::config::{Part, RunTwins, Twin, Twins};
///
/// let run = RunTwins::new(Twins::OPTIMIZED);
/// let mut reason = None;
/// let twin = run.contain(
///     Part::Cache,
///     None,
///     |twins| match twins.of(Part::Cache) {
///         Twin::Optimized => std::panic::resume_unwind(Box::new("a defect")),
///         twin => twin,
///     },
///     |why| reason = Some(why.to_owned()),
/// );
/// assert_eq!((twin, reason.as_deref()), (Twin::Plain, Some("a defect")));
/// assert_eq!(run.now().of(Part::Cache), Twin::Plain);
/// ```
#[derive(Debug)]
pub struct RunTwins {
    decided: Twins,
    failed: AtomicU8,
}

impl RunTwins {
    /// Of a run that starts with these, or goes on with them.
    pub fn new(decided: Twins) -> Self {
        Self {
            decided,
            failed: AtomicU8::new(0),
        }
    }

    /// What the run uses now.
    #[inline]
    pub fn now(&self) -> Twins {
        self.decided.without(self.failed.load(Ordering::Relaxed))
    }

    /// Uses the plain twin of a part from now on.
    pub fn give_up(&self, part: Part) {
        self.failed.fetch_or(super::twins::bit(part), Ordering::Relaxed);
    }

    /// Does `work` with the twins it is given. When it panics with the optimised twin of `part`, `gave_way` is told why,
    /// and it is done again with the plain one. `nearest` is the config of the step it is done for, where that has its own.
    pub fn contain<R>(
        &self,
        part: Part,
        nearest: Option<&OptimizationConfig>,
        mut work: impl FnMut(Twins) -> R,
        gave_way: impl FnOnce(&str),
    ) -> R {
        let twins = self.now().within(nearest);
        if !twins.is_optimized(part) {
            return work(twins);
        }
        match twins.attempt(part, || work(twins)) {
            Ok(done) => done,
            Err(reason) => {
                self.give_up(part);
                gave_way(&reason);
                work(self.now().within(nearest))
            }
        }
    }
}

impl Twins {
    /// Does the work of the optimised twin of a part.
    ///
    /// # Errors
    /// Why it panicked.
    #[inline]
    pub fn attempt<R>(self, part: Part, work: impl FnOnce() -> R) -> Result<R, String> {
        contained(|| {
            if self.is_drilled(part) {
                resume_unwind(Box::new(DRILL));
            }
            work()
        })
    }
}

const DRILL: &str = "a drill, which the runner was asked for";

/// Does work that may panic.
///
/// # Errors
/// Why it did.
pub fn contained<R>(work: impl FnOnce() -> R) -> Result<R, String> {
    // What is left half done belongs to the part that is given up.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| reason(&*payload))
}

fn reason(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked without a message").to_owned()
}

/// The parts that a runner was asked to let fail, as a drill.
#[derive(Debug, Default)]
pub struct Drills(AtomicU8);

impl Drills {
    /// The optimised twin of a part fails in runs that start from now on.
    pub fn begin(&self, part: Part) {
        self.0.fetch_or(super::twins::bit(part), Ordering::Relaxed);
    }

    /// It works again in runs that start from now on.
    pub fn end(&self, part: Part) {
        self.0.fetch_and(!super::twins::bit(part), Ordering::Relaxed);
    }

    /// The twins of a run that starts now, with the drills that are on.
    #[inline]
    pub fn of(&self, decided: Twins) -> Twins {
        decided.drilled(self.0.load(Ordering::Relaxed))
    }
}
