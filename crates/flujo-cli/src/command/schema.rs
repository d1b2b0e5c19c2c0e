//! `flujo schema`: the JSON schemas that are published.

use crate::arguments::SchemaOf;
use crate::outcome::{Exit, Failure};
use crate::{result, terminal};

#[allow(clippy::unnecessary_wraps)] // every subcommand ends the same way
pub(crate) fn schema(of: SchemaOf) -> Result<Exit, Failure> {
    match of {
        SchemaOf::Blueprint => terminal::data_line(&format!("{:#}", flujo_blueprint::json_schema())),
        SchemaOf::Result => terminal::data_line(result::SCHEMA),
        SchemaOf::Runs => terminal::data_line(super::runs::SCHEMA),
    }
    Ok(Exit::Done)
}
