//! Which constructs the cases for a host may hold.

use std::fmt;
use std::str::FromStr;

/// Constructs that a host may lack, each to be switched on; steps, fallbacks, conditionals, parallel steps, maps and
/// groups are in every case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // each stands for itself
pub struct Constructs {
    /// Loops.
    pub loops: bool,
    /// A judge in some of them.
    pub judges: bool,
    /// State machines.
    pub states: bool,
    /// Parallel steps with a router.
    pub routers: bool,
    /// Parts with a handler for their failure.
    pub guards: bool,
    /// Steps whose work is a part of the pipeline.
    pub bodies: bool,
    /// Questions outside of lanes, whose answers come when the run stands still. (Questions in lanes are the stories'.)
    pub humans: bool,
}

impl Constructs {
    /// None of them.
    pub const NONE: Self = Self {
        loops: false,
        judges: false,
        states: false,
        routers: false,
        guards: false,
        bodies: false,
        humans: false,
    };

    /// All of them.
    pub const ALL: Self = Self {
        loops: true,
        judges: true,
        states: true,
        routers: true,
        guards: true,
        bodies: true,
        humans: true,
    };

    /// What the constructs that are switched on are called in a view. A guard leaves no record of its own.
    pub fn in_views(self) -> Vec<&'static str> {
        let all = [
            (self.loops, "loop"),
            (self.states, "states"),
            (self.routers, "router"),
            (self.bodies, "body"),
            (self.humans, "human"),
        ];
        all.into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, name)| name)
            .collect()
    }
}

/// A name that is no construct's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownConstruct(String);

impl fmt::Display for UnknownConstruct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no construct to be switched on: those are loops, judges, states, routers, guards, bodies, humans",
            self.0
        )
    }
}

impl std::error::Error for UnknownConstruct {}

impl FromStr for Constructs {
    type Err = UnknownConstruct;

    /// From names with commas between them: `loops,guards`.
    fn from_str(names: &str) -> Result<Self, UnknownConstruct> {
        let mut constructs = Self::NONE;
        for name in names.split(',').filter(|name| !name.is_empty()) {
            let switch = match name {
                "loops" => &mut constructs.loops,
                "judges" => &mut constructs.judges,
                "states" => &mut constructs.states,
                "routers" => &mut constructs.routers,
                "guards" => &mut constructs.guards,
                "bodies" => &mut constructs.bodies,
                "humans" => &mut constructs.humans,
                other => return Err(UnknownConstruct(other.to_owned())),
            };
            *switch = true;
        }
        Ok(constructs)
    }
}
