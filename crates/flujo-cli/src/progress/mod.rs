//! How a run is shown while it goes on: a tree that is redrawn, a line for each event, or nothing.

mod lines;
mod state;
mod tree;

use std::io::IsTerminal;
use std::time::Duration;

use flujo_tokio::{Event, EventKind};

use crate::color::Paint;
use tree::LiveTree;

/// How long the tree stays as it is, at most.
pub(crate) const REDRAW: Duration = Duration::from_millis(100);

/// Shows a run as its events come.
#[derive(Debug)]
pub(crate) enum Progress {
    Tree(LiveTree),
    Lines,
    Nothing,
}

impl Progress {
    /// What `--progress` says; `auto` takes the tree where there is a terminal that can redraw.
    pub(crate) fn new(word: &str, quiet: bool, pipeline: &str, paint: Paint) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match word {
            _ if quiet => Self::Nothing,
            "none" => Self::Nothing,
            "tree" => Self::Tree(LiveTree::new(pipeline, paint)),
            "auto" if std::io::stderr().is_terminal() && !dumb => Self::Tree(LiveTree::new(pipeline, paint)),
            _ => Self::Lines,
        }
    }

    /// Takes in what has happened.
    pub(crate) fn event(&mut self, event: &Event) {
        match self {
            Self::Tree(_) if matches!(event.kind, EventKind::Alert(_)) => {
                if let Some(line) = lines::line(event) {
                    self.note(&line);
                }
            }
            Self::Tree(tree) => tree.take_in(event),
            Self::Lines => lines::print(event),
            Self::Nothing => {}
        }
    }

    /// Time has passed.
    pub(crate) fn redraw(&mut self) {
        if let Self::Tree(tree) = self {
            tree.draw();
        }
    }

    /// Something for people, above what is redrawn.
    pub(crate) fn note(&mut self, text: &str) {
        if let Self::Tree(tree) = self {
            tree.clear();
        }
        crate::terminal::note(text);
        self.redraw();
    }

    /// The run has ended: what was redrawn makes place for the final tree.
    pub(crate) fn finish(&mut self) {
        if let Self::Tree(tree) = self {
            tree.clear();
        }
    }
}
