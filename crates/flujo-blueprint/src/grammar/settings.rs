//! Sections of settings that steps of several kinds have.

use super::{Section, Shape, optional};

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
