//! Lanes driven by hand: what it costs to stop one, in objects that are copied, and when their ends may be told of
//! together.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking, also in what several tests share
#![allow(clippy::unnecessary_box_returns)] // as the machine gives them

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flujo_core::machine::{
    Answer, Call, CallId, Command, Domain, Event, Failure, FailureKind, Finish, LaneId, Machine, Options,
    Outcome, Status, Stop,
};
use flujo_core::pipeline::Pipeline;
use flujo_core::plan::{LaneFailure, ParallelNode, Plan, StepNode};
use flujo_core::usage::Usage;

/// A number that counts how often it, or another made from it, is copied.
#[derive(Debug)]
struct Counted(usize, Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.1.fetch_add(1, Ordering::Relaxed);
        Self(self.0, Arc::clone(&self.1))
    }
}

#[derive(Debug, Clone)]
struct Counting;

impl Domain for Counting {
    type Object = Counted;
    type Context = ();
    type Callable = ();

    fn fork((): &()) {}

    fn is_unwritten((): &(), (): &()) -> bool {
        true
    }

    fn commit((): &mut (), (): ()) -> Result<(), Failure<Self>> {
        Ok(())
    }
}

/// A lane that makes `steps` steps and waits in one more, beside one that waits in its first.
struct Stopping {
    root: Machine<Counting>,
    long: (LaneId, Box<Machine<Counting>>, CallId),
    short: (LaneId, Box<Machine<Counting>>, CallId),
    copies: Arc<AtomicUsize>,
}

fn plan(steps: usize) -> Plan<()> {
    plan_of(steps, None)
}

fn plan_of(steps: usize, at_once: Option<u32>) -> Plan<()> {
    let mut pipeline = Pipeline::new();
    let long = (0..=steps).map(|number| pipeline.step(format!("long {number}"), StepNode::new(())));
    let long = long.collect::<Vec<_>>();
    let long = pipeline.sequence(long);
    let short = pipeline.step("short", StepNode::new(()));
    let root = pipeline.parallel(
        "fan",
        ParallelNode {
            branches: vec![("long".into(), long), ("short".into(), short)],
            router: None,
            on_failure: LaneFailure::Propagate,
            max_concurrency: at_once,
            merge: None,
            collect: (),
        },
    );
    pipeline.compile("pipeline", root).unwrap()
}

fn called(machine: &mut Machine<Counting>) -> Call<Counting> {
    match machine.poll() {
        Some(Command::Call(call)) => call,
        other => panic!("a call was expected: {other:?}"),
    }
}

fn spawned(machine: &mut Machine<Counting>) -> (LaneId, Box<Machine<Counting>>) {
    match machine.poll() {
        Some(Command::Spawn { lane, machine }) => (lane, machine),
        other => panic!("a lane was expected: {other:?}"),
    }
}

fn finished(machine: &mut Machine<Counting>) -> Box<Finish<Counting>> {
    match machine.poll() {
        Some(Command::Finish(finish)) => finish,
        other => panic!("the end was expected: {other:?}"),
    }
}

/// Answers calls until one is left that isn't answered.
fn answer(machine: &mut Machine<Counting>, calls: usize, copies: &Arc<AtomicUsize>) -> CallId {
    for number in 0..calls {
        let call = called(machine).call;
        let value = Counted(number + 1, Arc::clone(copies));
        let usage = Usage::ZERO;
        machine.answered(call, Answer::Value { value, usage }, 1);
    }
    called(machine).call
}

fn stopping(steps: usize) -> Stopping {
    let copies = Arc::default();
    let input = Counted(0, Arc::clone(&copies));
    let mut root = Machine::start(Arc::new(plan(steps)), Options::default(), input, (), 0, None);
    let (long, mut machine) = spawned(&mut root);
    let call = answer(&mut machine, steps, &copies);
    let long = (long, machine, call);
    let (short, mut machine) = spawned(&mut root);
    let call = answer(&mut machine, 0, &copies);
    Stopping {
        root,
        long,
        short: (short, machine, call),
        copies,
    }
}

impl Stopping {
    /// The short lane fails, and with it the run; gives its end, and the copies made from then on.
    fn by_a_sibling(mut self) -> (Box<Finish<Counting>>, usize) {
        let before = self.copies.load(Ordering::Relaxed);
        let (lane, mut short, call) = self.short;
        short.handle(Event::Failed {
            call,
            failure: Box::new(Failure::new(FailureKind::Agent, "Error", "no").permanent()),
            usage: Usage::ZERO,
            at: 2,
        });
        let finish = finished(&mut short);
        self.root.handle(Event::LaneFinished { lane, finish, at: 2 });
        let (lane, mut long, call) = self.long;
        assert!(matches!(self.root.poll(), Some(Command::CancelLane(cancelled)) if cancelled == lane));
        let finish = cancelled(&mut long, call);
        self.root.handle(Event::LaneFinished { lane, finish, at: 3 });
        let finish = finished(&mut self.root);
        (finish, self.copies.load(Ordering::Relaxed) - before)
    }

    /// The run itself is cancelled; gives its end, and the copies made from then on.
    fn by_hand(mut self) -> (Box<Finish<Counting>>, usize) {
        let before = self.copies.load(Ordering::Relaxed);
        self.root.handle(Event::Cancel { at: 2 });
        for (lane, mut machine, call) in [self.long, self.short] {
            assert!(matches!(self.root.poll(), Some(Command::CancelLane(cancelled)) if cancelled == lane));
            let finish = cancelled(&mut machine, call);
            self.root.handle(Event::LaneFinished { lane, finish, at: 3 });
        }
        let finish = finished(&mut self.root);
        (finish, self.copies.load(Ordering::Relaxed) - before)
    }
}

/// Cancels a lane that waits for a call.
fn cancelled(machine: &mut Machine<Counting>, call: CallId) -> Box<Finish<Counting>> {
    machine.handle(Event::Cancel { at: 3 });
    assert!(matches!(machine.poll(), Some(Command::CancelCall(id)) if id == call));
    machine.handle(Event::CallCancelled { call, at: 3 });
    let finish = finished(machine);
    assert!(matches!(finish.outcome, Outcome::Stopped(Stop::Cancelled)));
    finish
}

#[test]
fn a_lane_cancelled_by_the_failure_of_another_copies_nothing_of_its_history() {
    let (finish, copies) = stopping(1).by_a_sibling();
    assert!(matches!(&finish.outcome, Outcome::Failed(failure) if failure.kind == FailureKind::Branch));
    assert!(
        finish.kept.is_none(),
        "a run that failed has nothing to go on from"
    );
    let (_, of_long) = stopping(500).by_a_sibling();
    assert_eq!(of_long, copies, "however much the lane has done");
}

#[test]
fn a_run_that_is_cancelled_copies_the_history_of_a_lane_when_it_goes_on() {
    let (_, copies) = stopping(1).by_hand();
    let (finish, of_long) = stopping(500).by_hand();
    assert_eq!(of_long, copies, "however much the lane has done");

    let kept = *finish.kept.clone().unwrap();
    let mut root = Machine::go_on(Arc::new(plan(500)), kept, Options::default(), 10);
    let (_, mut long) = spawned(&mut root);
    let call = called(&mut long);
    assert_eq!(long.plan().node(call.node).name.as_ref(), "long 500");
    let records = &long.history().records;
    let ended = records.iter().filter(|record| record.status == Status::Succeeded);
    assert_eq!((ended.count(), records.len()), (500, 501));
    assert_eq!(records[499].output.as_ref().unwrap().0, 500);
    let (_, mut short) = spawned(&mut root);
    let call = called(&mut short).call;
    let answer = Answer::Value {
        value: Counted(7, Arc::default()),
        usage: Usage::ZERO,
    };
    short.handle(Event::Answered {
        call,
        answer,
        context: None,
        at: 11,
    });
    let finish = finished(&mut short);
    assert!(matches!(finish.outcome, Outcome::Completed(Counted(7, _))));
}

#[test]
fn a_machine_tells_when_the_end_of_a_lane_changes_nothing_as_long_as_another_one_runs() {
    let mut lanes = stopping(1);
    assert!(lanes.root.poll().is_none());
    assert!(lanes.root.awaits_all_lanes(), "both have begun");
    assert!(!lanes.long.1.awaits_all_lanes(), "it waits for a call");
    lanes.root.handle(Event::Cancel { at: 2 });
    assert!(!lanes.root.awaits_all_lanes(), "it is being stopped");

    let input = Counted(0, Arc::default());
    let plan = Arc::new(plan_of(1, Some(1)));
    let mut root = Machine::start(plan, Options::default(), input, (), 0, None);
    let _ = spawned(&mut root);
    assert!(root.poll().is_none());
    assert!(
        !root.awaits_all_lanes(),
        "another lane begins when this one has ended"
    );
}
