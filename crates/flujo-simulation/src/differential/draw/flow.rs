//! The constructs that are switched on: loops, state machines, routers, guards, parts as a step's work, questions. Their
//! scripts end with something that lets the run end.

use flujo_core::plan::IterationFailure;

use super::Draw;
use crate::Object;
use crate::case::{GroupSpec, GuardSpec, HumanSpec, LoopSpec, Spec, StatesSpec, StepSpec};
use crate::script::{Act, Does, Reply, Script};

/// Later than anything else: an answer that comes when the run stands still.
const AT_LAST: u64 = 1_000_000_000_000_000;
/// Names of states in the order in which they follow.
const STATES: [&str; 3] = ["one", "two", "three"];

/// Draws a construct of this depth.
type Drawn = fn(&mut Draw, u32) -> Spec;

impl Draw {
    /// One of the constructs that are switched on, in at most half of all places for one.
    pub(super) fn other_construct(&mut self, depth: u32) -> Option<Spec> {
        let on = self.constructs;
        let all: [(bool, Drawn); 6] = [
            (on.loops, Self::repeat),
            (on.states, Self::states),
            (on.routers, Self::routed),
            (on.guards, Self::guard),
            (on.bodies, Self::with_body),
            (on.humans && self.lanes == 0, Self::human),
        ];
        let choices: Vec<_> = all.into_iter().filter(|(on, _)| *on).collect();
        if choices.is_empty() || !self.chance((10 * choices.len()).min(50)) {
            return None;
        }
        let (_, draw) = choices[self.random.below(choices.len())];
        Some(draw(self, depth - 1))
    }

    fn repeat(&mut self, depth: u32) -> Spec {
        let name = self.name("loop");
        let body = Spec::Sequence(self.parts(depth, 2));
        let judged = self.constructs.judges && self.chance(20);
        let judge = judged.then(|| Spec::Sequence(self.parts(depth, 1)));
        let exit = self.aside(|draw| match draw.random.below(10) {
            0 if draw.chance(50) => draw.failing(),
            1..=3 => Does::Exit(false),
            4..=6 => Does::ExitAt(draw.number(1, 20)),
            _ => Does::Natural,
        });
        Spec::Loop(Box::new(LoopSpec {
            name,
            body,
            judge,
            exit,
            first_input: self.some(30, Self::mapper).pop(),
            next_input: self.some(30, Self::mapper).pop(),
            output: self.some(30, Self::mapper).pop(),
            max_loops: u32::try_from(self.between(1, 4)).unwrap_or(1),
            on_failure: if self.chance(50) {
                IterationFailure::Stop
            } else {
                IterationFailure::Continue
            },
            deadline: self.deadline(12),
        }))
    }

    fn states(&mut self, depth: u32) -> Spec {
        let name = self.name("states");
        let count = self.random.below(STATES.len()) + 1;
        let mut states: Vec<(String, Option<Spec>)> = STATES[..count]
            .iter()
            .map(|state| ((*state).to_owned(), Some(Spec::Sequence(self.parts(depth, 2)))))
            .collect();
        if self.chance(50) {
            states.push(("done".to_owned(), None));
        }
        let names: Vec<String> = states.iter().map(|(name, _)| name.clone()).collect();
        let mut next = self.aside(|draw| match draw.random.below(12) {
            0 if draw.chance(50) => draw.failing(),
            1 if draw.chance(50) => Does::Choose("nowhere".to_owned()),
            2..=7 => Does::Choose(names[draw.random.below(names.len())].clone()),
            _ => Does::Natural,
        });
        next.acts.push(Act::default());
        Spec::States(Box::new(StatesSpec {
            name,
            states,
            next,
            deadline: self.deadline(12),
        }))
    }

    /// A parallel step and a step that names the branches which run, some with a fallback that names others.
    fn routed(&mut self, depth: u32) -> Spec {
        let spec = self.parallel(depth);
        let mut router = self.router();
        if self.chance(40) {
            router.fallback = Some(Box::new(self.router().into_spec()));
        }
        match spec {
            Spec::Parallel(mut node) => {
                node.router = Some((router.into_spec(), Script::default()));
                Spec::Parallel(node)
            }
            spec => spec,
        }
    }

    fn router(&mut self) -> StepSpec {
        let mut router = self.step();
        // What names branches is given on as it is.
        router.output.clear();
        router.plugins.clear();
        let names = match self.random.below(10) {
            0 => vec!["nobody"],
            1 => Vec::new(),
            2..=4 => vec!["a", "c"],
            5..=6 => vec!["b", "a", "b"],
            _ => vec!["c"],
        };
        for act in &mut router.agent.acts {
            if !matches!(act.does, Does::Fail { .. }) {
                act.does = Does::Return(Object::from(names.clone()));
            }
        }
        router
    }

    fn guard(&mut self, depth: u32) -> Spec {
        let mut body = self.parts(depth, 2);
        if self.chance(50) {
            let mut fails = self.step();
            fails.agent = Script::from(self.failing());
            body.push(fails.into_spec());
        }
        // A handler belongs to one step or to a pipeline as a whole, and to each of them one.
        let is_one = body.len() == 1 && !matches!(body[0], Spec::Guard(_));
        let guard = Spec::Guard(Box::new(GuardSpec {
            body: Spec::Sequence(body),
            describe: Script::default(),
            handler: Spec::Sequence(self.parts(depth, 1)),
        }));
        if is_one {
            return guard;
        }
        Spec::Group(Box::new(GroupSpec {
            name: self.name("group"),
            body: guard,
            inherit: None,
            collect: None,
            deadline: None,
        }))
    }

    fn with_body(&mut self, depth: u32) -> Spec {
        let mut step = self.step();
        step.agent = Script::default();
        step.body = Some(Box::new(Spec::Sequence(self.parts(depth, 2))));
        if self.chance(30) {
            step.fallback = Some(Box::new(self.part(depth)));
        }
        step.into_spec()
    }

    fn human(&mut self, _depth: u32) -> Spec {
        let name = self.name("human");
        let mut question = self.aside(|_| Does::Natural);
        question.acts.truncate(1);
        let replies = (0..2).map(|_| Reply {
            after: AT_LAST,
            answer: Some(Object::Int(self.number(1, 9))),
        });
        let replies: Vec<Reply> = replies.collect();
        if let Some(act) = question.acts.first_mut() {
            act.replies = replies;
        }
        let accept = self.chance(50).then(|| {
            let mut accept = self.aside(|draw| {
                if draw.chance(50) {
                    draw.failing()
                } else {
                    Does::Add(draw.number(1, 9))
                }
            });
            accept.acts.push(Act::default());
            accept
        });
        Spec::Human(Box::new(HumanSpec {
            name,
            question,
            accept,
            default: None,
            deadline: self.deadline(8),
        }))
    }
}
