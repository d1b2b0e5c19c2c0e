//! `flujo graph`: a blueprint as a drawing. Reads files, runs nothing.

use flujo_agents::Prices;
use flujo_blueprint::Blueprint;

use crate::arguments::{GraphArguments, GraphFormat};
use crate::outcome::{Exit, Failure};
use crate::terminal;

pub(crate) fn graph(arguments: &GraphArguments, python: bool) -> Result<Exit, Failure> {
    let blueprint = Blueprint::load_for(&arguments.file, python, Prices::default())?;
    match arguments.format {
        GraphFormat::Mermaid => terminal::data_line(&blueprint.to_mermaid()),
    }
    Ok(Exit::Done)
}
