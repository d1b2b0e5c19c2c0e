//! Which twin of each part a run uses: decided when it starts, and kept to its end.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{OptimizationConfig, Part, Twin};

/// The twin of each part, decided for one run. Small and `Copy`: a run carries it, so that a switch thrown meanwhile
/// changes nothing about it.
///
/// ```
/// use flujo_core::config::{OptimizationConfig, Part, Twin, Twins};
///
/// let config = OptimizationConfig { enable_object_pooling: false, ..OptimizationConfig::default() };
/// let twins = Twins::decide(Twin::Optimized, &config);
/// assert_eq!(twins.of(Part::Pool), Twin::Plain);
/// assert_eq!(twins.of(Part::Context), Twin::Optimized);
/// assert_eq!(Twins::decide(Twin::Plain, &config), Twins::PLAIN);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twins {
    /// One bit for each part; set: optimised.
    optimized: u8,
    /// What the runner's switch said.
    runner: Twin,
    /// One bit for each part; set: its optimised twin has failed, and the plain one stands in whatever a config says.
    #[serde(default)]
    failed: u8,
    /// One bit for each part; set: its optimised twin is to fail, as a drill.
    #[serde(default)]
    drilled: u8,
}

impl Twins {
    /// Every part optimised.
    pub const OPTIMIZED: Self = Self {
        optimized: (1 << Part::ALL.len()) - 1,
        runner: Twin::Optimized,
        failed: 0,
        drilled: 0,
    };
    /// Every part plain, whatever a config says.
    pub const PLAIN: Self = Self {
        optimized: 0,
        runner: Twin::Plain,
        failed: 0,
        drilled: 0,
    };

    /// What a run uses that starts while its runner's switch is at `runner`: a switch that is off turns every part off,
    /// one that is on leaves the decision to the config.
    #[must_use]
    pub fn decide(runner: Twin, config: &OptimizationConfig) -> Self {
        if runner == Twin::Plain {
            return Self::PLAIN;
        }
        Part::ALL
            .into_iter()
            .fold(Self::OPTIMIZED, |twins, part| twins.with(part, config.twin(part)))
    }

    /// What a part of the run uses that has a config of its own, or none.
    #[must_use]
    pub fn within(self, nearest: Option<&OptimizationConfig>) -> Self {
        match nearest {
            Some(config) => Self {
                drilled: self.drilled,
                ..Self::decide(self.runner, config).without(self.failed)
            },
            None => self,
        }
    }

    /// The twin of a part.
    #[inline]
    pub const fn of(self, part: Part) -> Twin {
        if self.is_optimized(part) {
            Twin::Optimized
        } else {
            Twin::Plain
        }
    }

    /// Whether a part uses its optimised twin.
    #[inline]
    pub const fn is_optimized(self, part: Part) -> bool {
        self.optimized & bit(part) != 0
    }

    /// The same with another twin of one part, such as the plain one of a part that has failed.
    #[must_use]
    pub const fn with(self, part: Part, twin: Twin) -> Self {
        let optimized = match twin {
            Twin::Optimized => self.optimized | bit(part),
            Twin::Plain => self.optimized & !bit(part),
        };
        Self { optimized, ..self }
    }
}

impl Twins {
    /// The same with the plain twin of these parts, whose optimised ones have failed.
    #[inline]
    pub(super) const fn without(self, failed: u8) -> Self {
        Self {
            optimized: self.optimized & !failed,
            failed: self.failed | failed,
            ..self
        }
    }

    /// The same, where the optimised twins of these parts are to fail.
    #[inline]
    pub(super) const fn drilled(self, drilled: u8) -> Self {
        Self { drilled, ..self }
    }

    #[inline]
    pub(super) const fn is_drilled(self, part: Part) -> bool {
        self.drilled & bit(part) != 0
    }

    /// Whether the optimised twin of a part has failed in this run.
    #[inline]
    pub const fn gave_way(self, part: Part) -> bool {
        self.failed & bit(part) != 0
    }
}

pub(super) const fn bit(part: Part) -> u8 {
    1 << part as u8
}

impl fmt::Debug for Twins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let twins = Part::ALL.map(|part| (part.name(), self.of(part).name()));
        f.debug_map().entries(twins).finish()
    }
}
