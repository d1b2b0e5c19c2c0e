//! A digest that stays the same as long as a saved run can go on with a plan.

use std::fmt;
use std::fmt::Write;

use super::{Kind, Node, NodeId, Work};

/// A digest of a plan's structure, names and configuration, never of code: 64-bit FNV-1a over a canonical text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(u64);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Fingerprint {
    pub(crate) fn of<C>(nodes: &[Node<C>], root: NodeId) -> Self {
        let mut digest = Digest(0xcbf2_9ce4_8422_2325);
        for node in nodes {
            // Writing to a digest cannot fail.
            let _ = write!(digest, "{:?} {:?} ", node.name, node.deadline);
            let _ = match &node.kind {
                Kind::Sequence(children) => write!(digest, "sequence {children:?}"),
                Kind::Step(step) => write!(
                    digest,
                    "step {:?} {} {} {} {} {:?} {} {} {:?} {:?} {:?} {:?}",
                    match step.work {
                        Work::Call(_) => None,
                        Work::Body(body) => Some(body),
                    },
                    step.prompt_processors.len(),
                    step.output_processors.len(),
                    step.plugins.len(),
                    step.validators.len(),
                    step.on_rejection,
                    step.apply.is_some(),
                    step.persist.is_some(),
                    step.policy,
                    step.fallback,
                    step.estimate,
                    step.limits
                ),
                Kind::Conditional(node) => write!(
                    digest,
                    "conditional {:?} {:?} {} {}",
                    node.branches,
                    node.default,
                    node.input_mapper.is_some(),
                    node.output_mapper.is_some()
                ),
                Kind::Parallel(node) => write!(
                    digest,
                    "parallel {:?} {:?} {:?} {:?} {}",
                    node.branches,
                    node.router.as_ref().map(|router| router.body),
                    node.on_failure,
                    node.max_concurrency,
                    node.merge.is_some()
                ),
                Kind::Map(node) => write!(
                    digest,
                    "map {:?} {} {:?} {}",
                    node.body,
                    node.max_concurrency,
                    node.on_failure,
                    node.merge.is_some()
                ),
                Kind::Group(node) => write!(digest, "group {:?} {}", node.body, node.inherit.is_some()),
                Kind::Loop(node) => write!(
                    digest,
                    "loop {:?} {:?} {} {} {} {} {:?}",
                    node.body,
                    node.judge,
                    node.first_input.is_some(),
                    node.next_input.is_some(),
                    node.output.is_some(),
                    node.max_loops,
                    node.on_failure
                ),
                Kind::States(node) => write!(digest, "states {:?} {}", node.states, node.start),
                Kind::Human(node) => write!(
                    digest,
                    "human {} {:?} {}",
                    node.accept.is_some(),
                    node.timeout,
                    node.default.is_some()
                ),
                Kind::Guard(node) => write!(digest, "guard {:?} {:?}", node.body, node.handler),
            };
            let _ = digest.write_char('\n');
        }
        let _ = write!(digest, "{root:?}");
        Self(digest.0)
    }
}

struct Digest(u64);

impl Write for Digest {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}
