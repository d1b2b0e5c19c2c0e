//! Promises that hold for every pipeline, every script and every interleaving.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::cell::RefCell;
use std::collections::BTreeMap;

use flujo_core::machine::{FailureKind, History, NoticeKind, Outcome, Record, Role, Status, Stop};
use flujo_core::plan::{Kind, Plan, Work};
use flujo_core::rate::RateLimit;
use flujo_simulation::trace::LookEnd;
use flujo_simulation::{
    CallEnd, Callable, Case, Clock, Ran, Simulated, Simulation, Spec, generate, invariant,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

const CASES: u32 = 5_000;

/// How often each construct met each outcome.
type Seen = BTreeMap<(&'static str, &'static str), u32>;

fn run(case: &Case) -> Result<Ran, TestCaseError> {
    Simulation::new(case)
        .and_then(Simulation::run)
        .map_err(|stuck| TestCaseError::fail(stuck.to_string()))
}

/// Runs a case that must break no invariant.
fn sound(case: &Case) -> Result<(Plan<Callable>, Ran), TestCaseError> {
    let ran = run(case)?;
    let plan = case
        .plan()
        .map_err(|error| TestCaseError::fail(error.to_string()))?;
    let broken = invariant::broken(&plan, &ran);
    prop_assert!(broken.is_empty(), "{}", broken.join("\n"));
    Ok((plan, ran))
}

/// The same cases every time; with `PROPTEST_CASES` as many times more as that is more than what it is without.
fn runner(cases: u32) -> TestRunner {
    let asked = Config::default();
    let config = Config {
        cases: cases * (asked.cases / 256).max(1),
        failure_persistence: None,
        max_shrink_iters: 3_000,
        ..asked
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]))
}

fn check(cases: u32, test: impl Fn(&Case) -> Result<(), TestCaseError>) {
    check_all(cases, &generate::case(), test);
}

fn check_all(
    cases: u32,
    any: &impl Strategy<Value = Case>,
    test: impl Fn(&Case) -> Result<(), TestCaseError>,
) {
    let result = runner(cases).run(any, |case| test(&case));
    match result {
        Err(TestError::Fail(reason, case)) => {
            panic!(
                "{reason}\nThe smallest case found: {}",
                serde_json::to_string(&case).unwrap()
            )
        }
        Err(failure) => panic!("{failure}"),
        Ok(()) => {}
    }
}

#[test]
fn every_run_is_sound_and_every_construct_meets_every_outcome() {
    let seen = RefCell::new(Seen::new());
    check(CASES, |case| {
        let (plan, ran) = sound(case)?;
        count(&plan, &ran, &mut seen.borrow_mut());
        Ok(())
    });
    let seen = seen.into_inner();
    for ((construct, outcome), times) in &seen {
        println!("{construct:12} {outcome:28} {times:6}");
    }
    let mut rare = Vec::new();
    let mut often = |construct: &'static str, outcomes: &[&'static str]| {
        for outcome in outcomes {
            let times = seen.get(&(construct, *outcome)).copied().unwrap_or(0);
            if times < 50 {
                rare.push(format!("{construct} × {outcome}: {times}"));
            }
        }
    };
    for construct in [
        "step",
        "body",
        "conditional",
        "parallel",
        "router",
        "map",
        "group",
        "loop",
        "states",
    ] {
        often(construct, &["success", "failed", "cancelled", "limit"]);
    }
    for construct in ["step", "body"] {
        often(construct, &["retried", "timeout", "fallback"]);
    }
    often("step", &["deadline"]);
    often(
        "loop",
        &[
            "condition",
            "max_loops",
            "body_step_error",
            "exit_condition_error",
        ],
    );
    often(
        "loop",
        &["initial_input_mapper_error", "iteration_input_mapper_error"],
    );
    often("loop", &["loop_output_mapper_error", "went on"]);
    often("states", &["retried", "went on"]);
    often("guard", &["passed", "handled", "failed", "cancelled", "limit"]);
    often(
        "human",
        &["answered", "rejected", "expired", "default", "cancelled"],
    );
    assert!(
        rare.is_empty(),
        "came up fewer than 50 times: {}",
        rare.join(", ")
    );
}

#[test]
fn of_steps_that_want_one_result_one_makes_it_and_another_takes_over_whatever_befalls_it() {
    let seen = RefCell::new(Seen::new());
    check_all(CASES / 4, &generate::crowd(), |case| {
        let plan = case
            .plan()
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        for save_after in [Vec::new(), (1..60).step_by(3).collect()] {
            let mut case = case.clone();
            case.schedule.save_after = save_after;
            let ran = run(&case)?;
            let broken = invariant::broken(&plan, &ran);
            prop_assert!(broken.is_empty(), "{}", broken.join("\n"));
            count(&plan, &ran, &mut seen.borrow_mut());
        }
        Ok(())
    });
    let seen = seen.into_inner();
    let ends = [
        "hit",
        "led",
        "uncached",
        "timed out",
        "cancelled",
        "put",
        "waited",
        "hit after waiting",
        "led after waiting",
        "gave up waiting",
    ];
    for end in ends {
        let times = seen.get(&("cache", end)).copied().unwrap_or(0);
        println!("{end:20} {times:6}");
        let least = if end == "gave up waiting" { 10 } else { 50 };
        assert!(times >= least, "{end} came up {times} times");
    }
}

/// Counts every record of a run and its lanes.
fn count(plan: &Plan<Callable>, ran: &Ran, seen: &mut Seen) {
    let mut histories: Vec<&History<Simulated>> = vec![&ran.finish.history];
    while let Some(history) = histories.pop() {
        for (at, record) in (0u32..).zip(&history.records) {
            let below: Vec<Status> = history
                .children(Some(at))
                .map(|(_, child)| child.status)
                .collect();
            count_record(plan, record, &below, seen);
            let lanes = record.lanes().iter();
            histories.extend(lanes.filter_map(|lane| Some(&lane.finish.as_ref()?.history)));
        }
        guards(plan, history, seen);
    }
    for look in &ran.trace.looks {
        see(
            seen,
            "cache",
            match look.end {
                Some(LookEnd::Hit) => "hit",
                Some(LookEnd::Led(_)) => "led",
                Some(LookEnd::Uncached) => "uncached",
                Some(LookEnd::TimedOut) => "timed out",
                Some(LookEnd::Cancelled) => "cancelled",
                None => "open",
            },
        );
        if look.waited {
            see(seen, "cache", "waited");
            match look.end {
                Some(LookEnd::Hit) => see(seen, "cache", "hit after waiting"),
                Some(LookEnd::Led(_)) => see(seen, "cache", "led after waiting"),
                _ => see(seen, "cache", "gave up waiting"),
            }
        }
    }
    for _ in &ran.trace.puts {
        see(seen, "cache", "put");
    }
    for pause in &ran.trace.pauses {
        see(
            seen,
            "human",
            if pause.after_rejection {
                "rejected"
            } else {
                "asked"
            },
        );
        match pause.answered {
            Some(true) => see(seen, "human", "answered"),
            Some(false) => see(seen, "human", "expired"),
            None => {}
        }
    }
    for call in ran
        .trace
        .calls
        .iter()
        .filter(|call| call.role == Role::DefaultAnswer)
    {
        if call.end == Some(CallEnd::Answered) {
            see(seen, "human", "default");
        }
    }
    see(
        seen,
        "run",
        match &ran.finish.outcome {
            Outcome::Completed(_) => "success",
            Outcome::Failed(_) => "failed",
            Outcome::Stopped(Stop::Cancelled) => "cancelled",
            Outcome::Stopped(Stop::Paused) => "paused",
            Outcome::Stopped(Stop::Aborted(_)) => "aborted",
            Outcome::Stopped(Stop::LimitExceeded(_)) => "limit",
            Outcome::Stopped(Stop::Fatal(_)) => "fatal",
        },
    );
}

fn see(seen: &mut Seen, construct: &'static str, outcome: &'static str) {
    *seen.entry((construct, outcome)).or_default() += 1;
}

fn count_record(plan: &Plan<Callable>, record: &Record<Simulated>, below: &[Status], seen: &mut Seen) {
    let construct = match &plan.node(record.node).kind {
        Kind::Step(step) if matches!(step.work, Work::Body(_)) => "body",
        Kind::Step(_) => "step",
        Kind::Conditional(_) => "conditional",
        Kind::Parallel(node) if node.router.is_some() => "router",
        Kind::Parallel(_) => "parallel",
        Kind::Map(_) => "map",
        Kind::Group(_) => "group",
        Kind::Loop(_) => "loop",
        Kind::States(_) => "states",
        Kind::Human(_) => "human",
        Kind::Guard(_) => "guard",
        Kind::Sequence(_) => "sequence",
    };
    see(seen, construct, outcome(record.status));
    let goes_on = below
        .split_last()
        .is_some_and(|(_, before)| before.contains(&Status::Failed));
    if matches!(construct, "loop" | "states") && goes_on {
        see(seen, construct, "went on");
    }
    if record.attempts > 1 {
        see(seen, construct, "retried");
    }
    let Some(details) = record.details.as_ref() else {
        return;
    };
    if let Some(end) = details.loop_end {
        see(seen, construct, end.reason.as_str());
    }
    if details.fallback.is_some() {
        see(seen, construct, "fallback");
    }
    for failure in &details.attempt_failures {
        match failure.kind {
            FailureKind::Timeout => see(seen, construct, "timeout"),
            FailureKind::Deadline => see(seen, construct, "deadline"),
            _ => {}
        }
    }
}

fn outcome(status: Status) -> &'static str {
    match status {
        Status::Running => "running",
        Status::Succeeded => "success",
        Status::Failed => "failed",
        Status::Cancelled => "cancelled",
        Status::LimitExceeded => "limit",
    }
}

/// How guards ended whose body and handler are single records: they have none of their own.
fn guards(plan: &Plan<Callable>, history: &History<Simulated>, seen: &mut Seen) {
    for (_, node) in plan.nodes() {
        let Kind::Guard(guard) = &node.kind else {
            continue;
        };
        for (place, body) in history.records.iter().enumerate() {
            if body.node != guard.body {
                continue;
            }
            let after = history.records[place + 1..].iter();
            let mut after = after.filter(|record| record.parent == body.parent);
            let handler = after.next().filter(|record| record.node == guard.handler);
            see(
                seen,
                "guard",
                match (body.status, handler.map(|handler| handler.status)) {
                    (Status::Failed, Some(Status::Succeeded)) => "handled",
                    (Status::Succeeded, None) => "passed",
                    (_, Some(status)) | (status, None) => outcome(status),
                },
            );
        }
    }
}

/// Whether nothing in a pipeline runs beside anything else.
fn in_a_row(plan: &Plan<Callable>) -> bool {
    !plan.nodes().any(|(_, node)| {
        matches!(node.kind, Kind::Parallel(_) | Kind::Map(_))
            || matches!(&node.kind, Kind::Group(group) if group.inherit.is_some())
    })
}

#[test]
fn a_run_that_stands_still_for_an_answer_ends_the_same_however_long_it_takes() {
    let pauses = RefCell::new(0);
    check(CASES / 3, |case| {
        let plan = case
            .plan()
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        if !in_a_row(&plan) {
            return Ok(());
        }
        let mut case = case.clone();
        case.schedule.cancel_asked = None;
        let soon = run(&case)?;
        if soon.trace.pauses.is_empty() {
            return Ok(());
        }
        *pauses.borrow_mut() += soon.trace.pauses.len();
        let mut patient = case.clone();
        answer_later(&mut patient.pipeline);
        let late = run(&patient)?;
        prop_assert_eq!(soon.text(), late.text());
        prop_assert_eq!(soon.notices_text(), late.notices_text());
        Ok(())
    });
    let pauses = pauses.into_inner();
    println!("{pauses} pauses");
    assert!(pauses >= 50, "only {pauses} pauses");
}

/// Every answer takes an hour longer.
fn answer_later(root: &mut Spec) {
    root.visit_mut(&mut |spec| {
        if let Spec::Human(human) = spec {
            let acts = human.question.acts.iter_mut();
            for reply in acts.flat_map(|act| &mut act.replies) {
                reply.after += 3_600_000_000_000;
            }
        }
    });
}

#[test]
fn a_clock_that_is_asked_only_where_it_shows_shows_the_same() {
    check(CASES / 5, |case| {
        let mut case = case.clone();
        case.schedule.clock = Clock::Asked;
        let always = run(&case)?;
        case.schedule.clock = Clock::AskedWhereItShows;
        let sometimes = run(&case)?;
        prop_assert_eq!(always.text(), sometimes.text());
        Ok(())
    });
}

#[test]
fn saving_and_restoring_at_any_command_changes_nothing() {
    let saves = RefCell::new(0);
    check(CASES / 5, |case| {
        // Somebody else makes the results that a dropped machine was to make, so that what is found differs.
        let mut case = case.clone();
        case.pipeline.visit_mut(&mut |spec| {
            if let Spec::Step(step) = spec {
                step.cached = None;
            }
        });
        let unbroken = run(&case)?;
        let mut broken_up = case.clone();
        broken_up.schedule.save_after = (1..40).chain((40..400).step_by(7)).collect();
        let restored = run(&broken_up)?;
        *saves.borrow_mut() += restored.trace.saves;
        prop_assert_eq!(unbroken.text(), restored.text());
        prop_assert_eq!(unbroken.notices_text(), restored.notices_text());
        Ok(())
    });
    let saves = saves.into_inner();
    println!("{saves} saves");
    assert!(saves > 1_000, "only {saves} saves");
}

#[test]
fn cached_steps_go_on_soundly_after_a_restore_at_any_command() {
    let (saves, hits) = (RefCell::new(0), RefCell::new(0));
    check(CASES / 5, |case| {
        let plan = case
            .plan()
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        let is_cached = |kind: &Kind<Callable>| matches!(kind, Kind::Step(step) if step.cache.is_some());
        if !plan.nodes().any(|(_, node)| is_cached(&node.kind)) {
            return Ok(());
        }
        let mut broken_up = case.clone();
        broken_up.schedule.save_after = (1..40).chain((40..400).step_by(7)).collect();
        let ran = run(&broken_up)?;
        let broken = invariant::broken(&plan, &ran);
        prop_assert!(broken.is_empty(), "{}", broken.join("\n"));
        *saves.borrow_mut() += ran.trace.saves;
        let found = ran
            .trace
            .looks
            .iter()
            .filter(|look| look.end == Some(LookEnd::Hit));
        *hits.borrow_mut() += found.count();
        Ok(())
    });
    let (saves, hits) = (saves.into_inner(), hits.into_inner());
    println!("{saves} saves, {hits} hits");
    assert!(saves > 1_000 && hits > 50, "only {saves} saves and {hits} hits");
}

#[test]
fn the_same_seed_gives_the_same_notices_and_the_case_survives_json() {
    check(CASES / 10, |case| {
        let text = serde_json::to_string(case).unwrap();
        let read: Case = serde_json::from_str(&text).unwrap();
        let (one, two) = (run(case)?, run(&read)?);
        prop_assert_eq!(one.text(), two.text());
        prop_assert_eq!(one.notices_text(), two.notices_text());
        Ok(())
    });
}

#[test]
fn a_run_cancelled_at_any_command_ends_sound_and_keeps_its_history() {
    check(CASES / 10, |case| {
        let mut case = case.clone();
        case.schedule.cancel_after = None;
        let whole = u32::try_from(run(&case)?.trace.commands).unwrap_or(u32::MAX);
        let plan = case
            .plan()
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        for after in (1..=whole.min(60)).step_by(3) {
            case.schedule.cancel_after = Some(after);
            let ran = run(&case)?;
            let broken = invariant::broken(&plan, &ran);
            prop_assert!(broken.is_empty(), "after {after}: {}", broken.join("\n"));
            let told = |kind: &NoticeKind<Simulated>| matches!(kind, NoticeKind::StepStarted);
            let begun = ran
                .trace
                .notices
                .iter()
                .filter(|notice| told(&notice.notice.kind))
                .count();
            prop_assert!(records(&ran.finish.history) == begun, "history is not kept");
        }
        Ok(())
    });
}

fn records(history: &History<Simulated>) -> usize {
    let below = |history: &History<Simulated>| -> usize {
        let lanes = history
            .records
            .iter()
            .flat_map(flujo_core::machine::Record::lanes);
        lanes
            .filter_map(|lane| Some(records(&lane.finish.as_ref()?.history)))
            .sum()
    };
    history.records.len() + below(history)
}

/// A limit that lets calls through at once, one after the other, or a few in a minute.
fn rate() -> impl Strategy<Value = RateLimit> {
    prop_oneof![
        (1_u32..4).prop_map(|calls| RateLimit::new("all").max_concurrent(calls)),
        (1_u32..6).prop_map(|calls| RateLimit::new("all").requests_per_minute(calls)),
        (1_u32..50).prop_map(|tokens| RateLimit::new("all").tokens_per_minute(tokens)),
    ]
}

#[test]
fn under_rate_limits_every_run_is_sound_and_nobody_waits_for_ever() {
    let rated = (generate::case(), rate()).prop_map(|(mut case, limit)| {
        case.rates.push(limit);
        case
    });
    check_all(CASES / 2, &rated, |case| sound(case).map(drop));
}

#[test]
fn p35_whatever_was_stopped_and_kept_something_goes_on_to_an_end() {
    let gone_on = RefCell::new(0);
    check(CASES / 2, |case| {
        let mut written = case.clone();
        // Never in the middle: all that was written tells of each end.
        written.schedule.save_after = vec![u32::MAX];
        let ran = run(&written)?;
        let used = ran.finish.usage;
        if ran.finish.kept.is_none() {
            return Ok(());
        }
        let mut free = written;
        free.limits = flujo_core::usage::UsageLimits::default();
        (free.schedule.cancel_at, free.schedule.cancel_after) = (None, None);
        free.schedule.cancel_asked = None;
        let again = Simulation::going_on(&free, ran)
            .and_then(Simulation::run)
            .map_err(|stuck| TestCaseError::fail(stuck.to_string()))?;
        *gone_on.borrow_mut() += 1;
        let of_run = !matches!(&again.finish.outcome, Outcome::Stopped(Stop::Cancelled));
        prop_assert!(of_run, "nobody cancels it: {:?}", again.finish.outcome);
        prop_assert!(again.finish.usage.tokens >= used.tokens);
        let top = again
            .finish
            .history
            .records
            .iter()
            .filter(|record| record.parent.is_none());
        let tokens: u64 = top.map(|record| record.usage.tokens).sum();
        prop_assert_eq!(tokens, again.finish.usage.tokens, "the sum of the records");
        Ok(())
    });
    assert!(gone_on.into_inner() > 100);
}
