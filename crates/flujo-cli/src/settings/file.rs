//! The nearest `flujo.toml`: in the folder a command runs in, or the closest folder above that has one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flujo_agents::{PriceFault, Prices, PricesError};
use flujo_blueprint::{Position, Problem, Problems, Rule, Source};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Kind, SETTINGS};
use crate::outcome::Failure;

/// The table of what models cost.
const PRICES: &str = "cost";

/// A settings file that has been read: values and their lines by setting.
#[derive(Debug)]
pub(crate) struct SettingsFile {
    pub(super) path: PathBuf,
    pub(super) values: BTreeMap<&'static str, (Vec<String>, usize)>,
    pub(super) prices: Prices,
}

/// The nearest file, `None` when there is none.
pub(super) fn nearest(folder: &Path) -> Result<Option<SettingsFile>, Failure> {
    let Some(path) = Prices::nearest_file(folder) else {
        return Ok(None);
    };
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Failure::usage(
            Rule::BadSetting,
            format!("`{}` can't be read: {error}", path.display()),
            "make it UTF-8 text that you may read, or remove it",
        )
    })?;
    read(path, text).map(Some)
}

fn read(path: PathBuf, text: String) -> Result<SettingsFile, Failure> {
    let source = Source::new(path.clone(), text);
    let table = match DeTable::parse(source.text()) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            let start = error.span().map_or(0, |span| span.start);
            let problem = refuse(
                &source,
                start,
                format!("this isn't TOML: {}", error.message()),
                "",
            );
            return Err(Problems(vec![problem]).into());
        }
    };
    let mut values = BTreeMap::new();
    let mut problems = Vec::new();
    for (key, value) in &table {
        let name: &str = key.get_ref().as_ref();
        if name == PRICES {
            continue;
        }
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) else {
            let hint = match nearest_setting(name) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!(
                    "settings: {}, {PRICES}",
                    SETTINGS
                        .iter()
                        .map(|known| known.name)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            };
            problems.push(refuse(
                &source,
                key.span().start,
                format!("there is no setting `{name}`"),
                &hint,
            ));
            continue;
        };
        let line = position(&source, key.span().start).line;
        let read = if setting.kind == Kind::Grants {
            grants(value)
        } else {
            scalar(value.get_ref()).map(|value| vec![value])
        };
        match read {
            Some(read) => {
                values.insert(setting.name, (read, line));
            }
            None => problems.push(refuse(
                &source,
                value.span().start,
                format!("the value of `{name}` has the wrong type"),
                setting.about,
            )),
        }
    }
    match Prices::parse(&path, source.text()) {
        Ok(prices) if problems.is_empty() => return Ok(SettingsFile { path, values, prices }),
        Ok(_) => {}
        Err(error) => problems.extend(price_problems(&source, error)),
    }
    Err(Problems(problems).into())
}

fn price_problems(source: &Arc<Source>, error: PricesError) -> Vec<Problem> {
    let PricesError::Faults { faults, .. } = error else {
        return vec![refuse(source, 0, error.to_string(), "")];
    };
    let problem = |fault: PriceFault| Problem {
        rule: Rule::BadSetting,
        source: Arc::clone(source),
        position: Position {
            line: fault.line,
            column: fault.column,
        },
        message: fault.message,
        hint: Some(fault.hint),
    };
    faults.into_iter().map(problem).collect()
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

/// `[allow]`: a kind with `true`, or with the list of what is allowed of it.
fn grants(value: &Spanned<DeValue<'_>>) -> Option<Vec<String>> {
    let DeValue::Table(table) = value.get_ref() else {
        return None;
    };
    let mut grants = Vec::new();
    for (kind, value) in table {
        let kind: &str = kind.get_ref().as_ref();
        match value.get_ref() {
            DeValue::Boolean(true) => grants.push(kind.to_owned()),
            DeValue::Boolean(false) => {}
            DeValue::Array(items) => {
                for item in items {
                    let DeValue::String(what) = item.get_ref() else {
                        return None;
                    };
                    grants.push(format!("{kind}={what}"));
                }
            }
            _ => return None,
        }
    }
    Some(grants)
}

fn nearest_setting(written: &str) -> Option<&'static str> {
    SETTINGS
        .iter()
        .map(|setting| {
            (
                strsim::normalized_damerau_levenshtein(written, setting.name),
                setting.name,
            )
        })
        .filter(|(likeness, _)| *likeness >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

fn refuse(source: &Arc<Source>, offset: usize, message: String, hint: &str) -> Problem {
    Problem {
        rule: Rule::BadSetting,
        source: Arc::clone(source),
        position: position(source, offset),
        message,
        hint: (!hint.is_empty()).then(|| hint.to_owned()),
    }
}

fn position(source: &Source, offset: usize) -> Position {
    let before = source.text().get(..offset).unwrap_or(source.text());
    Position {
        line: before.matches('\n').count() + 1,
        column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
    }
}
