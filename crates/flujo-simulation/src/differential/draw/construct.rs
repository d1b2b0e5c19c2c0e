//! The constructs that every host has.

use flujo_core::plan::LaneFailure;

use super::{Draw, LONGEST};
use crate::Object;
use crate::case::{ConditionalSpec, GroupSpec, MapSpec, ParallelSpec, Spec};
use crate::script::{Does, Script};

impl Draw {
    pub(super) fn branches(&mut self, lanes: bool, depth: u32) -> Vec<(String, Spec)> {
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

    pub(super) fn conditional(&mut self, depth: u32) -> Spec {
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

    pub(super) fn mapper(&mut self) -> Script {
        self.aside(|draw| {
            if draw.chance(10) {
                draw.failing()
            } else {
                Does::Add(draw.number(1, 9))
            }
        })
    }

    pub(super) fn parallel(&mut self, depth: u32) -> Spec {
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

    pub(super) fn at_once(&mut self) -> Option<u32> {
        let limited = self.chance(30);
        limited.then(|| u32::try_from(self.between(1, 2)).unwrap_or(1))
    }

    pub(super) fn map(&mut self, depth: u32) -> Spec {
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

    pub(super) fn group(&mut self, depth: u32) -> Spec {
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
