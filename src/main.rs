//! The program `neftpipe`: parse, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;
use neftpipe::cli::{self, Cli};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run(Cli::parse()).into()
}
