//! One folder and one clean environment for each test, and what a finished command said.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// A folder of its own to run the command in.
pub(crate) struct TestContext {
    folder: TempDir,
}

/// What a command said and how it ended.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl TestContext {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The command with its arguments, separated by spaces, not yet started.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flujo"));
        command
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &str) -> Said {
        Said::from(self.command(arguments).output().unwrap())
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// Everything, for a snapshot: exit code, data, the rest.
    pub(crate) fn whole(&self) -> String {
        let code = self.code.map_or("signal".to_owned(), |code| code.to_string());
        format!(
            "exit code {code}\n--- stdout\n{}--- stderr\n{}",
            self.stdout, self.stderr
        )
    }

    /// No trace of the program's inside.
    pub(crate) fn has_no_traceback(&self) -> bool {
        ![
            "panicked at",
            "RUST_BACKTRACE",
            "stack backtrace",
            "internal error",
        ]
        .iter()
        .any(|mark| self.stderr.contains(mark))
    }
}

/// A snapshot in which times stand still.
macro_rules! assert_said {
    ($said:expr) => {{
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(r"\[ *\d+\.\d{3}s\]", "[TIME]");
        settings.add_filter(r"\d+(\.\d)? (µs|ms|s|min \d+ s)\b", "TIME");
        settings.add_filter(r"[^ ]*/\.tmp\w+", "FOLDER");
        settings.add_filter(r"127\.0\.0\.1:\d+", "127.0.0.1:PORT");
        settings.bind(|| insta::assert_snapshot!($said.whole()));
    }};
}
pub(crate) use assert_said;
