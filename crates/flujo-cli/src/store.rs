//! Where runs are kept: found by the settings, opened and closed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flujo_blueprint::Rule;
use flujo_core::store::{RunStore, StoreError};
use flujo_durable::DurableError;
use flujo_store::{Key, Postgres, Sealed, Sqlite};

use crate::outcome::{Exit, Failure};
use crate::settings::{Origin, Settings};

/// Where runs are kept when a store is asked for and not named.
const USUAL: &str = ".flujo/runs.db";
/// The variable with the key that content is sealed with.
const KEY: &str = "FLUJO_STORE_KEY";
/// The part of a run that is read first.
pub(crate) const DEFINITION: &str = "the definition";

/// Where runs are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A `SQLite` file.
    File(PathBuf),
    /// A `PostgreSQL` server, as an address with its password.
    Server(String),
}

impl Place {
    /// What `state_uri` says; a file's name is seen from `folder`.
    ///
    /// # Errors
    /// What the value should be.
    pub(crate) fn read(value: &str, folder: &Path) -> Result<Self, String> {
        match value.split_once(':') {
            _ if value == "true" => Ok(Self::File(folder.join(USUAL))),
            _ if value.is_empty() => Err("names no file and no server".to_owned()),
            Some(("postgresql" | "postgres", rest)) if rest.starts_with("//") => {
                Ok(Self::Server(value.to_owned()))
            }
            Some(("sqlite", rest)) => {
                // `sqlite:///name` is a file in the folder, `sqlite:////name` one from the root.
                let path = rest.strip_prefix("///").unwrap_or(rest);
                match path {
                    "" => Err("names no file".to_owned()),
                    path => Ok(Self::File(folder.join(path))),
                }
            }
            Some((scheme, rest)) if rest.starts_with("//") => Err(format!(
                "is a file, or begins with `postgresql://`; runs aren't kept in `{scheme}`"
            )),
            _ => Ok(Self::File(folder.join(value))),
        }
    }

    /// What the settings say, if they say anything.
    fn of(settings: &Settings) -> Result<Option<Self>, Failure> {
        let Some(resolved) = settings.resolved("state_uri") else {
            return Ok(None);
        };
        let Some(value) = resolved.values.first() else {
            return Ok(None);
        };
        // A name in a file is seen from that file: runs are found again from every folder below it.
        let folder = match &resolved.origin {
            Origin::File(path, _) => path.parent().unwrap_or(Path::new("")),
            _ => Path::new(""),
        };
        Self::read(value, folder).map(Some).map_err(|reason| {
            let message = format!(
                "`{}` can't be used for `state_uri`: it {reason}",
                resolved.setting.shown(value)
            );
            Failure::usage(Rule::BadSetting, message, resolved.setting.about)
        })
    }
}

/// A store that is open, until this is dropped.
pub(crate) struct Store {
    runs: Arc<dyn RunStore>,
    opened: Opened,
    /// How it is named on a command line; nothing where it need not be.
    option: String,
}

enum Opened {
    Sqlite(Arc<Sqlite>),
    Postgres(Arc<Postgres>),
}

impl Store {
    /// The store that runs are to be kept in, if they are; it is made when it isn't there.
    pub(crate) fn to_keep(settings: &Settings) -> Result<Option<Self>, Failure> {
        let place = Place::of(settings)?;
        place.map(|place| Self::open(&place, settings)).transpose()
    }

    /// The store whose runs are looked at: the one that is named, else the usual file.
    pub(crate) fn to_read(settings: &Settings) -> Result<Self, Failure> {
        let place = Place::of(settings)?.unwrap_or_else(|| Place::File(PathBuf::from(USUAL)));
        if let Place::File(path) = &place
            && !path.exists()
        {
            return Err(Failure::usage(
                Rule::StoreFailed,
                format!("there is no store of runs: `{}` isn't there", path.display()),
                "`flujo run FILE --store` keeps runs; `--store FILE|URL` names another place",
            ));
        }
        Self::open(&place, settings)
    }

    fn open(place: &Place, settings: &Settings) -> Result<Self, Failure> {
        let opened = match place {
            Place::File(path) => Sqlite::open(path).map(|store| Opened::Sqlite(Arc::new(store))),
            Place::Server(address) => {
                Postgres::connect(address).map(|store| Opened::Postgres(Arc::new(store)))
            }
        };
        let opened = opened.map_err(|error| failed(&error.into()))?;
        let inner: Arc<dyn RunStore> = match &opened {
            Opened::Sqlite(store) => Arc::clone(store) as _,
            Opened::Postgres(store) => Arc::clone(store) as _,
        };
        let runs: Arc<dyn RunStore> = match settings.value("store_content") {
            Some("encrypted") => Arc::new(Sealed::encrypted(inner, &key()?)),
            Some("none") => Arc::new(Sealed::without_content(inner)),
            _ => inner,
        };
        let option = settings
            .resolved("state_uri")
            .and_then(|resolved| match &resolved.origin {
                Origin::Argument(_) => resolved.values.first().map(|value| match value.as_str() {
                    "true" => String::new(),
                    value => format!(" --store {}", resolved.setting.shown(value)),
                }),
                _ => None,
            });
        Ok(Self {
            runs,
            opened,
            option: option.unwrap_or_default(),
        })
    }

    /// Its runs.
    pub(crate) fn runs(&self) -> &Arc<dyn RunStore> {
        &self.runs
    }

    /// What follows a command of `flujo runs` so that it finds this store: an option, behind a space, or nothing.
    pub(crate) fn option(&self) -> &str {
        &self.option
    }
}

impl Drop for Store {
    /// What has been asked for is done before the command ends.
    fn drop(&mut self) {
        match &self.opened {
            Opened::Sqlite(store) => store.close(),
            Opened::Postgres(store) => store.close(),
        }
    }
}

fn key() -> Result<Key, Failure> {
    let digits = std::env::var(KEY).ok();
    digits.as_deref().and_then(Key::from_hex).ok_or_else(|| {
        let what = if digits.is_some() {
            "isn't 64 hexadecimal digits"
        } else {
            "isn't set"
        };
        Failure::usage(
            Rule::StoreFailed,
            format!("what is kept is to be encrypted, and `{KEY}` {what}"),
            "set it to a key that you keep, such as `openssl rand -hex 32` makes",
        )
    })
}

/// What a store, or what is in it, could not do, with the exit code and the cure.
pub(crate) fn failed(error: &DurableError) -> Failure {
    let (rule, exit, hint) = match error {
        DurableError::Store(StoreError::UnknownRun { .. }) => (
            Rule::UnknownRun,
            Exit::Usage,
            "`flujo runs list` shows the runs that are there",
        ),
        DurableError::Store(StoreError::Owned { .. } | StoreError::Fenced { .. })
        | DurableError::WentOnElsewhere { .. } => (
            Rule::RunElsewhere,
            Exit::Failed,
            "`flujo runs watch ID` follows it; `flujo runs cancel ID` asks it to end",
        ),
        DurableError::DefinitionChanged { .. } | DurableError::Diverged { .. } => (
            Rule::PipelineChanged,
            Exit::Failed,
            "go on with the blueprint that the run began with, or begin anew under another id",
        ),
        DurableError::Corrupt { location, .. } if location == DEFINITION => (
            Rule::RunDamaged,
            Exit::Failed,
            "if its content is encrypted, give `--store-content encrypted` and the key in `FLUJO_STORE_KEY`",
        ),
        DurableError::Store(StoreError::Corrupt { .. }) | DurableError::Corrupt { .. } => (
            Rule::RunDamaged,
            Exit::Failed,
            "restore a backup, or delete the run with `flujo runs purge ID`; others stay readable",
        ),
        DurableError::UnknownPause { .. } => (Rule::BadInput, Exit::Usage, "name one of them with `--pause`"),
        DurableError::AmbiguousAnswer { .. } => (
            Rule::BadInput,
            Exit::Usage,
            "say which one is answered with `--pause`",
        ),
        DurableError::NotPaused { .. } => (
            Rule::WrongStatus,
            Exit::Usage,
            "`flujo runs show ID` tells how it stands",
        ),
        DurableError::Fork { .. } => (
            Rule::WrongStatus,
            Exit::Failed,
            "`flujo runs show ID` tells which steps it did",
        ),
        DurableError::Exists { .. } => (
            Rule::WrongStatus,
            Exit::Failed,
            "choose another name for the new run",
        ),
        DurableError::Store(StoreError::WrongStatus { .. }) => (
            Rule::WrongStatus,
            Exit::Failed,
            "`flujo runs show ID` tells how it stands",
        ),
        DurableError::Store(StoreError::Full { .. }) => (
            Rule::StoreFailed,
            Exit::Failed,
            "make room, or delete runs that have ended with `flujo runs purge`",
        ),
        DurableError::Store(StoreError::ReadOnly { .. }) => (
            Rule::StoreFailed,
            Exit::Failed,
            "choose a folder that you may write to, or give yourself the right",
        ),
        _ => (
            Rule::StoreFailed,
            Exit::Failed,
            "`--store FILE|URL` names another store",
        ),
    };
    Failure::Other {
        rule,
        exit,
        message: error.to_string(),
        place: None,
        hint: Some(hint.to_owned()),
        details: None,
    }
}
