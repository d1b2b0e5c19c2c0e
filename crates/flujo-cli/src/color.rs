//! Colour: only on terminals, and never where `NO_COLOR` asks for none.

use std::io::IsTerminal;

/// Where text goes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Out,
    Error,
}

/// Puts colour around text, or leaves it as it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    colored: bool,
}

impl Paint {
    /// As the environment and the stream have it.
    pub(crate) fn for_stream(stream: Stream) -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let is_terminal = match stream {
            Stream::Out => std::io::stdout().is_terminal(),
            Stream::Error => std::io::stderr().is_terminal(),
        };
        Self {
            colored: !set("NO_COLOR") && !dumb && is_terminal,
        }
    }

    pub(crate) fn error(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    pub(crate) fn warning(self, text: &str) -> String {
        self.wrap("33", text)
    }

    pub(crate) fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub(crate) fn hint(self, text: &str) -> String {
        self.wrap("36", text)
    }

    pub(crate) fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub(crate) fn strong(self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colored {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
