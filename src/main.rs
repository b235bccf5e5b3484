//! The program `neftpipe`: parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;
use neftpipe::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(Cli::parse()).into()
}
