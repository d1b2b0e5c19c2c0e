//! The grammar of blueprints as one table: which keys there are, what they hold, and what they are for.
//!
//! The checker, the JSON schema and the reference in `docs/yaml.md` all read this table, so they can't disagree.

mod settings;
mod steps;

pub(crate) use steps::STEP_KINDS;

use settings::{OPTIMIZATION, RATE_LIMIT, USAGE_LIMITS};

/// Kinds of steps that belong to the format, but that this version can't run yet.
pub(crate) const LATER_KINDS: &[&str] = &["tree_search"];

/// The name of a kind, for one of its other spellings.
pub(crate) fn canonical(kind: &str) -> &str {
    match kind {
        "StateMachine" => "state_machine",
        "human_in_the_loop" => "hitl",
        other => other,
    }
}

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
    pub(crate) own: &'static [Key],
    /// Keys that it shares with other sections.
    pub(crate) shared: &'static [&'static [Key]],
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
    shared: &[],
    own: &[
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
            "Other blueprints by name: paths from this file's folder. As a step such a blueprint keeps its `on_failure` and `static_invariants`; its `usage_limits` are for runs of its own.",
        ),
        optional(
            "usage_limits",
            Shape::Section(&USAGE_LIMITS),
            "The most that a whole run may use.",
        ),
        optional(
            "rate_limits",
            Shape::List(&Shape::Section(&RATE_LIMIT)),
            "How often agents may be called, for every step of the pipeline.",
        ),
        optional(
            "on_failure",
            Shape::Either(&[Shape::Name, Shape::Step]),
            "A step, or the name of one in this file, that runs when the pipeline has failed; its input tells of the failure: `step`, `path`, `attempts`, `error`, `error_type`, `input`. How it ends is how the run ends.",
        ),
        optional(
            "optimization",
            Shape::Section(&OPTIMIZATION),
            "Which optimised parts the pipeline uses and the thresholds its steps are watched by; a step's own says more.",
        ),
        optional(
            "static_invariants",
            Shape::List(&Shape::Expression),
            "Expressions that must hold after every step at the top level. One that doesn't fails the step, and what the step wrote is dropped.",
        ),
    ],
};

impl Section {
    /// All keys, its own first.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'static Key> + Clone {
        self.own.iter().chain(self.shared.iter().copied().flatten())
    }

    /// The key with this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys().find(|key| key.name == name)
    }

    /// The names of the keys that can be used.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> + Clone {
        self.keys()
            .filter(|key| key.need != Need::Later)
            .map(|key| key.name)
    }
}
