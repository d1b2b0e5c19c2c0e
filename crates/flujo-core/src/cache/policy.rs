//! What is declared of a step whose results are kept, and why a result is not.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How the results of a step are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CachePolicy {
    /// How long a result is good; zero is for ever. Without one, as long as the cache keeps results by itself.
    pub ttl: Option<Duration>,
    /// What a result depends on beside the step and its input.
    pub scope: CacheScope,
    /// What makes keys equal across processes, and is to be changed when the step gives other results than before. A
    /// version stands for the step of that name wherever the cache is shared.
    pub version: Option<Arc<str>>,
}

impl CachePolicy {
    /// The same, for so long.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The same with another scope.
    #[must_use]
    pub fn scope(mut self, scope: CacheScope) -> Self {
        self.scope = scope;
        self
    }

    /// The same for the step of this version.
    #[must_use]
    pub fn version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.version = Some(version.into());
        self
    }
}

/// What a result depends on beside the step and its input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheScope {
    /// On the fields of the context that the step reads, as is found out while it runs, and on all resources that have a
    /// fingerprint.
    #[default]
    Auto,
    /// On nothing.
    Input,
    /// On these and nothing else.
    Declared {
        /// Fields of the context, as dotted paths.
        fields: Vec<Arc<str>>,
        /// Resources by name; each must have a fingerprint.
        resources: Vec<Arc<str>>,
    },
}

/// A name in a scope that stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the scope of a cached step can't hold `{name}`: name fields as `context.field`, resources as `resources.name`, or \
     say `auto` or `input`"
)]
pub struct ScopeError {
    /// The name.
    pub name: String,
}

impl CacheScope {
    /// The scope of names such as `context.user.language` and `resources.prices`.
    ///
    /// # Errors
    /// [`ScopeError`] for a name that begins otherwise, or ends there.
    pub fn declared<N: AsRef<str>>(names: impl IntoIterator<Item = N>) -> Result<Self, ScopeError> {
        let (mut fields, mut resources) = (Vec::new(), Vec::new());
        for name in names {
            let name = name.as_ref();
            let (list, rest) = match name.split_once('.') {
                Some(("context", rest)) => (&mut fields, rest),
                Some(("resources", rest)) => (&mut resources, rest),
                _ => (&mut fields, ""),
            };
            if rest.split('.').any(str::is_empty) {
                return Err(ScopeError {
                    name: name.to_owned(),
                });
            }
            list.push(Arc::from(rest));
        }
        Ok(Self::Declared { fields, resources })
    }

    /// The scope of a single word.
    ///
    /// # Errors
    /// [`ScopeError`] for any but `auto` and `input`.
    pub fn named(name: &str) -> Result<Self, ScopeError> {
        match name {
            "auto" => Ok(Self::Auto),
            "input" => Ok(Self::Input),
            _ => Err(ScopeError {
                name: name.to_owned(),
            }),
        }
    }
}

/// What tells a cached step apart from others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepIdentity {
    /// What it does is known by this text: a version, the name of an importable function. Its keys are equal in all
    /// processes.
    Known(Arc<str>),
    /// It is this very step, of this process.
    Local(u64),
}

impl StepIdentity {
    /// Of a step of this process, unlike any other.
    pub fn local() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self::Local(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Whether its keys are equal in all processes.
    pub fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }
}

/// Why a result of a cached step is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Uncached {
    /// The step failed; what its fallback gave is another step's result.
    Failed,
    /// The step was cancelled, or the run stopped.
    Stopped,
    /// The run stood still for an answer.
    Paused,
    /// The step wrote to the context itself, which it would not when its result is found.
    Wrote,
    /// A validator rejected the output, which was passed on all the same.
    Rejected,
    /// The input has no plain form, so that there is no key.
    Input,
    /// A field that the step depends on has no plain form.
    Field,
    /// The step read more fields than are looked at for each result: its scope is to be declared.
    TooManyFields,
    /// A resource in the declared scope has no fingerprint.
    Resource,
    /// The output can't be handed out isolated from what others do with it.
    Output,
}

impl Uncached {
    /// Every reason, in the order of declaration.
    pub const ALL: [Self; 10] = [
        Self::Failed,
        Self::Stopped,
        Self::Paused,
        Self::Wrote,
        Self::Rejected,
        Self::Input,
        Self::Field,
        Self::TooManyFields,
        Self::Resource,
        Self::Output,
    ];

    /// Its name in statistics: `failed`, `too_many_fields`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Wrote => "wrote",
            Self::Rejected => "rejected",
            Self::Input => "input",
            Self::Field => "field",
            Self::TooManyFields => "too_many_fields",
            Self::Resource => "resource",
            Self::Output => "output",
        }
    }

    /// What to do about it, where the declaration of the step is at fault.
    pub fn advice(self) -> Option<&'static str> {
        match self {
            Self::Failed | Self::Stopped | Self::Paused | Self::Rejected => None,
            Self::Wrote => Some(
                "it writes to the context itself: let it return what it writes and write that with `updates_context` or \
                 `sink_to`",
            ),
            Self::Input => {
                Some("its input has no plain form: give the step a key function, or its input's type a codec")
            }
            Self::Field => Some(
                "a field of the context that it depends on has no plain form: declare a scope without it",
            ),
            Self::TooManyFields => Some(
                "it reads more than 16 fields of the context one by one: declare those its result depends on as scope",
            ),
            Self::Resource => Some("a resource in its scope has no fingerprint: give the runner one"),
            Self::Output => {
                Some("its output can't be copied: let its type implement `Clone`, or give it a codec")
            }
        }
    }
}

impl fmt::Display for Uncached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
