//! How the command ends: exit codes, and failures with their text.

use std::fmt::Write;
use std::sync::Arc;

use flujo_blueprint::{Position, Problems, Rule, Source};

use crate::color::{Paint, Stream};
use crate::{problem, terminal};

/// The exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The run failed, or a result can't be written.
    Failed = 1,
    /// Arguments, settings or a blueprint that can't be used.
    Usage = 2,
    /// The run waits for answers.
    Paused = 3,
    /// A usage limit was reached.
    Limit = 4,
    /// Interrupted.
    Interrupted = 130,
}

/// Why the command can't do what it was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something is wrong with a blueprint or settings file; each problem has its place.
    Problems(Problems),
    /// Something else, with its rule, text and cure.
    Other {
        rule: Rule,
        exit: Exit,
        message: String,
        /// The file and the place in it that this is about, if it is about one.
        place: Option<(Arc<Source>, Position)>,
        hint: Option<String>,
        /// More for people who look into it: shown with `--debug`.
        details: Option<String>,
    },
}

impl Failure {
    /// An argument, setting or input that can't be used.
    pub(crate) fn usage(rule: Rule, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Other {
            rule,
            exit: Exit::Usage,
            message: message.into(),
            place: None,
            hint: Some(hint.into()),
            details: None,
        }
    }

    /// A file that can't be written.
    pub(crate) fn unwritable(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Other {
            rule: Rule::OutputUnwritable,
            exit: Exit::Failed,
            message: format!("`{}` can't be written: {error}", path.display()),
            place: None,
            hint: Some("name a file in a folder that exists and that you may write to".to_owned()),
            details: None,
        }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Problems(_) => Exit::Usage,
            Self::Other { exit, .. } => *exit,
        }
    }

    pub(crate) fn print(&self, debug: bool) {
        let paint = Paint::for_stream(Stream::Error);
        match self {
            Self::Problems(problems) => terminal::note(&problem::render(problems, paint)),
            Self::Other {
                rule,
                message,
                place,
                hint,
                details,
                ..
            } => {
                let mut text = match place {
                    Some((source, position)) => problem::headed(*rule, message, source, *position, paint),
                    None => format!("{}: {message}", paint.error(&format!("error[{rule}]"))),
                };
                // Writing to a string cannot fail.
                if let Some(hint) = hint {
                    let _ = write!(text, "\n  {}: {hint}", paint.hint("hint"));
                }
                if let (true, Some(details)) = (debug, details) {
                    let _ = write!(text, "\n{details}");
                }
                terminal::note(&text);
            }
        }
    }
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Problems(problems)
    }
}
