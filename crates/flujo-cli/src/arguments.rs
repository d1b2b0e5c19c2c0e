//! The command line. Options that are settings come from the table of settings and aren't repeated here.

mod runs;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

pub(crate) use self::runs::{
    AnswerArguments, ForkArguments, ListArguments, OneRun, PurgeArguments, ReplayArguments, ResumeArguments,
    RunsArguments, RunsCommand,
};
use crate::settings::{SETTINGS, Setting};

/// Runs, checks and draws AI pipelines that are written as YAML.
#[derive(Debug, Parser)]
#[command(name = "flujo", version, disable_help_subcommand = true, max_term_width = 110)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 invalid arguments or input, 3 paused, 4 limit reached, 130 interrupted."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Show causes and internal details of errors.
    #[arg(long, global = true)]
    pub(crate) debug: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a blueprint. The output goes to standard output.
    Run(RunArguments),
    /// Look at runs that are kept in a store, and go on with them.
    Runs(RunsArguments),
    /// Check a blueprint and everything it imports, without running anything.
    Validate(ValidateArguments),
    /// Draw a blueprint.
    Graph(GraphArguments),
    /// Show the statistics that `flujo run --stats-out` wrote, or those of the runs in a store.
    Stats(StatsArguments),
    /// Measure on this machine what Flujo promises.
    Bench(BenchArguments),
    /// Show the settings.
    Config(ConfigArguments),
    /// Explain an error by its id.
    Explain {
        /// The id, such as FLU-0101.
        rule: String,
    },
    /// Print a JSON schema.
    Schema {
        /// Of what.
        #[arg(value_enum, default_value_t = SchemaOf::Blueprint)]
        of: SchemaOf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The blueprint.
    pub(crate) file: PathBuf,
    /// The input: text; `-` for the text on standard input; a name ending in .json, .yaml or .yml for the data in that
    /// file; `@FILE` for the text of any file.
    #[arg(long, value_name = "INPUT")]
    pub(crate) input: Option<String>,
    /// The run's name in the store (`--store`). One that is there already goes on where it is, and one that has ended
    /// gives its result: nothing of it runs again.
    #[arg(long, value_name = "ID")]
    pub(crate) run_id: Option<String>,
    /// Set a field of the context; the value is read as YAML. Can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) fields: Vec<String>,
    /// Answer the question of a step of kind `hitl`; the value is read as YAML. Can be repeated. What isn't answered is
    /// asked on the terminal; without one the command waits while all open questions have a time limit, and else ends as
    /// paused.
    #[arg(long = "answer", value_name = "STEP=VALUE")]
    pub(crate) answers: Vec<String>,
    /// Print the whole result as JSON instead of the output alone.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show neither progress nor the tree of steps.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Write the context as it is at the end to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) context_out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArguments {
    /// The blueprint.
    pub(crate) file: PathBuf,
    /// Print what was found as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GraphArguments {
    /// The blueprint.
    pub(crate) file: PathBuf,
    /// The language of the drawing.
    #[arg(long, value_enum, default_value_t = GraphFormat::Mermaid)]
    pub(crate) format: GraphFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum GraphFormat {
    /// A Mermaid flowchart, as GitHub and many editors show it.
    Mermaid,
}

#[derive(Debug, Args)]
pub(crate) struct StatsArguments {
    /// The file; without it and without `--store` the one that the setting `stats_out` names.
    #[arg(conflicts_with = "state_uri")]
    pub(crate) file: Option<PathBuf>,
    /// With `--store`: only runs of the pipeline of this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) pipeline: Option<String>,
    /// With `--store`: only runs that began within this time, such as `30min`, `12h` or `7days`.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) newer_than: Option<std::time::Duration>,
    /// With `--store`: how many at most, the newest.
    #[arg(long, value_name = "COUNT", default_value_t = 1000)]
    pub(crate) limit: u64,
    /// Print the statistics as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArguments {
    #[command(subcommand)]
    pub(crate) bench: Bench,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Measure what each optimisation earns against its plain twin. Ends with 1 when a claim does not hold.
    Claims(ClaimsArguments),
    /// Print the bytes of memory that a run takes among 10,000, several times; `flujo bench claims` starts this.
    #[command(hide = true)]
    Memory {
        /// The twin of every part.
        #[arg(value_enum)]
        twin: TwinArgument,
        /// How many figures.
        samples: usize,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ClaimsArguments {
    /// Measure only the rows whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub(crate) only: Option<String>,
    /// Take 6 samples of each twin instead of 30: to look at, not to judge by.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Print the rows as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Draw the table into this file, as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum TwinArgument {
    /// The obvious implementations.
    Plain,
    /// The fast ones.
    Optimized,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print every setting as it would be used here.
    Show {
        /// Say where each value comes from.
        #[arg(long)]
        origin: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SchemaOf {
    /// Blueprints.
    Blueprint,
    /// What `flujo run --json` prints.
    Result,
    /// What `flujo runs list --json` and `flujo runs show --json` print.
    Runs,
}

/// The command line as clap knows it, settings included.
pub(crate) fn command() -> clap::Command {
    let everywhere = |setting: &&Setting| setting.is_of_the_store();
    let all = |command: clap::Command| command.args(SETTINGS.iter().map(Setting::argument));
    let others = |command: clap::Command| {
        let others = SETTINGS.iter().filter(|setting| !setting.is_of_the_store());
        command.args(others.map(Setting::argument))
    };
    Arguments::command()
        .mut_subcommand("run", all)
        .mut_subcommand("stats", |stats| {
            let store = SETTINGS.iter().filter(everywhere);
            stats.args(store.map(Setting::argument))
        })
        .mut_subcommand("runs", |runs| {
            let store = SETTINGS.iter().filter(everywhere);
            runs.args(store.map(|setting| setting.argument().global(true)))
                .mut_subcommand("resume", others)
                .mut_subcommand("answer", others)
                .mut_subcommand("cancel", others)
                .mut_subcommand("fork", others)
        })
}

/// Reads the arguments; the matches of the innermost subcommand hold the settings that were given.
pub(crate) fn parse(
    arguments: impl Iterator<Item = OsString>,
) -> Result<(Arguments, ArgMatches), clap::Error> {
    let mut matches = command().try_get_matches_from(arguments)?;
    let parsed = Arguments::from_arg_matches(&matches)?;
    while let Some((_, inner)) = matches.remove_subcommand() {
        matches = inner;
    }
    Ok((parsed, matches))
}
