//! Which optimised parts a pipeline or step uses, and its thresholds.

use flujo_core::config::{OptimizationConfig, Part, Twin};

use crate::node::Node;
use crate::problem::Reporter;
use crate::rule::Rule;

/// What `optimization` says in a map; `None` when it says nothing, or nothing that can be used.
pub(super) fn optimization(node: &Node, reporter: &mut Reporter) -> Option<OptimizationConfig> {
    let node = node.get("optimization")?;
    let mut config = OptimizationConfig::default();
    for part in Part::ALL {
        if node.get(part.switch()).and_then(Node::as_bool) == Some(false) {
            config.set_twin(part, Twin::Plain);
        }
    }
    let number = |key: &str| node.get(key).and_then(Node::as_float);
    let size = |key: &str| {
        let size = node.get(key).and_then(Node::as_int);
        size.and_then(|size| usize::try_from(size).ok())
    };
    let numbers = [
        ("execution_time_threshold", &mut config.execution_time_threshold),
        ("memory_usage_threshold", &mut config.memory_usage_threshold),
        ("cache_hit_rate_threshold", &mut config.cache_hit_rate_threshold),
    ];
    for (key, place) in numbers {
        *place = number(key).unwrap_or(*place);
    }
    for (key, place) in [
        ("max_pool_size", &mut config.max_pool_size),
        ("cache_max_size", &mut config.cache_max_size),
    ] {
        *place = size(key).unwrap_or(*place);
    }
    config.cache_ttl_seconds = number("cache_ttl_seconds").or(config.cache_ttl_seconds);
    if let Err(error) = config.validate() {
        let position = node
            .get(error.field)
            .map_or(node.position, |field| field.position);
        reporter.report(Rule::BadValue, position, error.to_string());
        return None;
    }
    Some(config)
}
