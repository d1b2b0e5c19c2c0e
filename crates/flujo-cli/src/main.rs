//! The `flujo` command: runs, checks and draws blueprints.
//!
//! Data goes to standard output, everything else to standard error. This crate turns arguments into calls of the
//! library crates and their results into text; it decides nothing about how a pipeline runs.

mod arguments;
mod color;
mod command;
mod input;
mod outcome;
mod problem;
mod progress;
mod result;
mod settings;
mod summary;
mod terminal;

use std::process::ExitCode;

use arguments::Command;
use outcome::Exit;

fn main() -> ExitCode {
    let (arguments, matches) = match arguments::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version are data and go to standard output; clap knows which is which.
            let failed = error.use_stderr();
            let _ = error.print();
            return if failed {
                Exit::Usage.into()
            } else {
                Exit::Done.into()
            };
        }
    };
    terminal::explain_panics(arguments.debug);
    let done = match arguments.command {
        Command::Run(run) => command::run::run(&run, &matches, arguments.debug),
        Command::Validate(validate) => command::validate::validate(&validate),
        Command::Graph(graph) => command::graph::graph(&graph),
        Command::Stats(stats) => command::stats::stats(&stats),
        Command::Config(config) => command::config::config(&config),
        Command::Explain { rule } => command::explain::explain(&rule),
        Command::Schema { of } => command::schema::schema(of),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            failure.print(arguments.debug);
            failure.exit().into()
        }
    }
}
