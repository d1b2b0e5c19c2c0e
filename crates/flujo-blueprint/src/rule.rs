//! The rules that a blueprint and its surroundings have to keep, each with a stable id and a page of explanation.

use std::fmt;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $id:literal,)*) => {
        /// A rule. Its id never changes meaning; `docs/errors/<id>.md` explains it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[$doc])* $name,)*
        }

        impl Rule {
            /// Every rule, in the order of the ids.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The id: `FLU-` and four digits.
            pub fn id(self) -> &'static str {
                match self { $(Self::$name => $id,)* }
            }

            /// The page that explains the rule, in Markdown.
            pub fn explanation(self) -> &'static str {
                match self { $(Self::$name => include_str!(concat!("../../../docs/errors/", $id, ".md")),)* }
            }
        }
    };
}

rules! {
    /// The file can't be read.
    FileUnreadable = "FLU-0001",
    /// The file isn't UTF-8 text.
    NotUtf8 = "FLU-0002",
    /// The file isn't YAML.
    NotYaml = "FLU-0003",
    /// The file is nested too deeply.
    TooDeep = "FLU-0004",
    /// The file is larger than a blueprint may be, or grows too much by its aliases.
    TooLarge = "FLU-0005",
    /// A key that doesn't exist here.
    UnknownKey = "FLU-0101",
    /// A key that has to be there.
    MissingKey = "FLU-0102",
    /// A value of the wrong type.
    WrongType = "FLU-0103",
    /// A value outside of what is allowed.
    BadValue = "FLU-0104",
    /// A key that is there twice.
    DuplicateKey = "FLU-0105",
    /// Keys that can't be used together.
    KeyConflict = "FLU-0106",
    /// A format version that this program doesn't read.
    UnknownVersion = "FLU-0107",
    /// Part of the format, but not of this version.
    NotYetSupported = "FLU-0108",
    /// Two steps of one name.
    DuplicateStep = "FLU-0201",
    /// An agent that isn't defined.
    UnknownAgent = "FLU-0202",
    /// A step that does nothing.
    StepWithoutAgent = "FLU-0203",
    /// An agent with settings that can't be used.
    AgentSettings = "FLU-0204",
    /// Fallbacks that lead back to where they began.
    CyclicFallback = "FLU-0205",
    /// A step that isn't defined.
    UnknownStep = "FLU-0206",
    /// A branch that isn't defined.
    UnknownBranch = "FLU-0207",
    /// Imports that lead back to where they began.
    CyclicImport = "FLU-0208",
    /// An import that isn't defined.
    UnknownImport = "FLU-0209",
    /// Something that only Python can run.
    NeedsPython = "FLU-0210",
    /// A function of Python that can't be imported.
    NotImported = "FLU-0211",
    /// A template or expression with a syntax error.
    BadTemplate = "FLU-0301",
    /// A template that uses a name that can't be there.
    UnknownName = "FLU-0302",
    /// A regular expression or JSON schema that can't be used.
    BadPattern = "FLU-0303",
    /// An expression in a form that older versions knew.
    OldExpression = "FLU-0304",
    /// Something that the user has to allow first.
    NotAllowed = "FLU-0401",
    /// A setting in `flujo.toml`, the environment or an option that can't be used.
    BadSetting = "FLU-0501",
    /// An input or context field given on the command line that can't be used.
    BadInput = "FLU-0502",
    /// A result that can't be written.
    OutputUnwritable = "FLU-0503",
    /// A step failed, and with it the run.
    RunFailed = "FLU-0601",
    /// A usage limit was reached.
    LimitReached = "FLU-0602",
    /// The run was cancelled.
    Interrupted = "FLU-0603",
    /// The run waits for answers.
    Paused = "FLU-0604",
    /// A claim could not be measured.
    NotMeasured = "FLU-0605",
    /// The store of runs can't be used.
    StoreFailed = "FLU-0701",
    /// A run that isn't in the store.
    UnknownRun = "FLU-0702",
    /// The run is under way elsewhere.
    RunElsewhere = "FLU-0703",
    /// The run began with another pipeline.
    PipelineChanged = "FLU-0704",
    /// What is stored of the run can't be read.
    RunDamaged = "FLU-0705",
    /// The run doesn't stand as it would have to.
    WrongStatus = "FLU-0706",
}

impl Rule {
    /// The rule with this id, whatever the case of its letters.
    pub fn find(id: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|rule| rule.id().eq_ignore_ascii_case(id))
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}
