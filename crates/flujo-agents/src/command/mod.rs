//! The agent that runs a program: arguments as a list, no shell, a stated environment, and bounds on time and output.

mod process;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use flujo_core::agent::{Agent, AgentError, AgentOutput, AgentRequest, BoxFuture};
use serde::Deserialize;

use crate::config::{self, ConfigError, Permission};
use crate::payload::{self, Format};
use crate::template::{self, Scope, Template};

const AGENT: &str = "command";

/// The variables that every program gets when they are set: where programs and temporary files are, and the language.
const INHERITED: [&str; 10] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "TEMP",
    "TMP",
    "SystemRoot",
];

/// Settings of a [`Command`] agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandConfig {
    /// The program, then its arguments. The program is plain text, so that what may run is known before a run; each
    /// argument is a template and stays one argument, whatever it renders to.
    pub args: Vec<String>,
    /// What the program reads from standard input: nothing, or the step's input.
    #[serde(default)]
    pub stdin: Stdin,
    /// Variables to set; the values are templates.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// More variables to pass on from this process. Without it only those for finding programs, temporary files and
    /// the language are passed on, so that no key leaks.
    #[serde(default)]
    pub inherit_env: Vec<String>,
    /// The folder to run in, a template.
    #[serde(default)]
    pub cwd: Option<String>,
    /// What the output is turned into.
    #[serde(default)]
    pub output: Format,
    /// The time limit in seconds.
    #[serde(default = "timeout_s")]
    pub timeout_s: f64,
    /// The most bytes that the program may write to standard output.
    #[serde(default = "max_output_bytes")]
    pub max_output_bytes: usize,
}

/// What a program reads from standard input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stdin {
    /// Nothing.
    #[default]
    Empty,
    /// The step's input: text and bytes as they are, everything else as JSON.
    Input,
}

fn timeout_s() -> f64 {
    60.0
}

fn max_output_bytes() -> usize {
    16 * 1024 * 1024
}

impl CommandConfig {
    /// A program with its arguments and default limits.
    pub fn new<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            stdin: Stdin::Empty,
            env: BTreeMap::new(),
            inherit_env: Vec::new(),
            cwd: None,
            output: Format::Text,
            timeout_s: timeout_s(),
            max_output_bytes: max_output_bytes(),
        }
    }

    /// The permission to run the program.
    pub fn permission(&self) -> Permission {
        Permission::Command {
            program: self.args.first().cloned().unwrap_or_default(),
        }
    }

    /// Checks the settings and makes the agent.
    ///
    /// # Errors
    /// [`ConfigError`] naming the setting that can't be used.
    pub fn build(&self) -> Result<Command, ConfigError> {
        let Some((program, args)) = self.args.split_first().filter(|(program, _)| !program.is_empty()) else {
            return Err(ConfigError::new(
                AGENT,
                "args",
                "is empty; give the program and then its arguments",
            ));
        };
        if !Template::parse(program).is_ok_and(|program| program.is_constant()) {
            return Err(ConfigError::new(
                AGENT,
                "args[0]",
                "the program can't be a template: what may run has to be known before the run",
            ));
        }
        let args = args
            .iter()
            .enumerate()
            .map(|(index, arg)| config::template(AGENT, &format!("args[{}]", index + 1), arg))
            .collect::<Result<_, _>>()?;
        let env = self.env.iter().map(|(name, value)| {
            let field = format!("env.{name}");
            variable_name(&field, name)?;
            Ok((name.clone(), config::template(AGENT, &field, value)?))
        });
        for name in &self.inherit_env {
            variable_name("inherit_env", name)?;
        }
        Ok(Command {
            program: program.clone(),
            args,
            stdin: self.stdin,
            env: env.collect::<Result<_, _>>()?,
            inherited: INHERITED
                .iter()
                .map(|&name| name.to_owned())
                .chain(self.inherit_env.clone())
                .collect(),
            cwd: self
                .cwd
                .as_ref()
                .map(|cwd| config::template(AGENT, "cwd", cwd))
                .transpose()?,
            output: self.output,
            timeout: config::seconds(AGENT, "timeout_s", self.timeout_s)?,
            max_output_bytes: config::bound(AGENT, "max_output_bytes", self.max_output_bytes)?,
        })
    }
}

fn variable_name(field: &str, name: &str) -> Result<(), ConfigError> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(ConfigError::new(
            AGENT,
            field,
            format!("`{name}` can't be the name of a variable"),
        ));
    }
    Ok(())
}

/// An agent that runs a program and returns what it writes to standard output.
///
/// The program and everything it started are killed when the call is dropped, runs out of time or writes too much.
/// (Where there are no process groups, as on Windows, only the program itself is.)
#[derive(Debug, Clone)]
pub struct Command {
    program: String,
    args: Vec<Template>,
    stdin: Stdin,
    env: Vec<(String, Template)>,
    inherited: Vec<String>,
    cwd: Option<Template>,
    output: Format,
    timeout: Duration,
    max_output_bytes: usize,
}

/// One call's program, rendered.
struct Invocation {
    program: String,
    args: Vec<String>,
    env: Vec<(String, OsString)>,
    cwd: Option<PathBuf>,
    stdin: Option<Vec<u8>>,
    max_output_bytes: usize,
}

impl Command {
    fn invocation(&self, request: &AgentRequest) -> Result<Invocation, AgentError> {
        let scope = Scope::from(request);
        let args = self.args.iter().enumerate().map(|(index, arg)| {
            let field = format!("args[{}]", index + 1);
            without_nul(&field, template::render(arg, &field, &scope)?)
        });
        let inherited = self
            .inherited
            .iter()
            .filter_map(|name| Some((name.clone(), std::env::var_os(name)?)));
        // First, so that what was stated wins.
        let trace = request
            .span
            .map(|span| ("TRACEPARENT".to_owned(), span.to_string().into()));
        let mut env: Vec<_> = trace.into_iter().chain(inherited).collect();
        for (name, value) in &self.env {
            let field = format!("env.{name}");
            env.push((
                name.clone(),
                without_nul(&field, template::render(value, &field, &scope)?)?.into(),
            ));
        }
        let cwd = match &self.cwd {
            Some(cwd) => {
                let folder = PathBuf::from(without_nul("cwd", template::render(cwd, "cwd", &scope)?)?);
                if !folder.is_dir() {
                    return Err(AgentError::permanent(format!(
                        "`cwd` is `{}`, which isn't a folder; create it or name another",
                        folder.display()
                    )));
                }
                Some(folder)
            }
            None => None,
        };
        Ok(Invocation {
            program: self.program.clone(),
            args: args.collect::<Result<_, _>>()?,
            env,
            cwd,
            stdin: match self.stdin {
                Stdin::Empty => None,
                Stdin::Input => Some(payload::to_bytes(&request.input)?.into_owned()),
            },
            max_output_bytes: self.max_output_bytes,
        })
    }
}

fn without_nul(field: &str, text: String) -> Result<String, AgentError> {
    if text.contains('\0') {
        return Err(AgentError::permanent(format!(
            "`{field}` has a NUL character, which no program can be given"
        )));
    }
    Ok(text)
}

impl Agent for Command {
    fn run(&self, request: AgentRequest) -> BoxFuture<'_, Result<AgentOutput, AgentError>> {
        Box::pin(async move {
            let invocation = self.invocation(&request)?;
            let output = tokio::time::timeout(self.timeout, process::run(invocation)).await.map_err(|_| {
                AgentError::new(format!(
                    "the command `{}` didn't end, or something it started kept its output open, within {} s and \
                     was killed; raise `timeout_s` if it needs longer",
                    self.program,
                    self.timeout.as_secs_f64()
                ))
            })??;
            let source = format!("the output of the command `{}`", self.program);
            Ok(payload::from_bytes(output, self.output, &source)?.into())
        })
    }
}
