//! Settings: each declared once in [`SETTINGS`], from which come the option, the environment variable, the key in
//! `flujo.toml` and the documentation. Argument before environment before the nearest `flujo.toml` before default.

mod file;

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches};
use flujo_agents::Prices;
use flujo_blueprint::{Allowed, Rule};

use crate::outcome::Failure;

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The key in `flujo.toml`; the option and the variable are made from it.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Option<&'static str>,
    pub(crate) about: &'static str,
}

/// What a setting holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Choice(&'static [&'static str]),
    Flag,
    /// A number of at least 0.
    Amount,
    /// A whole number of at least 0.
    Count,
    /// A number of seconds above 0.
    Seconds,
    Path,
    /// An address, which may hold credentials.
    Url,
    /// Where runs are kept: a file or an address, which may hold credentials. As an option it may stand without a value.
    Store,
    /// A host and a port.
    Address,
    /// A number from 0 to 1.
    Share,
    /// Permissions: `command`, `command=git`, `file_write=target`.
    Grants,
}

/// Every setting.
pub(crate) static SETTINGS: &[Setting] = &[
    Setting {
        name: "allow",
        kind: Kind::Grants,
        default: None,
        about: "What blueprints may do: `command` or `command=PROGRAM`, `file_write` or `file_write=FOLDER`, `python_import` or `python_import=PACKAGE`.",
    },
    Setting {
        name: "progress",
        kind: Kind::Choice(&["auto", "tree", "lines", "none"]),
        default: Some("auto"),
        about: "How a run is shown while it goes on: `tree` redraws a tree, `lines` prints a line for each event, `auto` takes the tree on a terminal.",
    },
    Setting {
        name: "deadline_s",
        kind: Kind::Seconds,
        default: None,
        about: "The longest time of a run, in seconds.",
    },
    Setting {
        name: "max_cost_usd",
        kind: Kind::Amount,
        default: None,
        about: "The most a run may cost, in US dollars; the blueprint's own limit holds as well.",
    },
    Setting {
        name: "max_tokens",
        kind: Kind::Count,
        default: None,
        about: "The most tokens a run may use; the blueprint's own limit holds as well.",
    },
    Setting {
        name: "optimizations",
        kind: Kind::Flag,
        default: Some("true"),
        about: "Whether optimised parts are used. Results are the same.",
    },
    Setting {
        name: "state_uri",
        kind: Kind::Store,
        default: None,
        about: "Keep runs in this SQLite file, or on a PostgreSQL server: `postgresql://user:password@host/database`; alone, or as `true`, in `.flujo/runs.db`. Without it nothing is kept.",
    },
    Setting {
        name: "store_content",
        kind: Kind::Choice(&["full", "encrypted", "none"]),
        default: Some("full"),
        about: "What of a run is kept there: all; all, encrypted with the key in `FLUJO_STORE_KEY` (64 hexadecimal digits); or only that it ran, so that it can't go on.",
    },
    Setting {
        name: "durability",
        kind: Kind::Choice(&["strict", "async", "exit"]),
        default: Some("strict"),
        about: "When what happened is kept: before the next step begins, soon after it happened, or at a pause and at the end.",
    },
    Setting {
        name: "stats_out",
        kind: Kind::Path,
        default: None,
        about: "Write performance statistics to this file, as JSON.",
    },
    Setting {
        name: "otlp",
        kind: Kind::Url,
        default: None,
        about: "Send the run's spans to the OpenTelemetry collector at this address, such as `http://localhost:4318`; with `env`, to where `OTEL_EXPORTER_OTLP_ENDPOINT` says.",
    },
    Setting {
        name: "trace_out",
        kind: Kind::Path,
        default: None,
        about: "Write the run's spans to this file, as JSON lines.",
    },
    Setting {
        name: "trace_sample",
        kind: Kind::Share,
        default: Some("1"),
        about: "The share of runs whose spans are recorded, from 0 to 1; a run's id decides.",
    },
    Setting {
        name: "capture_content",
        kind: Kind::Flag,
        default: Some("false"),
        about: "Whether spans hold inputs, outputs and texts of errors. Without it none of them is exported.",
    },
    Setting {
        name: "metrics_out",
        kind: Kind::Path,
        default: None,
        about: "Write metrics to this file when the run has ended, as Prometheus text.",
    },
    Setting {
        name: "metrics_address",
        kind: Kind::Address,
        default: None,
        about: "Serve metrics to Prometheus under `/metrics` at this host and port while the run goes on, such as `127.0.0.1:9464`.",
    },
];

impl Setting {
    /// The environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("FLUJO_{}", self.name.to_uppercase())
    }

    /// Whether it says where runs are kept, and how they are read there.
    pub(crate) fn is_of_the_store(&self) -> bool {
        ["state_uri", "store_content"].contains(&self.name)
    }

    /// The option, without its dashes.
    pub(crate) fn option(&self) -> String {
        match self.kind {
            Kind::Store => "store".to_owned(),
            _ => self.name.replace('_', "-"),
        }
    }

    /// The option as clap has it. Values are checked where all sources come together.
    pub(crate) fn argument(&self) -> Arg {
        let default = self
            .default
            .map(|default| format!(", default: {default}"))
            .unwrap_or_default();
        let argument = Arg::new(self.name);
        let argument = match self.kind {
            Kind::Store => argument.num_args(0..=1).default_missing_value("true"),
            _ => argument,
        };
        argument
            .long(self.option())
            .value_name(match self.kind {
                Kind::Choice(_) => "WORD",
                Kind::Flag => "BOOL",
                Kind::Amount | Kind::Count => "NUMBER",
                Kind::Seconds => "SECONDS",
                Kind::Path => "FILE",
                Kind::Url => "URL",
                Kind::Store => "FILE|URL",
                Kind::Address => "HOST:PORT",
                Kind::Share => "SHARE",
                Kind::Grants => "PERMISSION",
            })
            .action(if self.kind == Kind::Grants {
                ArgAction::Append
            } else {
                ArgAction::Set
            })
            .help_heading("Settings")
            .help(format!("{} [env: {}{default}]", self.about, self.variable()))
    }

    /// A value as it may be shown: an address without its credentials.
    pub(crate) fn shown<'v>(&self, value: &'v str) -> Cow<'v, str> {
        let parts = matches!(self.kind, Kind::Url | Kind::Store)
            .then(|| value.split_once("://"))
            .flatten();
        let Some((scheme, rest)) = parts else {
            return Cow::Borrowed(value);
        };
        // Passwords may stand among the parameters, too.
        let rest = match self.kind {
            Kind::Store => rest.split_once('?').map_or(rest, |(address, _)| address),
            _ => rest,
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        match rest[..end].rfind('@') {
            Some(at) => Cow::Owned(format!("{scheme}://…{}", &rest[at..])),
            None if scheme.len() + 3 + rest.len() < value.len() => Cow::Owned(format!("{scheme}://{rest}")),
            None => Cow::Borrowed(value),
        }
    }

    /// What is wrong with a value, if anything is.
    fn refuse(&self, value: &str) -> Option<String> {
        let number = || value.parse::<f64>().ok().filter(|number| number.is_finite());
        match self.kind {
            Kind::Choice(words) => {
                (!words.contains(&value)).then(|| format!("is one of {}", words.join(", ")))
            }
            Kind::Flag => (!["true", "false"].contains(&value)).then(|| "is true or false".to_owned()),
            Kind::Amount => number()
                .is_none_or(|number| number < 0.0)
                .then(|| "is a number of at least 0".to_owned()),
            Kind::Count => value
                .parse::<u64>()
                .is_err()
                .then(|| "is a whole number of at least 0".to_owned()),
            Kind::Seconds => number()
                .is_none_or(|number| number <= 0.0 || number > 1e9)
                .then(|| "is a number of seconds above 0".to_owned()),
            Kind::Path => value.is_empty().then(|| "is the name of a file".to_owned()),
            Kind::Url => (value != "env" && !value.starts_with("http://") && !value.starts_with("https://"))
                .then(|| "is `env`, or begins with `http://` or `https://`".to_owned()),
            Kind::Store => crate::store::Place::read(value, Path::new("")).err(),
            Kind::Address => value
                .rsplit_once(':')
                .is_none_or(|(host, port)| host.is_empty() || port.parse::<u16>().is_err())
                .then(|| "is a host and a port, such as `127.0.0.1:9464`".to_owned()),
            Kind::Share => number()
                .is_none_or(|number| !(0.0..=1.0).contains(&number))
                .then(|| "is a number from 0 to 1".to_owned()),
            Kind::Grants => match value.split_once('=').unwrap_or((value, "all")) {
                ("command" | "file_write" | "python_import", what) if !what.is_empty() => None,
                _ => Some(
                    "is `command`, `command=PROGRAM`, `file_write`, `file_write=FOLDER`, `python_import` or \
                     `python_import=PACKAGE`"
                        .to_owned(),
                ),
            },
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Argument(String),
    Environment(String),
    File(PathBuf, usize),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Argument(option) => write!(f, "--{option}"),
            Self::Environment(variable) => f.write_str(variable),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A setting with its values, most have one, and where they come from.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    pub(crate) setting: &'static Setting,
    pub(crate) values: Vec<String>,
    pub(crate) origin: Origin,
}

/// All settings as they hold here.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) resolved: Vec<Resolved>,
    /// What models cost, by the nearest `flujo.toml`.
    pub(crate) prices: Prices,
}

impl Settings {
    /// Resolves every setting; `matches` holds what was given as options, if any could be.
    pub(crate) fn resolve(matches: Option<&ArgMatches>, folder: &Path) -> Result<Self, Failure> {
        let file = file::nearest(folder)?;
        let resolved = SETTINGS.iter().map(|setting| {
            let resolved = resolve(setting, matches, file.as_ref())?;
            for value in &resolved.values {
                if let Some(reason) = setting.refuse(value) {
                    return Err(Failure::usage(
                        Rule::BadSetting,
                        format!(
                            "`{}` can't be used for `{}` (from {}): it {reason}",
                            setting.shown(value),
                            setting.name,
                            resolved.origin
                        ),
                        setting.about,
                    ));
                }
            }
            Ok(resolved)
        });
        let resolved = resolved.collect::<Result<_, _>>()?;
        let prices = file.map(|file| file.prices).unwrap_or_default();
        Ok(Self { resolved, prices })
    }

    /// The value of a setting, when it has one.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values(name).first().map(String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        self.value(name)?.parse().ok()
    }

    /// A setting with where its value comes from.
    pub(crate) fn resolved(&self, name: &str) -> Option<&Resolved> {
        self.resolved
            .iter()
            .find(|resolved| resolved.setting.name == name)
    }

    fn values(&self, name: &str) -> &[String] {
        self.resolved(name).map_or(&[], |resolved| &resolved.values)
    }

    /// What blueprints may do.
    pub(crate) fn allowed(&self) -> Allowed {
        let mut allowed = Allowed::default();
        for grant in self.values("allow") {
            let (kind, what) = grant
                .split_once('=')
                .map_or((grant.as_str(), None), |(kind, what)| (kind, Some(what)));
            let granted = match kind {
                "command" => &mut allowed.command,
                "python_import" => &mut allowed.python_import,
                _ => &mut allowed.file_write,
            };
            match what {
                Some(what) => granted.add(what),
                None => *granted = flujo_blueprint::Grant::Everything,
            }
        }
        allowed
    }
}

fn resolve(
    setting: &'static Setting,
    matches: Option<&ArgMatches>,
    file: Option<&file::SettingsFile>,
) -> Result<Resolved, Failure> {
    let with = |values: Vec<String>, origin| {
        Ok(Resolved {
            setting,
            values,
            origin,
        })
    };
    let given = matches.and_then(|matches| matches.try_get_many::<String>(setting.name).ok().flatten());
    if let Some(given) = given {
        return with(given.cloned().collect(), Origin::Argument(setting.option()));
    }
    let variable = setting.variable();
    if let Some(value) = std::env::var_os(&variable).filter(|value| !value.is_empty()) {
        let value = value
            .to_str()
            .map(str::to_owned)
            .ok_or_else(|| not_text(&variable, &value))?;
        let values = match setting.kind {
            Kind::Grants => value.split(',').map(|part| part.trim().to_owned()).collect(),
            _ => vec![value],
        };
        return with(values, Origin::Environment(variable));
    }
    if let Some((file, (values, line))) = file.and_then(|file| Some((file, file.values.get(setting.name)?))) {
        return with(values.clone(), Origin::File(file.path.clone(), *line));
    }
    with(
        setting.default.map(str::to_owned).into_iter().collect(),
        Origin::Default,
    )
}

fn not_text(variable: &str, _value: &OsStr) -> Failure {
    Failure::usage(
        Rule::BadSetting,
        format!("the environment variable `{variable}` isn't valid text"),
        "set it to UTF-8 text, or unset it",
    )
}

/// The documentation of the settings, as Markdown: part of `docs/configuration.md`.
#[cfg(test)]
pub(crate) fn reference() -> String {
    use std::fmt::Write;
    let mut text = String::from(
        "| setting in `flujo.toml` | option of `flujo run` | environment | default | meaning |\n|---|---|---|---|---|\n",
    );
    for setting in SETTINGS {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | `--{}` | `{}` | {} | {} |",
            setting.name,
            setting.option(),
            setting.variable(),
            setting
                .default
                .map_or("none".to_owned(), |default| format!("`{default}`")),
            setting.about
        );
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_reference_in_the_documentation_is_the_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let written = std::fs::read_to_string(path).unwrap();
        let (begin, end) = ("<!-- generated: settings -->\n", "<!-- end of generated -->");
        let (before, rest) = written
            .split_once(begin)
            .expect("the mark before the generated part");
        let (_, after) = rest.split_once(end).expect("the mark after the generated part");
        let current = format!("{before}{begin}{}{end}{after}", super::reference());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            current,
            "run the test with UPDATE_DOCS=1"
        );
    }
}
