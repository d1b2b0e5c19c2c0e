//! Steps with everything around the agent, and the callables of constructs.

use flujo_core::plan::{Backoff, Policy};
use flujo_core::usage::Usage;

use super::{Draw, LOG, LONGEST, NUMBERS, cost};
use crate::Object;
use crate::case::StepSpec;
use crate::script::{Act, Does, OnCancel, Script, Write};

impl Draw {
    pub(super) fn step(&mut self) -> StepSpec {
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
            ..StepSpec::default()
        }
    }

    pub(super) fn some(&mut self, chance: usize, draw: impl FnOnce(&mut Self) -> Script) -> Vec<Script> {
        if self.chance(chance) {
            vec![draw(self)]
        } else {
            Vec::new()
        }
    }

    /// Whether the step has a field that it alone writes.
    pub(super) fn own_field(&mut self, chance: usize, step: &str, suffix: &str) -> Option<()> {
        self.chance(chance)
            .then(|| self.fields.push(format!("{step}{suffix}")))
    }

    pub(super) fn policy(&mut self) -> Policy {
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

    pub(super) fn deadline(&mut self, chance: usize) -> Option<u64> {
        self.chance(chance).then(|| self.milliseconds(10_000, 120_000))
    }

    pub(super) fn usage(&mut self) -> Usage {
        let cost = cost(self.between(0, 6)).unwrap_or_default();
        Usage::new(cost, self.between(0, 8))
    }

    pub(super) fn agent(&mut self) -> Script {
        let failures = if self.chance(40) { self.random.below(3) } else { 0 };
        let mut acts: Vec<Act> = (0..failures).map(|_| self.act_of_agent(30)).collect();
        for act in &mut acts {
            act.does = self.failing();
        }
        acts.push(self.act_of_agent(40));
        Script { acts }
    }

    pub(super) fn act_of_agent(&mut self, writes: usize) -> Act {
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

    pub(super) fn failing(&mut self) -> Does {
        Does::Fail {
            permanent: self.chance(10),
            retry_after: self.chance(10).then(|| self.milliseconds(1, 40_000)),
        }
    }

    pub(super) fn writes(&mut self, chance: usize) -> Vec<(String, Write)> {
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
    pub(super) fn aside(&mut self, mut does: impl FnMut(&mut Self) -> Does) -> Script {
        let acts = (0..self.between(1, 2)).map(|_| Act {
            does: does(self),
            ..Act::default()
        });
        Script { acts: acts.collect() }
    }

    /// Some processors take time.
    pub(super) fn processor(&mut self) -> Script {
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
    pub(super) fn judge(&mut self, is_plugin: bool) -> Script {
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
}
