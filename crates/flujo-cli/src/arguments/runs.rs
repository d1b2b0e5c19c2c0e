//! The command line of `flujo runs`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use flujo_core::store::RunStatus;

#[derive(Debug, Args)]
pub(crate) struct RunsArguments {
    #[command(subcommand)]
    pub(crate) command: RunsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RunsCommand {
    /// List runs, the newest first.
    List(ListArguments),
    /// Show a run: its steps, what it asks, who has it.
    Show(OneRun),
    /// Follow a run until it ends.
    Watch(OneRun),
    /// Go on with a run: one whose process died, one that was stopped, or one that waits for answers.
    Resume(ResumeArguments),
    /// Answer a question of a run, and go on with it.
    Answer(AnswerArguments),
    /// End a run, or ask the process that has it to.
    Cancel(ResumeArguments),
    /// Begin another run with what a run was when one of its steps began.
    Fork(ForkArguments),
    /// Feed what the agents of a run answered to its pipeline as it is now, and say what differs. No agent is called.
    Replay(ReplayArguments),
    /// Delete runs that have ended.
    Purge(PurgeArguments),
    /// Print all that is stored of a run, as JSON.
    Export {
        /// The run.
        id: String,
    },
}

/// Which runs.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only runs with this status: queued, running, paused, completed, failed, cancelled or `limit_exceeded`. Can be
    /// repeated.
    #[arg(long, value_name = "STATUS", value_parser = status)]
    pub(crate) status: Vec<RunStatus>,
    /// Only runs of the pipeline of this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) pipeline: Option<String>,
    /// Only runs older than this, such as `30min`, `12h` or `7days`.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) older_than: Option<Duration>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Only runs that began within this time.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) newer_than: Option<Duration>,
    /// How many at most.
    #[arg(long, value_name = "COUNT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
    /// Behind this place, which the list before told.
    #[arg(long, value_name = "PLACE")]
    pub(crate) after: Option<String>,
    /// Print the list as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct OneRun {
    /// The run.
    pub(crate) id: String,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArguments {
    /// The run.
    pub(crate) id: String,
    /// The blueprint; without it the file that the run began with.
    #[arg(long = "pipeline", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Print the whole result as JSON instead of the output alone.
    #[arg(long)]
    pub(crate) json: bool,
    /// Show neither progress nor the tree of steps.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AnswerArguments {
    #[command(flatten)]
    pub(crate) resume: ResumeArguments,
    /// The answer, read as YAML, and so as JSON.
    pub(crate) value: String,
    /// The question's id or its step, where more than one is open.
    #[arg(long, value_name = "PAUSE")]
    pub(crate) pause: Option<String>,
    /// Take the answer as text, as it is.
    #[arg(long)]
    pub(crate) text: bool,
    /// Leave the answer in the store for the process that runs the pipeline, and go on with nothing here.
    #[arg(long)]
    pub(crate) leave: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ForkArguments {
    #[command(flatten)]
    pub(crate) resume: ResumeArguments,
    /// The step, by its path, or by its name where only one has it.
    #[arg(long, value_name = "STEP")]
    pub(crate) from: String,
    /// Which iteration of the loop around it, from 1; the first time that it began without this.
    #[arg(long, value_name = "COUNT")]
    pub(crate) iteration: Option<u32>,
    /// The name of the new run.
    #[arg(long, value_name = "ID")]
    pub(crate) run_id: String,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// The run.
    pub(crate) id: String,
    /// The blueprint; without it the file that the run began with.
    #[arg(long = "pipeline", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PurgeArguments {
    /// Only this run.
    pub(crate) id: Option<String>,
    /// Only runs that stood still for longer than `--older-than`; without `--status`, those that have ended.
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// Keep so many of the newest that fit.
    #[arg(long, value_name = "COUNT")]
    pub(crate) keep: Option<u64>,
    /// Say how many there are, and delete none.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Don't ask.
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

fn status(name: &str) -> Result<RunStatus, String> {
    RunStatus::named(name).ok_or_else(|| {
        let names: Vec<_> = RunStatus::ALL.iter().map(|status| status.as_str()).collect();
        format!("it is one of {}", names.join(", "))
    })
}
