//! The kinds of steps and their keys.

use super::settings::{CACHE, CACHE_KEYS, CONFIG, CONFIG_OF_CONSTRUCT, USAGE_LIMITS, VALIDATOR};
use super::{BODY, Key, Section, Shape, later, optional, required};

/// The kinds of steps by name.
pub(crate) static STEP_KINDS: &[(&str, &Section)] = &[
    ("step", &STEP),
    ("parallel", &PARALLEL),
    ("dynamic_router", &ROUTER),
    ("gather", &GATHER),
    ("conditional", &CONDITIONAL),
    ("map", &MAP),
    ("loop", &LOOP),
    ("refine_until", &REFINE),
    ("agentic_loop", &AGENTIC),
    ("state_machine", &STATES),
    ("hitl", &HITL),
    ("pipeline", &PIPELINE),
    ("cache", &CACHED),
];

/// What any kind of step is called.
static COMMON: &[Key] = &[
    optional(
        "kind",
        Shape::Name,
        "`step` (without this key), or one of the other kinds.",
    ),
    optional(
        "name",
        Shape::Name,
        "The step's name, unique in the file. Templates and results find it by this name.",
    ),
    optional("step", Shape::Name, "The same as `name`."),
    optional(
        "meta",
        Shape::Named(&Shape::Data),
        "Notes of your own; nothing reads them.",
    ),
];

/// What becomes of the output, and what happens when it doesn't come.
static LIFE: &[Key] = &[
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
        "cache",
        Shape::Either(&[Shape::Flag, Shape::Number(0.0), Shape::Section(&CACHE)]),
        "Keeps the step's results, and gives them to who asks the same again: `true`, or for how many seconds, or a map. Only results of attempts that succeeded are kept, and only when the step wrote nothing to the context itself; `sink_to` and `updates_context` are done with a result that was found too.",
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
    optional(
        "on_failure",
        Shape::Either(&[Shape::Name, Shape::Step]),
        "A step, or the name of one in this file, that runs when this one has failed, its retries and fallback included; its input tells of the failure: `step`, `path`, `attempts`, `error`, `error_type`, `input`. How it ends counts for this step.",
    ),
];

static CONSTRUCT: &[Key] = &[optional(
    "config",
    Shape::Section(&CONFIG_OF_CONSTRUCT),
    "Retries and time limits of the whole.",
)];

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

static STEP: Section = Section {
    title: "a step",
    about: "Runs one agent.",
    shared: &[LIFE, COMMON],
    own: &[
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
        later("plugins"),
        later("processing"),
        later("validate_fields"),
        later("context_include_keys"),
        later("field_mapping"),
    ],
};

/// What parallel steps and routers share.
static FAN_OUT: &[Key] = &[
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
    later("context_include_keys"),
    later("field_mapping"),
];

const BRANCHES: Key = required(
    "branches",
    Shape::Named(&BODY),
    "The branches by name: a step or a list of steps.",
);

static PARALLEL: Section = Section {
    title: "a step of kind `parallel`",
    about: "Runs branches at the same time on the same input, each with a context of its own.",
    shared: &[FAN_OUT, CONSTRUCT, LIFE, COMMON],
    own: &[BRANCHES],
};

static ROUTER: Section = Section {
    title: "a step of kind `dynamic_router`",
    about: "Runs the branches that a router chooses, at the same time on the same input, each with a context of its own.",
    shared: &[FAN_OUT, CONSTRUCT, LIFE, COMMON],
    own: &[
        required(
            "router",
            BODY,
            "Runs first, on the same input; its output names the branches: a list of names, one name, or null for none.",
        ),
        BRANCHES,
    ],
};

static GATHER: Section = Section {
    title: "a step of kind `gather`",
    about: "Takes entries out of the output before, a map, such as the outputs of a parallel step.",
    shared: &[LIFE, COMMON],
    own: &[
        required(
            "wait_for",
            Shape::List(&Shape::Name),
            "The names of the entries; one that isn't there is an error.",
        ),
        optional("config", Shape::Section(&CONFIG), "Retries and time limits."),
    ],
};

static CONDITIONAL: Section = Section {
    title: "a step of kind `conditional`",
    about: "Runs the branch that a condition names.",
    shared: &[CONSTRUCT, LIFE, COMMON],
    own: &[
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
        BRANCHES,
        optional(
            "default_branch",
            Shape::Either(&[Shape::Name, Shape::List(&Shape::Step), Shape::Step]),
            "Taken when no branch has the name: a branch's name, a step or a list of steps.",
        ),
    ],
};

static MAP: Section = Section {
    title: "a step of kind `map`",
    about: "Runs the same steps for each item of a list; the output is the list of their outputs, in order.",
    shared: &[CONSTRUCT, LIFE, COMMON],
    own: &[
        required(
            "map",
            Shape::Section(&MAP_SETTINGS),
            "What to run, and on which items.",
        ),
        MERGE,
    ],
};

static MAP_SETTINGS: Section = Section {
    title: "`map`",
    about: "What a map runs, and on which items.",
    shared: &[],
    own: &[
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

static LOOP: Section = Section {
    title: "a step of kind `loop`",
    about: "Runs the same steps again and again, each time on the output of the time before, until a condition holds.",
    shared: &[CONSTRUCT, LIFE, COMMON],
    own: &[required(
        "loop",
        Shape::Section(&LOOP_SETTINGS),
        "What to run, and until when.",
    )],
};

static LOOP_SETTINGS: Section = Section {
    title: "`loop`",
    about: "What a loop runs, and until when. In its templates `output` is the last output of the body, `iteration` the number of times it has run, and `loop_input` what the loop was given.",
    shared: &[],
    own: &[
        required("body", BODY, "The steps; they run at least once."),
        optional(
            "exit_expression",
            Shape::Expression,
            "Whether the loop has done, asked after each time.",
        ),
        optional(
            "exit_condition",
            Shape::Text,
            "`package.module:function` (only with Python).",
        ),
        optional(
            "max_loops",
            Shape::Count(1),
            "How many times at most; 5 without it. A loop that has not done by then fails.",
        ),
        optional(
            "first_input",
            Shape::Data,
            "What the body gets the first time: a template; the loop's input without it.",
        ),
        optional(
            "next_input",
            Shape::Data,
            "What the body gets the next time: a template; its last output without it.",
        ),
        optional(
            "output",
            Shape::Data,
            "The loop's output: a template; the body's last output without it.",
        ),
        optional(
            "on_body_failure",
            Shape::Choice(&["stop", "continue"]),
            "`stop` (default): the loop fails with its body; `continue` goes on with the last good output.",
        ),
        later("init"),
        later("propagation"),
    ],
};

static REFINE: Section = Section {
    title: "a step of kind `refine_until`",
    about: "Makes something, has it judged, and makes it again until the critic is content. The output is what was made last.",
    shared: &[CONSTRUCT, LIFE, COMMON],
    own: &[
        required(
            "generator",
            BODY,
            "Makes it; its input is a map of `original_input` and `feedback`, which is null at first.",
        ),
        required(
            "critic",
            BODY,
            "Judges what was made; its output is a map of `is_complete`, true or false, and perhaps `feedback`.",
        ),
        optional(
            "max_refinements",
            Shape::Count(1),
            "How many times at most; 5 without it. Without the critic's consent by then the step fails.",
        ),
    ],
};

static AGENTIC: Section = Section {
    title: "a step of kind `agentic_loop`",
    about: "A planner says what is to be done next, until it says that it has finished. The context's `command_log` holds the turns; the output is the final answer.",
    shared: &[CONSTRUCT, LIFE, COMMON],
    own: &[
        required(
            "planner",
            BODY,
            "Gets a map of `goal`, `last_command_result` and `command_log`; its output is a command, a map whose `type` is `run_agent` (with `agent_name` and `input_data`), `ask_human` (with `question`) or `finish` (with `final_answer`).",
        ),
        required(
            "registry",
            Shape::Named(&BODY),
            "The agents that the planner may run, by name: a step or a list of steps. What fails there is told to the planner, and what it wrote into the context is dropped. One that is an agentic loop itself has a `command_log` of its own.",
        ),
        optional(
            "max_loops",
            Shape::Count(1),
            "How many commands there are at most; 10 without it.",
        ),
    ],
};

static STATES: Section = Section {
    title: "a step of kind `state_machine`",
    about: "Runs the steps of one state after the other, as transitions say, until an end state.",
    shared: &[CONSTRUCT, LIFE, COMMON],
    own: &[
        required("start_state", Shape::Name, "The state it begins in."),
        required(
            "end_states",
            Shape::List(&Shape::Name),
            "The states it ends with. One without steps only ends it.",
        ),
        required(
            "states",
            Shape::Named(&BODY),
            "The states by name: a step or a list of steps.",
        ),
        optional(
            "transitions",
            Shape::List(&Shape::Section(&TRANSITION)),
            "Ways from state to state; the first that fits is taken. Where none does, the context's field `next_state` names the next state.",
        ),
    ],
};

static TRANSITION: Section = Section {
    title: "a transition",
    about: "A way from one state to another.",
    shared: &[],
    own: &[
        required("from", Shape::Name, "The state that has ended; `*` for any."),
        optional(
            "on",
            Shape::Choice(&["success", "failure"]),
            "After which end: `success` without it.",
        ),
        required("to", Shape::Name, "The state that follows."),
        optional(
            "when",
            Shape::Expression,
            "Taken only when this is true. `output` is the state's output.",
        ),
    ],
};

static HITL: Section = Section {
    title: "a step of kind `hitl`",
    about: "Asks a person and waits for the answer, which is the output. On a terminal `flujo run` asks there; elsewhere it waits while all open questions have a `timeout_s`, and else ends as paused.",
    shared: &[COMMON],
    own: &[
        optional(
            "message",
            Shape::Template,
            "The question; the output before without it.",
        ),
        optional(
            "input_schema",
            Shape::Named(&Shape::Data),
            "A JSON schema that an answer must fit.",
        ),
        optional(
            "sink_to",
            Shape::Text,
            "Writes the answer to this dotted path in the context.",
        ),
        optional(
            "timeout_s",
            Shape::Seconds,
            "How long the answer may take, in seconds from when it was first asked; for ever without it. An answer that comes later is not taken.",
        ),
        optional(
            "default",
            Shape::Data,
            "The answer when none came within `timeout_s`: a template. Without it the step fails then.",
        ),
        optional(
            "on_failure",
            Shape::Either(&[Shape::Name, Shape::Step]),
            "A step, or the name of one in this file, that runs when this one has failed.",
        ),
    ],
};

static PIPELINE: Section = Section {
    title: "a step of kind `pipeline`",
    about: "Runs steps in order as one step.",
    shared: &[CONSTRUCT, LIFE, COMMON],
    own: &[
        optional("steps", Shape::List(&Shape::Step), "The steps."),
        optional("uses", Shape::Text, "`imports.NAME`: another blueprint's steps."),
        optional(
            "context",
            Shape::Section(&OWN_CONTEXT),
            "Gives the steps a context of their own; without it they share the one around them.",
        ),
    ],
};

static CACHED: Section = Section {
    title: "a step of kind `cache`",
    about: "Keeps the results of the step in it.",
    shared: &[CACHE_KEYS, CONSTRUCT, LIFE, COMMON],
    own: &[required(
        "wrapped_step",
        Shape::Step,
        "The step. The same as `cache:` on it.",
    )],
};

static OWN_CONTEXT: Section = Section {
    title: "`context` of a pipeline",
    about: "The context of its own that a pipeline as a step has, and what passes between it and the one around it.",
    shared: &[],
    own: &[
        optional(
            "inherit",
            Shape::Flag,
            "`true`: it begins as a copy of the one around it; else empty.",
        ),
        optional(
            "input_to",
            Shape::Text,
            "Writes the step's input to this dotted path in it.",
        ),
        optional(
            "inputs",
            Shape::Named(&Shape::Text),
            "What it gets besides: from its dotted paths to those in the context around it.",
        ),
        optional(
            "outputs",
            Shape::Named(&Shape::Text),
            "What comes back when it succeeds: from dotted paths around it to those in it. Without this every field comes back; `{}` for none.",
        ),
    ],
};
