//! Draws cases that every host can run: what the public APIs have in common, durations in whole milliseconds, no
//! interleaving below them.

use std::time::Duration;

use flujo_core::plan::{Backoff, LaneFailure, Policy};
use flujo_core::usage::{Cost, Usage, UsageLimits};

use super::MILLISECOND;
use crate::case::{ConditionalSpec, GroupSpec, MapSpec, ParallelSpec, Schedule, Spec, StepSpec};
use crate::random::{Random, mix};
use crate::script::{Act, Does, OnCancel, Script, Write};
use crate::{Case, Context, Object};

/// Constructs within constructs, at most.
const DEPTH: u32 = 3;
/// Nodes of one case, about at most.
const NODES: u32 = 22;
/// The longest a call takes, in milliseconds.
const LONGEST: u64 = 60_000;
/// The fields that steps write, beside those that belong to one step alone.
const NUMBERS: [&str; 3] = ["n0", "n1", "n2"];
const LOG: &str = "log";

/// What may stop the runs of a case from outside of its steps; one at a time, so that each comes up often enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Limit,
    Cancel,
    Deadline,
}

pub(super) fn case(seed: u64, index: u64) -> Case {
    let mut random = Random::new(mix(seed).wrapping_add(mix(index.wrapping_add(1))));
    let trouble = match random.below(20) {
        0..=6 => Trouble::Limit,
        7..=10 => Trouble::Cancel,
        11..=12 => Trouble::Deadline,
        _ => Trouble::None,
    };
    let mut draw = Draw {
        random,
        nodes: 0,
        limited: trouble == Trouble::Limit,
        fields: Vec::new(),
    };
    let pipeline = Spec::Sequence(draw.parts(DEPTH, 4));
    let mut context = Context::from([(LOG, Object::List(Vec::new()))]);
    for field in NUMBERS {
        context.write(field, &Write::Set(Object::Int(0)));
    }
    for field in &draw.fields {
        context.write(field, &Write::Set(Object::Null));
    }
    Case {
        pipeline,
        input: Object::Int(draw.number(0, 9)),
        context,
        hooks: draw.chance(30),
        hook: Script::default(),
        limits: draw.limits(),
        deadline: (trouble == Trouble::Deadline).then(|| draw.milliseconds(20_000, 200_000)),
        schedule: Schedule {
            cancel_at: (trouble == Trouble::Cancel).then(|| draw.milliseconds(1_000, 150_000)),
            ..Schedule::default()
        },
    }
}

struct Draw {
    random: Random,
    nodes: u32,
    limited: bool,
    /// Fields that belong to one step.
    fields: Vec<String>,
}

impl Draw {
    fn chance(&mut self, in_100: usize) -> bool {
        self.random.below(100) < in_100
    }

    fn number(&mut self, least: i64, most: i64) -> i64 {
        let span = usize::try_from(most - least + 1).unwrap_or(1);
        least + i64::try_from(self.random.below(span)).unwrap_or(0)
    }

    fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.random.draw() % (most - least + 1)
    }

    fn milliseconds(&mut self, least: u64, most: u64) -> u64 {
        self.between(least, most) * MILLISECOND
    }

    fn duration(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_nanos(self.milliseconds(least, most))
    }

    fn name(&mut self, kind: &str) -> String {
        self.nodes += 1;
        format!("{kind}{}", self.nodes)
    }

    fn limits(&mut self) -> UsageLimits {
        if !self.limited {
            return UsageLimits::default();
        }
        let tokens = self.between(3, 40);
        let by_cost = self.chance(30);
        UsageLimits {
            tokens: (!by_cost).then_some(tokens),
            cost: if by_cost { cost(tokens) } else { None },
            requests: None,
        }
    }

    /// One to `most` parts in a row.
    fn parts(&mut self, depth: u32, most: u64) -> Vec<Spec> {
        (0..self.between(1, most)).map(|_| self.part(depth)).collect()
    }

    fn part(&mut self, depth: u32) -> Spec {
        if depth == 0 || self.nodes >= NODES {
            return self.step().into_spec();
        }
        match self.random.below(20) {
            0..=3 => self.step().into_spec(),
            4..=6 => {
                let mut step = self.step();
                self.give_fallback(&mut step, depth - 1);
                step.into_spec()
            }
            7..=10 => self.conditional(depth - 1),
            11..=13 => self.parallel(depth - 1),
            14..=16 => self.map(depth - 1),
            _ => self.group(depth - 1),
        }
    }

    fn give_fallback(&mut self, step: &mut StepSpec, depth: u32) {
        if self.chance(60) {
            step.agent = Script::from(self.failing());
            step.policy.max_retries = 0;
        }
        step.fallback = Some(Box::new(self.part(depth)));
    }

    /// What a lane runs. Its first call takes a time of its own, for each item another one, so that lanes that start
    /// together part at once.
    fn lane(&mut self, depth: u32, takes_per_unit: u64) -> Spec {
        let mut first = self.step();
        let apart = Act {
            takes: self.milliseconds(1, LONGEST),
            takes_per_unit,
            ..Act::default()
        };
        first.prompt.insert(0, Script::always(apart));
        if self.chance(20) {
            self.give_fallback(&mut first, depth.saturating_sub(1));
        }
        let mut parts = vec![first.into_spec()];
        if self.chance(60) {
            parts.extend(self.parts(depth, 2));
        }
        Spec::Sequence(parts)
    }

    // --- steps

    fn step(&mut self) -> StepSpec {
        let name = self.name("step");
        let prompt = self.some(20, Self::processor);
        let output = self.some(20, Self::processor);
        let plugins = self.some(20, |draw| draw.judge(true));
        let mut validators = self.some(25, |draw| draw.judge(false));
        validators.extend(self.some(10, |draw| draw.judge(false)));
        let apply = self.own_field(20, &name, "").map(|()| Script::default());
        let persist = self.own_field(20, &name, ".feedback").map(|()| Script::default());
        let estimate = if self.limited && self.chance(60) {
            self.usage()
        } else {
            Usage::ZERO
        };
        StepSpec {
            body: None,
            agent: self.agent(),
            policy: self.policy(),
            deadline: self.deadline(8),
            name,
            prompt,
            output,
            plugins,
            validators,
            apply,
            persist,
            fallback: None,
            estimate,
        }
    }

    fn some(&mut self, chance: usize, draw: impl FnOnce(&mut Self) -> Script) -> Vec<Script> {
        if self.chance(chance) {
            vec![draw(self)]
        } else {
            Vec::new()
        }
    }

    /// Whether the step has a field that it alone writes.
    fn own_field(&mut self, chance: usize, step: &str, suffix: &str) -> Option<()> {
        self.chance(chance)
            .then(|| self.fields.push(format!("{step}{suffix}")))
    }

    fn policy(&mut self) -> Policy {
        Policy {
            max_retries: u32::try_from(self.random.below(4)).unwrap_or(0),
            timeout: self.chance(25).then(|| self.duration(5_000, 90_000)),
            backoff: match self.random.below(5) {
                0 => Backoff::Fixed(self.duration(1, 20_000)),
                1 => Backoff::Exponential {
                    initial: self.duration(1, 10_000),
                    factor: 2.0,
                    max: self.duration(10_000, 30_000),
                    jitter: 0.0,
                },
                _ => Backoff::None,
            },
        }
    }

    fn deadline(&mut self, chance: usize) -> Option<u64> {
        self.chance(chance).then(|| self.milliseconds(10_000, 120_000))
    }

    fn usage(&mut self) -> Usage {
        let cost = cost(self.between(0, 6)).unwrap_or_default();
        Usage::new(cost, self.between(0, 8))
    }

    fn agent(&mut self) -> Script {
        let failures = if self.chance(40) { self.random.below(3) } else { 0 };
        let mut acts: Vec<Act> = (0..failures).map(|_| self.act_of_agent(30)).collect();
        for act in &mut acts {
            act.does = self.failing();
        }
        acts.push(self.act_of_agent(40));
        Script { acts }
    }

    fn act_of_agent(&mut self, writes: usize) -> Act {
        Act {
            takes: self.milliseconds(1, LONGEST),
            usage: self.usage(),
            writes: self.writes(writes),
            on_cancel: OnCancel::Report,
            does: match self.random.below(20) {
                0..=7 => Does::Add(self.number(1, 9)),
                8..=13 => Does::Natural,
                14 => Does::Return(Object::Text("text".into())),
                15 => Does::Return(Object::from([1, 2])),
                16 => Does::Return(Object::Null),
                17..=18 => Does::FailOdd,
                _ => self.failing(),
            },
            ..Act::default()
        }
    }

    fn failing(&mut self) -> Does {
        Does::Fail {
            permanent: self.chance(10),
            retry_after: self.chance(10).then(|| self.milliseconds(1, 40_000)),
        }
    }

    fn writes(&mut self, chance: usize) -> Vec<(String, Write)> {
        if !self.chance(chance) {
            return Vec::new();
        }
        let number = self.number(1, 9);
        let numbered = NUMBERS[self.random.below(NUMBERS.len())].to_owned();
        vec![match self.random.below(5) {
            0 => (numbered, Write::Set(Object::Int(number))),
            1 => (numbered, Write::Add(number)),
            _ => (LOG.to_owned(), Write::Append(Object::Int(number))),
        }]
    }

    /// A callable beside the agent, one or two acts long.
    fn aside(&mut self, mut does: impl FnMut(&mut Self) -> Does) -> Script {
        let acts = (0..self.between(1, 2)).map(|_| Act {
            does: does(self),
            ..Act::default()
        });
        Script { acts: acts.collect() }
    }

    /// Some processors take time.
    fn processor(&mut self) -> Script {
        let mut script = self.aside(|draw| match draw.random.below(10) {
            0 if draw.chance(50) => draw.failing(),
            1..=3 => Does::Add(draw.number(1, 9)),
            _ => Does::Natural,
        });
        for act in &mut script.acts {
            if self.chance(40) {
                act.takes = self.milliseconds(1, LONGEST);
            }
        }
        script
    }

    /// A plugin or validator. It judges in place.
    fn judge(&mut self, is_plugin: bool) -> Script {
        let mut script = self.aside(|draw| match draw.random.below(12) {
            0..=1 => Does::Reject,
            3 => draw.failing(),
            4 if is_plugin => Does::Redirect(draw.between(1, 2)),
            5 if is_plugin => Does::Return(Object::Int(draw.number(10, 19))),
            _ => Does::Natural,
        });
        for act in &mut script.acts {
            act.writes = self.writes(10);
        }
        script
    }

    // --- constructs

    fn branches(&mut self, lanes: bool, depth: u32) -> Vec<(String, Spec)> {
        // Declared order is not the order of names.
        let names = ["c", "a", "b"];
        let count = self.random.below(3) + 1;
        let branch = |name: &&str| {
            let body = if lanes {
                self.lane(depth, 0)
            } else {
                Spec::Sequence(self.parts(depth, 2))
            };
            ((*name).to_owned(), body)
        };
        names.iter().take(count).map(branch).collect()
    }

    fn conditional(&mut self, depth: u32) -> Spec {
        let name = self.name("choice");
        let branches = self.branches(false, depth);
        let condition = self.aside(|draw| match draw.random.below(12) {
            0 => draw.failing(),
            1 if draw.chance(50) => Does::Choose("unknown".to_owned()),
            2..=4 => Does::Choose("a".to_owned()),
            _ => Does::Natural,
        });
        let has_default = self.chance(30);
        Spec::Conditional(Box::new(ConditionalSpec {
            name,
            condition,
            branches,
            default: has_default.then(|| Spec::Sequence(self.parts(depth, 1))),
            input_mapper: self.some(30, Self::mapper).pop(),
            output_mapper: self.some(30, Self::mapper).pop(),
            deadline: self.deadline(12),
        }))
    }

    fn mapper(&mut self) -> Script {
        self.aside(|draw| {
            if draw.chance(10) {
                draw.failing()
            } else {
                Does::Add(draw.number(1, 9))
            }
        })
    }

    fn parallel(&mut self, depth: u32) -> Spec {
        let name = self.name("parallel");
        Spec::Parallel(Box::new(ParallelSpec {
            router: None,
            name,
            branches: self.branches(true, depth),
            on_failure: if self.chance(50) {
                LaneFailure::Propagate
            } else {
                LaneFailure::Ignore
            },
            max_concurrency: self.at_once(),
            merge: self.chance(80).then(Script::default),
            collect: Script::default(),
            deadline: self.deadline(12),
        }))
    }

    fn at_once(&mut self) -> Option<u32> {
        let limited = self.chance(30);
        limited.then(|| u32::try_from(self.between(1, 2)).unwrap_or(1))
    }

    fn map(&mut self, depth: u32) -> Spec {
        let name = self.name("map");
        let per_unit = self.milliseconds(1, LONGEST / 10);
        let body = self.lane(depth, per_unit);
        let items = self.aside(|draw| {
            if draw.chance(4) {
                return draw.failing();
            }
            let count = draw.number(0, 4);
            let step = draw.number(1, 3);
            Does::Items((1..=count).map(|nth| Object::Int(nth * step)).collect())
        });
        Spec::Map(Box::new(MapSpec {
            name,
            body,
            items,
            max_concurrency: u32::try_from(self.between(1, 3)).unwrap_or(1),
            on_failure: if self.chance(50) {
                LaneFailure::Propagate
            } else {
                LaneFailure::Tolerate
            },
            merge: Some(Script::default()),
            collect: Script::default(),
            deadline: self.deadline(12),
        }))
    }

    fn group(&mut self, depth: u32) -> Spec {
        let name = self.name("group");
        Spec::Group(Box::new(GroupSpec {
            name,
            body: Spec::Sequence(self.parts(depth, 3)),
            inherit: None,
            collect: None,
            deadline: self.deadline(25),
        }))
    }
}

/// So many thousandths of a dollar.
fn cost(thousandths: u64) -> Option<Cost> {
    Cost::from_nanos(i64::try_from(thousandths * 1_000_000).ok()?)
}

impl StepSpec {
    fn into_spec(self) -> Spec {
        Spec::Step(Box::new(self))
    }
}
