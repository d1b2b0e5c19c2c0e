//! Rate limits of runners, steps, and agents that plugins ask for. They are drawn apart from the rest of a case.

use flujo_core::rate::RateLimit;

use crate::Case;
use crate::case::Spec;
use crate::random::Random;
use crate::script::{Act, Does};

/// Cases in a hundred that have limits.
const LIMITED: usize = 40;

/// Gives a case limits, or none.
pub(super) fn draw(case: &mut Case, random: &mut Random) {
    let mut chance = |in_100: usize| random.below(100) < in_100;
    if !chance(LIMITED) {
        return;
    }
    let (for_all, redirected) = (chance(40), chance(80));
    let limits = [limit("slow", random), limit("busy", random)];
    if for_all {
        case.rates.push(limits[0].clone());
    }
    if redirected {
        let agents = (1..).zip(&limits);
        case.agent_rates = agents.map(|(agent, limit)| (agent, limit.clone())).collect();
    }
    case.pipeline.visit_mut(&mut |spec| {
        let Spec::Step(step) = spec else { return };
        if step.body.is_some() {
            return;
        }
        if random.below(100) < 60 {
            step.rates.push(limits[random.below(limits.len())].clone());
        }
        if let Some(plugin) = step.plugins.first_mut().filter(|_| redirected) {
            // Once, or the agents would ask for one another for ever.
            let agent = if random.below(2) == 0 { 1 } else { 2 };
            let asks = Act {
                does: Does::Redirect(agent),
                ..Act::default()
            };
            plugin.acts = vec![asks, Act::default()];
        }
    });
}

#[allow(clippy::cast_precision_loss)] // small numbers
fn limit(name: &str, random: &mut Random) -> RateLimit {
    let limit = RateLimit::new(name);
    match random.below(6) {
        0..=1 => limit.max_concurrent(1),
        2..=3 => limit.requests_per_minute((1 + random.below(3)) as f64),
        4 => limit.tokens_per_minute((1 + random.below(12)) as f64),
        _ => limit
            .requests_per_minute((1 + random.below(4)) as f64)
            .max_concurrent(2),
    }
}
