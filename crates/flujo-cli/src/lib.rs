//! The `flujo` command as a library: what the program and `python -m flujo` have in common.
//!
//! Data goes to standard output, everything else to standard error. This crate turns arguments into calls of the
//! library crates and their results into text; it decides nothing about how a pipeline runs.

mod answers;
mod arguments;
mod color;
mod command;
mod input;
mod interrupts;
mod outcome;
mod problem;
mod progress;
mod result;
mod settings;
mod store;
mod summary;
mod terminal;

use std::ffi::OsString;

use arguments::Command;
use flujo_blueprint::Functions;
use outcome::Exit;

/// Does what the arguments ask, the first being the program's name, and gives the exit code: 0 done, 1 failed, 2 invalid
/// arguments or input, 4 limit reached, 130 interrupted.
///
/// It takes over the process: interrupts cancel a run, and a second one ends the process.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let itself = std::env::current_exe().map(OsString::from).into_iter().collect();
    run_in(
        &Program {
            functions: None,
            itself,
        },
        arguments,
    )
}

/// The program that the command is part of.
pub struct Program<'a> {
    /// Imports the functions of Python that blueprints name, where there is Python.
    pub functions: Option<&'a dyn Functions>,
    /// What starts this program again: the file and the arguments before the command's own.
    pub itself: Vec<OsString>,
}

/// As [`run`], in another program.
pub fn run_in(program: &Program<'_>, arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let functions = program.functions;
    let (arguments, matches) = match arguments::parse(arguments.into_iter()) {
        Ok(parsed) => parsed,
        Err(error) => {
            // Help and version are data and go to standard output; clap knows which is which.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            let _ = error.print();
            return exit as u8;
        }
    };
    terminal::explain_panics(arguments.debug);
    let done = match arguments.command {
        Command::Run(run) => command::run::run(&run, &matches, functions, arguments.debug),
        Command::Runs(runs) => command::runs::runs(&runs, &matches, functions, arguments.debug),
        Command::Validate(validate) => command::validate::validate(&validate, functions.is_some()),
        Command::Graph(graph) => command::graph::graph(&graph, functions.is_some()),
        Command::Stats(stats) => command::stats::stats(&stats, &matches),
        Command::Bench(bench) => command::bench::bench(&bench, &program.itself),
        Command::Config(config) => command::config::config(&config),
        Command::Explain { rule } => command::explain::explain(&rule),
        Command::Schema { of } => command::schema::schema(of),
    };
    let exit = done.unwrap_or_else(|failure| {
        failure.print(arguments.debug);
        failure.exit()
    });
    exit as u8
}
