//! Draws cases that every host can run: what the public APIs have in common, durations in whole milliseconds, no
//! interleaving below them.

mod construct;
mod flow;
mod rates;
mod step;

use std::collections::BTreeMap;
use std::time::Duration;

use flujo_core::usage::{Cost, UsageLimits};

use super::{Constructs, MILLISECOND};
use crate::case::{Schedule, Spec, StepSpec};
use crate::random::{Random, mix};
use crate::script::{Act, Script, Write};
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

pub(super) fn case(seed: u64, index: u64, constructs: Constructs) -> Case {
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
        constructs,
        lanes: 0,
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
    let mut case = Case {
        pipeline,
        input: Object::Int(draw.number(0, 9)),
        context,
        hooks: draw.chance(30),
        hook: Script::default(),
        limits: draw.limits(),
        rates: Vec::new(),
        agent_rates: BTreeMap::new(),
        deadline: (trouble == Trouble::Deadline).then(|| draw.milliseconds(20_000, 200_000)),
        schedule: Schedule {
            cancel_at: (trouble == Trouble::Cancel).then(|| draw.milliseconds(1_000, 150_000)),
            ..Schedule::default()
        },
    };
    rates::draw(&mut case, &mut Random::new(mix(mix(index).wrapping_add(seed))));
    case
}

struct Draw {
    random: Random,
    nodes: u32,
    constructs: Constructs,
    limited: bool,
    /// Lanes around the part that is drawn.
    lanes: u32,
    /// Fields that belong to one step.
    fields: Vec<String>,
}

impl Draw {
    pub(super) fn chance(&mut self, in_100: usize) -> bool {
        self.random.below(100) < in_100
    }

    pub(super) fn number(&mut self, least: i64, most: i64) -> i64 {
        let span = usize::try_from(most - least + 1).unwrap_or(1);
        least + i64::try_from(self.random.below(span)).unwrap_or(0)
    }

    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.random.draw() % (most - least + 1)
    }

    pub(super) fn milliseconds(&mut self, least: u64, most: u64) -> u64 {
        self.between(least, most) * MILLISECOND
    }

    pub(super) fn duration(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_nanos(self.milliseconds(least, most))
    }

    pub(super) fn name(&mut self, kind: &str) -> String {
        self.nodes += 1;
        format!("{kind}{}", self.nodes)
    }

    pub(super) fn limits(&mut self) -> UsageLimits {
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
    pub(super) fn parts(&mut self, depth: u32, most: u64) -> Vec<Spec> {
        (0..self.between(1, most)).map(|_| self.part(depth)).collect()
    }

    pub(super) fn part(&mut self, depth: u32) -> Spec {
        if depth == 0 || self.nodes >= NODES {
            return self.step().into_spec();
        }
        if let Some(spec) = self.other_construct(depth) {
            return spec;
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

    pub(super) fn give_fallback(&mut self, step: &mut StepSpec, depth: u32) {
        if self.chance(60) {
            step.agent = Script::from(self.failing());
            step.policy.max_retries = 0;
        }
        step.fallback = Some(Box::new(self.part(depth)));
    }

    /// What a lane runs. Its first call takes a time of its own, for each item another one, so that lanes that start
    /// together part at once.
    pub(super) fn lane(&mut self, depth: u32, takes_per_unit: u64) -> Spec {
        let mut first = self.step();
        let apart = Act {
            takes: self.milliseconds(1, LONGEST),
            takes_per_unit,
            ..Act::default()
        };
        first.prompt.insert(0, Script::always(apart));
        self.lanes += 1;
        if self.chance(20) {
            self.give_fallback(&mut first, depth.saturating_sub(1));
        }
        let mut parts = vec![first.into_spec()];
        if self.chance(60) {
            parts.extend(self.parts(depth, 2));
        }
        self.lanes -= 1;
        Spec::Sequence(parts)
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
