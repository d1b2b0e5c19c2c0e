//! `flujo explain`: the page about an error.

use flujo_blueprint::Rule;

use crate::outcome::{Exit, Failure};
use crate::terminal;

pub(crate) fn explain(id: &str) -> Result<Exit, Failure> {
    match Rule::find(id) {
        Some(rule) => {
            terminal::data_line(rule.explanation());
            Ok(Exit::Done)
        }
        None => Err(Failure::usage(
            Rule::BadValue,
            format!("there is no error `{id}`"),
            format!(
                "ids: {}",
                Rule::ALL
                    .iter()
                    .map(|rule| rule.id())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
        )),
    }
}
