//! `flujo config show`: every setting as it holds in this folder.

use crate::arguments::{ConfigArguments, ConfigCommand};
use crate::outcome::{Exit, Failure};
use crate::settings::{Kind, Resolved, Settings};
use crate::terminal;

pub(crate) fn config(arguments: &ConfigArguments) -> Result<Exit, Failure> {
    let ConfigCommand::Show { origin } = arguments.command;
    let settings = Settings::resolve(None, &super::folder())?;
    for resolved in &settings.resolved {
        let value = shown(resolved);
        if origin {
            terminal::data_line(&format!(
                "{} = {value}  # {}",
                resolved.setting.name, resolved.origin
            ));
        } else {
            terminal::data_line(&format!("{} = {value}", resolved.setting.name));
        }
    }
    Ok(Exit::Done)
}

fn shown(resolved: &Resolved) -> String {
    let quoted = |text: &String| format!("{text:?}");
    match (resolved.setting.kind, resolved.values.first()) {
        (Kind::Grants, _) => format!(
            "[{}]",
            resolved.values.iter().map(quoted).collect::<Vec<_>>().join(", ")
        ),
        (_, None) => "(not set)".to_owned(),
        (Kind::Choice(_) | Kind::Path | Kind::Address, Some(value)) => quoted(value),
        (Kind::Url | Kind::Store, Some(value)) => quoted(&resolved.setting.shown(value).into_owned()),
        (_, Some(value)) => value.clone(),
    }
}
