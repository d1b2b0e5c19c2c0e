//! The `flujo` command: runs, checks and draws blueprints.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(flujo_cli::run(std::env::args_os()))
}
