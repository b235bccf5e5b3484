//! `neftpipe completions`.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, CliResult, Context};
use crate::exit::Exit;

/// Print a completion script for a shell.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(context: &Context, args: &CompletionsArgs) -> CliResult {
    let mut script = Vec::new();
    generate(args.shell, &mut Cli::command(), "neftpipe", &mut script);
    context.printer.bytes(&script)?;
    Ok(Exit::Success)
}
