//! Long and deep pipelines: no stack overflow in run, drop or save, and a number of commands that grows linearly. The
//! tests run on a small stack of their own, so that recursion would be found.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::sync::Arc;
use std::time::Duration;

use flujo_core::machine::{Finish, Outcome};
use flujo_core::pipeline::Pipeline;
use flujo_core::plan::{
    ConditionalNode, GroupNode, GuardNode, IterationFailure, LaneFailure, LoopNode, MapNode, NodeId,
    ParallelNode, Plan, Policy, State, StatesNode, StepNode, Work,
};
use flujo_simulation::{Callable, Case, Context, Does, Object, Ran, Script, Simulated, Simulation, Spec};

const DEPTH: usize = 10_000;

type Wrap = fn(&mut Pipeline<Callable>, NodeId) -> NodeId;

fn natural() -> Callable {
    Arc::new(Script::default())
}

/// `depth` constructs within one another around a step.
fn nested(depth: usize, wrap: Wrap, agent: Script) -> Plan<Callable> {
    let mut pipeline = Pipeline::new();
    let mut leaf = StepNode::new(Arc::new(agent));
    leaf.policy = Policy {
        max_retries: 0,
        ..Policy::default()
    };
    let mut node = pipeline.step("leaf", leaf);
    for _ in 0..depth {
        node = wrap(&mut pipeline, node);
    }
    pipeline.compile("deep", node).unwrap()
}

fn in_group(pipeline: &mut Pipeline<Callable>, body: NodeId) -> NodeId {
    pipeline.group(
        "g",
        GroupNode {
            body,
            inherit: None,
            collect: None,
        },
    )
}

fn in_isolated_group(pipeline: &mut Pipeline<Callable>, body: NodeId) -> NodeId {
    pipeline.group(
        "g",
        GroupNode {
            body,
            inherit: Some(natural()),
            collect: Some(natural()),
        },
    )
}

fn in_conditional(pipeline: &mut Pipeline<Callable>, body: NodeId) -> NodeId {
    let node = ConditionalNode {
        condition: natural(),
        branches: vec![(Arc::from("x"), body)],
        default: None,
        input_mapper: None,
        output_mapper: None,
    };
    pipeline.conditional("c", node)
}

fn in_parallel(pipeline: &mut Pipeline<Callable>, body: NodeId) -> NodeId {
    let node = ParallelNode {
        router: None,
        branches: vec![(Arc::from("x"), body)],
        on_failure: LaneFailure::Propagate,
        max_concurrency: None,
        merge: Some(natural()),
        collect: Arc::new(Script::from(Does::Return(1.into()))),
    };
    pipeline.parallel("p", node)
}

fn in_map(pipeline: &mut Pipeline<Callable>, body: NodeId) -> NodeId {
    let node = MapNode {
        body,
        items: Arc::new(Script::from(Does::Items(vec![1.into()]))),
        max_concurrency: 2,
        on_failure: LaneFailure::Propagate,
        merge: Some(natural()),
        collect: Arc::new(Script::from(Does::Return(1.into()))),
    };
    pipeline.map("m", node)
}

fn in_fallback(pipeline: &mut Pipeline<Callable>, fallback: NodeId) -> NodeId {
    let mut step = failing();
    step.fallback = Some(fallback);
    pipeline.step("s", step)
}

fn in_body(pipeline: &mut Pipeline<Callable>, body: NodeId) -> NodeId {
    let mut step = StepNode::new(natural());
    step.work = Work::Body(body);
    step.policy.max_retries = 0;
    pipeline.step("s", step)
}

fn in_loop(pipeline: &mut Pipeline<Callable>, body: NodeId) -> NodeId {
    let node = LoopNode {
        body,
        judge: None,
        exit: natural(),
        first_input: None,
        next_input: None,
        output: None,
        max_loops: 1,
        on_failure: IterationFailure::Stop,
    };
    pipeline.repeat("l", node)
}

fn in_state_machine(pipeline: &mut Pipeline<Callable>, body: NodeId) -> NodeId {
    let state = State {
        name: Arc::from("only"),
        body: Some(body),
        end: true,
    };
    let node = StatesNode {
        states: vec![state],
        start: 0,
        next: natural(),
    };
    pipeline.states("m", node)
}

fn in_guard(pipeline: &mut Pipeline<Callable>, body: NodeId) -> NodeId {
    let handler = pipeline.step("handler", failing());
    let describe = natural();
    pipeline.guard(GuardNode {
        body,
        describe,
        handler,
    })
}

fn failing() -> StepNode<Callable> {
    StepNode::new(Arc::new(Script::from(Does::Fail {
        permanent: true,
        retry_after: None,
    })))
}

const CONSTRUCTS: [Wrap; 10] = [
    in_group,
    in_isolated_group,
    in_conditional,
    in_parallel,
    in_map,
    in_fallback,
    in_body,
    in_loop,
    in_state_machine,
    in_guard,
];

fn run(plan: Plan<Callable>, adjust: impl FnOnce(&mut Case)) -> Ran {
    let mut case = Case::new(Spec::Sequence(Vec::new()), 1);
    adjust(&mut case);
    Simulation::of(Arc::new(plan), Object::from(1), Context::default(), &case)
        .run()
        .unwrap()
}

/// Runs on a stack of half a megabyte.
fn on_a_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new()
        .stack_size(512 * 1024)
        .spawn(test)
        .unwrap();
    assert!(thread.join().is_ok());
}

#[test]
fn ten_thousand_steps_in_a_row_take_as_many_commands_each_as_ten() {
    let commands = |steps: usize| {
        let mut pipeline = Pipeline::new();
        let steps = (0..steps)
            .map(|_| pipeline.step("s", StepNode::new(natural())))
            .collect();
        let root = pipeline.sequence(steps);
        run(pipeline.compile("long", root).unwrap(), |_| {})
            .trace
            .commands
    };
    on_a_small_stack(move || assert_eq!((commands(10_000) - 1) * 10, (commands(10) - 1) * 10_000));
}

#[test]
fn nesting_ten_thousand_deep_overflows_no_stack_and_costs_linearly() {
    on_a_small_stack(|| {
        for wrap in CONSTRUCTS {
            let commands = |depth| {
                let ran = run(nested(depth, wrap, Script::default()), |_| {});
                assert!(matches!(ran.finish.outcome, Outcome::Completed(_)));
                ran.trace.commands
            };
            let (one, two, deep) = (commands(1), commands(2), commands(DEPTH));
            assert_eq!(deep - one, (two - one) * u64::try_from(DEPTH - 1).unwrap());
        }
    });
}

#[test]
fn a_failure_ten_thousand_deep_comes_up_without_growing() {
    on_a_small_stack(|| {
        for wrap in CONSTRUCTS {
            let fails = Script::from(Does::Fail {
                permanent: true,
                retry_after: None,
            });
            let ran = run(nested(DEPTH, wrap, fails), |_| {});
            let Outcome::Failed(failure) = &ran.finish.outcome else {
                panic!("{:?}", ran.finish.outcome)
            };
            assert!(failure.to_string().len() < 4_000);
        }
    });
}

#[test]
fn a_run_ten_thousand_deep_is_cancelled_without_a_chain() {
    on_a_small_stack(|| {
        for wrap in CONSTRUCTS {
            let plan = nested(DEPTH, wrap, Script::from(Does::Hang));
            let whole =
                u32::try_from(run(nested(DEPTH, wrap, Script::default()), |_| {}).trace.commands).unwrap();
            let ran = run(plan, |case| case.schedule.cancel_after = Some(whole / 3));
            assert!(matches!(ran.finish.outcome, Outcome::Stopped(_)));
            assert_eq!((ran.trace.left_calls, ran.trace.left_lanes), (0, 0));
        }
    });
}

#[test]
fn histories_of_lanes_in_lanes_are_saved_and_read_whatever_their_depth() {
    on_a_small_stack(|| {
        for wrap in CONSTRUCTS {
            let ran = run(nested(DEPTH, wrap, Script::default()), |_| {});
            let text = serde_json::to_string(&ran.finish).unwrap();
            let read: Finish<Simulated> = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), text);
        }
    });
}

#[test]
fn a_run_a_thousand_deep_is_saved_and_restored_half_way() {
    on_a_small_stack(|| {
        for wrap in CONSTRUCTS {
            let unbroken = run(nested(1_000, wrap, Script::default()), |_| {});
            let half = u32::try_from(unbroken.trace.commands / 2).unwrap();
            let saved = run(nested(1_000, wrap, Script::default()), |case| {
                case.schedule.save_after = vec![half, half * 3 / 2];
            });
            assert!(saved.trace.saves >= 1);
            assert_eq!(saved.text(), unbroken.text());
        }
    });
}

#[test]
fn a_deadline_survives_a_restore_under_another_clock() {
    use flujo_core::machine::{Command, Machine, Options};
    let mut pipeline = Pipeline::new();
    let step = pipeline.step("s", StepNode::new(natural()));
    pipeline.set_deadline(step, Some(Duration::from_nanos(100)));
    let plan = Arc::new(pipeline.compile("clock", step).unwrap());
    let options = Options::default();
    let input = Object::from(1);
    let mut machine: Machine<Simulated> =
        Machine::start(Arc::clone(&plan), options, input, Context::default(), 1_000, None);
    let deadline = |machine: &mut Machine<Simulated>| match machine.poll() {
        Some(Command::Call(call)) => call.deadline,
        other => panic!("{other:?}"),
    };
    assert_eq!(deadline(&mut machine), Some(1_100));
    let mut restored = Machine::restore(Arc::clone(&plan), machine.save(1_040), 7);
    assert_eq!(deadline(&mut restored), Some(67));
    let mut restored = Machine::restore(plan, machine.save(1_040), 9_000);
    assert_eq!(deadline(&mut restored), Some(9_060));
}
