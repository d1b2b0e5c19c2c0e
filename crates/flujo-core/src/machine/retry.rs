//! How long to wait before the next attempt.

use std::time::Duration;

use super::cursor::nanoseconds;
use super::{LanePlace, RetryAdvice, Time};
use crate::plan::{Backoff, NodeId, Policy};

/// The longest wait an error's `retry_after` is granted when the policy names no longest wait of its own.
const LONGEST_ADVISED_WAIT: Duration = Duration::from_secs(30);

/// The wait in nanoseconds before the attempt that follows `attempt` (from 1). Jitter depends on run, place and attempt
/// only, so that a resumed or simulated run waits as long.
pub(super) fn wait(
    policy: &Policy,
    advice: RetryAdvice,
    attempt: u32,
    seed: u64,
    lane: Option<&LanePlace>,
    node: NodeId,
) -> Time {
    let own = match policy.backoff {
        Backoff::None => Duration::ZERO,
        Backoff::Fixed(wait) => wait,
        Backoff::Exponential {
            initial,
            factor,
            max,
            jitter,
        } => {
            let grown = initial.as_secs_f64() * factor.powf(f64::from(attempt.saturating_sub(1)));
            let capped = grown.min(max.as_secs_f64());
            let share = jitter * (2.0 * unit(seed, lane, node, attempt) - 1.0);
            Duration::try_from_secs_f64((capped * (1.0 + share)).max(0.0))
                .unwrap_or(max)
                .min(max)
        }
    };
    let advised = match advice {
        RetryAdvice::After(wait) => wait.min(nanoseconds(
            policy.backoff.longest().unwrap_or(LONGEST_ADVISED_WAIT),
        )),
        RetryAdvice::Allowed | RetryAdvice::Never => 0,
    };
    nanoseconds(own).max(advised)
}

/// A number from 0 to 1, the same for the same run, place and attempt (`SplitMix64`, Steele et al. 2014).
#[allow(clippy::cast_precision_loss)] // 53 bits are kept
fn unit(seed: u64, mut lane: Option<&LanePlace>, node: NodeId, attempt: u32) -> f64 {
    let mut state = mix(seed ^ u64::from(node.0));
    while let Some(place) = lane {
        state = mix(state ^ (u64::from(place.node.0) << 32 | u64::from(place.index)));
        lane = place.parent.as_deref();
    }
    (mix(state ^ u64::from(attempt)) >> 11) as f64 / (1u64 << 53) as f64
}

fn mix(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{RetryAdvice, wait};
    use crate::plan::{Backoff, NodeId, Policy};

    fn policy(backoff: Backoff) -> Policy {
        Policy {
            backoff,
            ..Policy::default()
        }
    }

    #[test]
    fn an_exponential_wait_doubles_up_to_its_longest() {
        let backoff = Backoff::Exponential {
            initial: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(3),
            jitter: 0.0,
        };
        let waits: Vec<u64> = (1..=4)
            .map(|attempt| {
                wait(
                    &policy(backoff),
                    RetryAdvice::Allowed,
                    attempt,
                    7,
                    None,
                    NodeId(1),
                ) / 1_000_000_000
            })
            .collect();
        assert_eq!(waits, [1, 2, 3, 3]);
    }

    #[test]
    fn jitter_is_the_same_for_the_same_run_and_differs_between_runs() {
        let policy = policy(Backoff::exponential(Duration::from_secs(1)));
        let of = |seed| wait(&policy, RetryAdvice::Allowed, 1, seed, None, NodeId(1));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn an_advised_wait_is_granted_up_to_the_longest() {
        let minute = RetryAdvice::After(60_000_000_000);
        let fixed = policy(Backoff::Fixed(Duration::from_secs(2)));
        assert_eq!(wait(&fixed, minute, 1, 0, None, NodeId(0)), 2_000_000_000);
        assert_eq!(
            wait(&policy(Backoff::None), minute, 1, 0, None, NodeId(0)),
            30_000_000_000
        );
    }
}
