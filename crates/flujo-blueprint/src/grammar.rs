//! The grammar of blueprints as one table: which keys there are, what they hold, and what they are for.
//!
//! The checker, the JSON schema and the reference in `docs/yaml.md` all read this table, so they can't disagree.

/// What a value has to look like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Text that isn't empty.
    Text,
    /// A name: text; numbers and truth values are taken as they are written.
    Name,
    /// Text with placeholders.
    Template,
    /// An expression, with or without the braces around it.
    Expression,
    /// `true` or `false`.
    Flag,
    /// A whole number, at least this.
    Count(i64),
    /// A number, at least this.
    Number(f64),
    /// A number of seconds above 0.
    Seconds,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Anything.
    Data,
    /// A map with these keys.
    Section(&'static Section),
    /// A map from names to values of this shape.
    Named(&'static Shape),
    /// A list of values of this shape.
    List(&'static Shape),
    /// Any of these.
    Either(&'static [Shape]),
    /// The settings of a shipped agent.
    Agent,
    /// A step of any kind.
    Step,
}

/// Steps in order, or one step alone.
const BODY: Shape = Shape::Either(&[Shape::List(&Shape::Step), Shape::Step]);

/// A map with known keys.
#[derive(Debug)]
pub(crate) struct Section {
    /// What the map is, for messages: "a step of kind `map`".
    pub(crate) title: &'static str,
    /// What it is for.
    pub(crate) about: &'static str,
    pub(crate) keys: &'static [Key],
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) need: Need,
    pub(crate) about: &'static str,
}

/// Whether a key has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Required,
    Optional,
    /// It belongs to the format, but this version can't do it yet.
    Later,
}

const fn required(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key {
        name,
        shape,
        need: Need::Required,
        about,
    }
}

const fn optional(name: &'static str, shape: Shape, about: &'static str) -> Key {
    Key {
        name,
        shape,
        need: Need::Optional,
        about,
    }
}

const fn later(name: &'static str) -> Key {
    Key {
        name,
        shape: Shape::Data,
        need: Need::Later,
        about: "not yet supported",
    }
}

/// Format versions that are read.
pub(crate) const VERSIONS: &[&str] = &["0.1"];

/// The whole file.
pub(crate) static BLUEPRINT: Section = Section {
    title: "the blueprint",
    about: "The whole file.",
    keys: &[
        optional("version", Shape::Name, "The version of the format: `0.1`."),
        optional(
            "name",
            Shape::Text,
            "The pipeline's name; the file's name without it.",
        ),
        required(
            "steps",
            Shape::List(&Shape::Step),
            "The steps, in order. Each gets the output of the one before.",
        ),
        optional(
            "agents",
            Shape::Named(&Shape::Agent),
            "Agents by name, for steps to use.",
        ),
        optional(
            "imports",
            Shape::Named(&Shape::Text),
            "Other blueprints by name: paths from this file's folder.",
        ),
        optional(
            "usage_limits",
            Shape::Section(&USAGE_LIMITS),
            "The most that a whole run may use.",
        ),
        later("static_invariants"),
    ],
};

/// The kinds of steps and their keys.
pub(crate) static STEP_KINDS: &[(&str, &Section)] = &[
    ("step", &STEP),
    ("parallel", &PARALLEL),
    ("conditional", &CONDITIONAL),
    ("map", &MAP),
    ("pipeline", &PIPELINE),
];

/// Kinds of steps that belong to the format, but that this version can't run yet.
pub(crate) const LATER_KINDS: &[&str] = &[
    "loop",
    "dynamic_router",
    "hitl",
    "cache",
    "agentic_loop",
    "tree_search",
    "StateMachine",
];

const KIND: Key = optional(
    "kind",
    Shape::Name,
    "`step` (without this key), `parallel`, `conditional`, `map` or `pipeline`.",
);
const NAME: Key = optional(
    "name",
    Shape::Name,
    "The step's name, unique in the file. Templates and results find it by this name.",
);
const NAME_AS_STEP: Key = optional("step", Shape::Name, "The same as `name`.");
const META: Key = optional(
    "meta",
    Shape::Named(&Shape::Data),
    "Notes of your own; nothing reads them.",
);
const MERGE: Key = optional(
    "merge_strategy",
    Shape::Choice(&[
        "context_update",
        "overwrite",
        "keep_first",
        "error_on_conflict",
        "no_merge",
    ]),
    "How the contexts of branches come together: `context_update` (default; different values for one path are an error), `overwrite` (the last declared wins), `keep_first`, `error_on_conflict`, `no_merge`.",
);
const MAX_CONCURRENCY: Key = optional(
    "max_concurrency",
    Shape::Count(1),
    "How many run at the same time, at most. A map takes 1 without it, a parallel step all.",
);
const TIMES: Key = optional("config", Shape::Section(&TIMES_OF_CONSTRUCT), "Time limits.");

static STEP: Section = Section {
    title: "a step",
    about: "Runs one agent.",
    keys: &[
        KIND,
        NAME,
        NAME_AS_STEP,
        optional(
            "agent",
            Shape::Either(&[Shape::Name, Shape::Agent]),
            "The name of an agent under `agents`, or an agent's settings.",
        ),
        optional(
            "uses",
            Shape::Text,
            "`agents.NAME`, `imports.NAME`, or `package.module:function` (only with Python).",
        ),
        optional(
            "input",
            Shape::Data,
            "What the agent gets instead of the output before: a template. A single `{{ … }}` passes the value itself, and in lists and maps every text is a template. `attempt` is the attempt, from 1.",
        ),
        optional("config", Shape::Section(&CONFIG), "Retries and time limits."),
        optional(
            "updates_context",
            Shape::Flag,
            "Merges the output, a map, into the context.",
        ),
        optional(
            "sink_to",
            Shape::Text,
            "Writes the output to this dotted path in the context.",
        ),
        optional(
            "validators",
            Shape::List(&Shape::Section(&VALIDATOR)),
            "Accept or reject the output; a rejected attempt is tried again.",
        ),
        optional(
            "fallback",
            Shape::Either(&[Shape::Name, Shape::Step]),
            "A step, or the name of one in this file, that runs with the same input when every attempt has failed.",
        ),
        optional(
            "usage_limits",
            Shape::Section(&USAGE_LIMITS),
            "The most that all attempts at the step may use together; passing it stops the run.",
        ),
        META,
        later("plugins"),
        later("processing"),
        later("validate_fields"),
        later("context_include_keys"),
        later("field_mapping"),
    ],
};

static PARALLEL: Section = Section {
    title: "a step of kind `parallel`",
    about: "Runs branches at the same time on the same input, each with a context of its own.",
    keys: &[
        KIND,
        NAME,
        NAME_AS_STEP,
        required(
            "branches",
            Shape::Named(&BODY),
            "The branches by name: a step or a list of steps.",
        ),
        optional(
            "reduce",
            Shape::Choice(&["keys", "values", "union", "concat", "first", "last"]),
            "What becomes of the outputs: without it a map by branch; `keys` the names, `values` a list, `union` one map, `concat` one list, `first` or `last` the output of that branch.",
        ),
        MERGE,
        optional(
            "on_branch_failure",
            Shape::Choice(&["propagate", "ignore"]),
            "`propagate` (default) cancels the others and fails; `ignore` succeeds when at least one branch does.",
        ),
        MAX_CONCURRENCY,
        TIMES,
        META,
        later("context_include_keys"),
        later("field_mapping"),
    ],
};

static CONDITIONAL: Section = Section {
    title: "a step of kind `conditional`",
    about: "Runs the branch that a condition names.",
    keys: &[
        KIND,
        NAME,
        NAME_AS_STEP,
        optional(
            "condition_expression",
            Shape::Expression,
            "Gives the name of the branch; truth values are `true` and `false`.",
        ),
        optional(
            "condition",
            Shape::Text,
            "`package.module:function` (only with Python).",
        ),
        required(
            "branches",
            Shape::Named(&BODY),
            "The branches by name: a step or a list of steps.",
        ),
        optional(
            "default_branch",
            Shape::Either(&[Shape::Name, Shape::List(&Shape::Step), Shape::Step]),
            "Taken when no branch has the name: a branch's name, a step or a list of steps.",
        ),
        TIMES,
        META,
    ],
};

static MAP: Section = Section {
    title: "a step of kind `map`",
    about: "Runs the same steps for each item of a list; the output is the list of their outputs, in order.",
    keys: &[
        KIND,
        NAME,
        NAME_AS_STEP,
        required(
            "map",
            Shape::Section(&MAP_SETTINGS),
            "What to run, and on which items.",
        ),
        MERGE,
        TIMES,
        META,
    ],
};

static MAP_SETTINGS: Section = Section {
    title: "`map`",
    about: "What a map runs, and on which items.",
    keys: &[
        optional(
            "iterable_input",
            Shape::Expression,
            "Gives the list; without it the step's input. A single word is a field of the context.",
        ),
        required("body", BODY, "The steps for each item; the item is their input."),
        MAX_CONCURRENCY,
        optional(
            "on_item_failure",
            Shape::Choice(&["fail", "skip", "none"]),
            "`fail` (default): the step fails with a record of each item; `skip` leaves the item out; `none` puts null in its place.",
        ),
        later("init"),
        later("finalize"),
    ],
};

static PIPELINE: Section = Section {
    title: "a step of kind `pipeline`",
    about: "Runs steps in order as one step.",
    keys: &[
        KIND,
        NAME,
        NAME_AS_STEP,
        optional("steps", Shape::List(&Shape::Step), "The steps."),
        optional("uses", Shape::Text, "`imports.NAME`: another blueprint's steps."),
        TIMES,
        META,
    ],
};

static CONFIG: Section = Section {
    title: "`config`",
    about: "How often, how long and how patiently a step is tried.",
    keys: &[
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

static TIMES_OF_CONSTRUCT: Section = Section {
    title: "`config`",
    about: "Time limits of a step that holds other steps.",
    keys: &[optional(
        "deadline_s",
        Shape::Seconds,
        "The longest time of the whole step, in seconds.",
    )],
};

static BACKOFF: Section = Section {
    title: "`backoff`",
    about: "How long to wait between attempts.",
    keys: &[
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

static VALIDATOR: Section = Section {
    title: "a validator",
    about: "Accepts or rejects an output. One of `expression`, `regex` and `json_schema`.",
    keys: &[
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

static USAGE_LIMITS: Section = Section {
    title: "`usage_limits`",
    about: "The most that may be used. Exactly at the limit is allowed.",
    keys: &[
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

impl Section {
    /// The key with this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// The names of the keys that can be used.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys
            .iter()
            .filter(|key| key.need != Need::Later)
            .map(|key| key.name)
    }
}
