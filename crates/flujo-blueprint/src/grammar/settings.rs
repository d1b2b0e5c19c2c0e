//! Sections of settings that steps of several kinds have.

use super::{Key, Section, Shape, optional, required};

pub(super) static CONFIG: Section = Section {
    title: "`config`",
    about: "How often, how long and how patiently a step is tried.",
    shared: &[],
    own: &[
        optional(
            "max_retries",
            Shape::Count(0),
            "Retries after the first attempt; 1 without it.",
        ),
        optional(
            "timeout_s",
            Shape::Seconds,
            "The longest time of one attempt, in seconds.",
        ),
        optional(
            "deadline_s",
            Shape::Seconds,
            "The longest time of the step with its retries, waits and fallback, in seconds.",
        ),
        optional(
            "backoff",
            Shape::Section(&BACKOFF),
            "How long to wait between attempts; not at all without it.",
        ),
        optional(
            "rate_limit",
            Shape::Section(&RATE_LIMIT),
            "How often the step's agent may be called.",
        ),
        optional(
            "optimization",
            Shape::Section(&OPTIMIZATION),
            "Which optimised parts the step uses and the thresholds it is watched by; the pipeline's or the runner's without it.",
        ),
    ],
};

/// Of a step that holds other steps: it is tried once, unless it says otherwise.
pub(super) static CONFIG_OF_CONSTRUCT: Section = Section {
    title: "`config` of a step that holds other steps",
    about: "How often, how long and how patiently the whole of it is tried.",
    shared: &[],
    own: &[
        optional(
            "max_retries",
            Shape::Count(0),
            "Retries of the whole after the first attempt; none without it. What a failed attempt wrote into the context is dropped.",
        ),
        optional(
            "timeout_s",
            Shape::Seconds,
            "The longest time of one attempt, in seconds.",
        ),
        optional(
            "deadline_s",
            Shape::Seconds,
            "The longest time of the whole step, in seconds.",
        ),
        optional(
            "backoff",
            Shape::Section(&BACKOFF),
            "How long to wait between attempts; not at all without it.",
        ),
        optional(
            "optimization",
            Shape::Section(&OPTIMIZATION),
            "Which optimised parts the step and those in it use, and the thresholds they are watched by; the pipeline's or the runner's without it.",
        ),
    ],
};

pub(super) static OPTIMIZATION: Section = Section {
    title: "`optimization`",
    about: "Which optimised parts are used, and the thresholds and sizes they work with. Results are the same.",
    shared: &[],
    own: &[
        optional(
            "enable_object_pooling",
            Shape::Flag,
            "Whether the engine reuses its own allocations.",
        ),
        optional(
            "enable_context_optimization",
            Shape::Flag,
            "Whether contexts are isolated without copying.",
        ),
        optional(
            "enable_step_analysis",
            Shape::Flag,
            "Whether the analysis of steps is kept between runs.",
        ),
        optional(
            "enable_telemetry_optimization",
            Shape::Flag,
            "Whether spans and counters are collected in batches.",
        ),
        optional(
            "enable_performance_monitoring",
            Shape::Flag,
            "Whether thresholds are watched in constant time and memory.",
        ),
        optional(
            "enable_cache_optimization",
            Shape::Flag,
            "Whether the cache resists scans and loops.",
        ),
        optional(
            "enable_usage_optimization",
            Shape::Flag,
            "Whether usage is metered without a lock.",
        ),
        optional(
            "execution_time_threshold",
            Shape::Number(0.0),
            "A step that takes longer raises an alert; in seconds, 1 without it.",
        ),
        optional(
            "memory_usage_threshold",
            Shape::Number(0.0),
            "Growth of resident memory beyond this raises an alert; in megabytes, 100 without it.",
        ),
        optional(
            "cache_hit_rate_threshold",
            Shape::Number(0.0),
            "A share of hits below this raises an alert; from 0 to 1, 0.8 without it.",
        ),
        optional(
            "max_pool_size",
            Shape::Count(0),
            "How many objects of a kind are kept; 100 without it.",
        ),
        optional(
            "cache_max_size",
            Shape::Count(0),
            "How many results the cache keeps; 1024 without it.",
        ),
        optional(
            "cache_ttl_seconds",
            Shape::Number(0.0),
            "How long a cached result is valid, in seconds; 0 is for ever, 3600 without it.",
        ),
    ],
};

static BACKOFF: Section = Section {
    title: "`backoff`",
    about: "How long to wait between attempts.",
    shared: &[],
    own: &[
        optional(
            "kind",
            Shape::Choice(&["none", "fixed", "exponential"]),
            "`exponential` without it.",
        ),
        optional(
            "initial_s",
            Shape::Seconds,
            "The wait before the second attempt in seconds; 0.1 without it.",
        ),
        optional(
            "factor",
            Shape::Number(1.0),
            "From one wait to the next; 2 without it.",
        ),
        optional(
            "max_s",
            Shape::Seconds,
            "The longest wait in seconds; 30 without it.",
        ),
        optional(
            "jitter",
            Shape::Number(0.0),
            "The share of the wait, from 0 to 1, that chance adds or takes; 0.1 without it.",
        ),
    ],
};

pub(super) static VALIDATOR: Section = Section {
    title: "a validator",
    about: "Accepts or rejects an output. One of `expression`, `regex` and `json_schema`.",
    shared: &[],
    own: &[
        optional(
            "expression",
            Shape::Expression,
            "True for a good output. The name `output` is the output.",
        ),
        optional(
            "regex",
            Shape::Text,
            "Matches somewhere in the text of a good output.",
        ),
        optional(
            "json_schema",
            Shape::Named(&Shape::Data),
            "A JSON schema that a good output fits.",
        ),
        optional(
            "message",
            Shape::Template,
            "What is wrong with a rejected output. The name `output` is the output.",
        ),
    ],
};

/// What is said of results that are kept.
pub(super) const CACHE_KEYS: &[Key] = &[
    optional(
        "ttl_s",
        Shape::Number(0.0),
        "How long a result is good, in seconds; 0 is for ever. Without it as long as `cache_ttl_seconds` of the optimization config says: an hour.",
    ),
    optional(
        "scope",
        Shape::Either(&[Shape::Choice(&["auto", "input"]), Shape::List(&Shape::Text)]),
        "What a result depends on beside the step and its input: `auto` (default), the fields of the context that it was seen to read; `input`, nothing; or a list such as `[context.language]`.",
    ),
    optional(
        "version",
        Shape::Name,
        "Changes when the step gives other results than before.",
    ),
];

pub(super) static CACHE: Section = Section {
    title: "`cache`",
    about: "How results of a step are kept.",
    shared: &[CACHE_KEYS],
    own: &[],
};

pub(super) static RATE_LIMIT: Section = Section {
    title: "a rate limit",
    about: "How often agents may be called. Whatever has the same name shares it, in other pipelines of the process too.",
    shared: &[],
    own: &[
        required("name", Shape::Name, "Tells it from others."),
        optional(
            "requests_per_minute",
            Shape::Number(0.0),
            "Calls that may arrive in any minute; above 0.",
        ),
        optional(
            "tokens_per_minute",
            Shape::Number(0.0),
            "Tokens of the calls of any minute; above 0.",
        ),
        optional(
            "max_concurrent",
            Shape::Count(1),
            "Calls under way at the same time.",
        ),
        optional(
            "redis",
            Shape::Text,
            "The address of a Redis server that counts for all processes which name it, such as `redis://host:6379/0`.",
        ),
    ],
};

pub(super) static USAGE_LIMITS: Section = Section {
    title: "`usage_limits`",
    about: "The most that may be used. Exactly at the limit is allowed.",
    shared: &[],
    own: &[
        optional(
            "total_cost_usd_limit",
            Shape::Number(0.0),
            "Money, in US dollars.",
        ),
        optional(
            "total_tokens_limit",
            Shape::Count(0),
            "Tokens, prompt and completion together.",
        ),
        optional(
            "total_requests_limit",
            Shape::Count(0),
            "Requests to models and services.",
        ),
    ],
};
