//! Faults that tests plant to see that they are caught. Without the feature `planted-faults`, which is for tests only,
//! no fault can be planted, and the questions after them cost nothing.

/// A fault in the machine.
#[cfg_attr(not(feature = "planted-faults"), allow(unreachable_pub))] // public for the tests that plant it
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// What failed attempts used is not counted.
    RetryUsageLost,
    /// Lanes are handed on in reverse order.
    LanesReversed,
    /// The fallback of a failed step does not run.
    FallbackSkipped,
    /// What a failed attempt wrote becomes part of the context.
    FailedAttemptCommitted,
    /// The siblings of a failed lane go on.
    SiblingNotCancelled,
    /// Deadlines of steps and constructs are not looked at.
    DeadlineIgnored,
    /// What a failed iteration wrote becomes part of the context, although the loop passes over it.
    FailedIterationCommitted,
    /// A loop makes one iteration more than it may.
    LoopRunsOver,
    /// A question that has been answered is asked again.
    AnsweredAskedAgain,
    /// A step that fails does not say that it makes no result.
    LeadForgotten,
    /// The result of a step that wrote something by itself is kept.
    WrittenResultKept,
}

#[cfg(feature = "planted-faults")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Fault>> = const { std::cell::Cell::new(None) };
}

/// Plants a fault in the machines that run on this thread, in place of the one planted before.
#[cfg(feature = "planted-faults")]
pub fn plant(fault: Option<Fault>) {
    PLANTED.set(fault);
}

/// Whether this fault is planted.
#[inline]
pub(super) fn is_planted(fault: Fault) -> bool {
    #[cfg(feature = "planted-faults")]
    return PLANTED.get() == Some(fault);
    #[cfg(not(feature = "planted-faults"))]
    {
        let _ = fault;
        false
    }
}
