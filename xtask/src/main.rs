//! `cargo xtask`: gets libtorch, builds the CLI and its workers, and runs, tests or installs them.
//! It knows cargo, pip and folders; what neftpipe does is none of its business.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bench;
mod driver;
mod error;
mod faults;
mod install;
mod libtorch;
mod pip;
mod unpack;
mod wheels;
mod workspace;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::{Args, Parser, Subcommand};

use error::Error;
use libtorch::Wish;
use workspace::{CLI, Workspace};

/// Sets up, builds, runs, tests and installs neftpipe.
///
/// libtorch is taken from LIBTORCH where that is set; otherwise it is downloaded once, through pip, into
/// $XDG_CACHE_HOME/neftpipe (~/.cache/neftpipe), with CUDA where the machine has an NVIDIA driver.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Get libtorch and say where it is
    Setup(Gpu),
    /// Set up, build, and run `neftpipe run` with the arguments given
    Run {
        #[command(flatten)]
        gpu: Gpu,
        /// Arguments of `neftpipe run`: a pipeline file, selectors, flags
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Set up, build, and run every test with the arguments of `cargo test` given
    Test {
        #[command(flatten)]
        gpu: Gpu,
        /// Arguments of `cargo test`
        #[arg(allow_hyphen_values = true)]
        arguments: Vec<OsString>,
        /// Arguments of the tests themselves
        #[arg(last = true, value_name = "TEST ARGUMENTS")]
        of_the_tests: Vec<OsString>,
    },
    /// Make all faults of which the tests make a tenth (kills, full disks, damaged files, races), and sum up what held
    Faults {
        /// Only those whose tests have these in their names: `kills`
        names: Vec<OsString>,
    },
    /// Set up, build, and install the CLI, its workers and their libraries under a folder
    Install {
        #[command(flatten)]
        gpu: Gpu,
        /// The folder; `PREFIX/bin/neftpipe` works from anywhere, and PREFIX can be moved
        #[arg(long, value_name = "DIR")]
        prefix: PathBuf,
    },
    /// Set up, build, and time whole commands beside ninja and b3sum where they are installed; prints a Markdown table
    Bench {
        #[command(flatten)]
        gpu: Gpu,
        #[command(flatten)]
        args: bench::BenchArgs,
    },
    /// Set up, and run any command with LIBTORCH set: `cargo xtask exec cargo clippy --workspace`
    Exec {
        #[command(flatten)]
        gpu: Gpu,
        /// The command
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        command: Vec<OsString>,
    },
}

/// Which libtorch to get when LIBTORCH is not set.
#[derive(Args, Clone, Copy)]
struct Gpu {
    /// Take libtorch's CUDA libraries too, though no NVIDIA driver is found
    #[arg(long, conflicts_with = "cpu")]
    cuda: bool,
    /// Go without CUDA, though there is an NVIDIA driver
    #[arg(long)]
    cpu: bool,
}

impl Gpu {
    fn wish(self) -> Wish {
        match (self.cuda, self.cpu) {
            (true, _) => Wish::Cuda,
            (_, true) => Wish::Cpu,
            _ => Wish::WhatFits,
        }
    }
}

fn main() -> ExitCode {
    match perform(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<(), Error> {
    match task {
        Task::Setup(gpu) => {
            let libtorch = libtorch::set_up(gpu.wish())?;
            eprintln!("libtorch {}: {}", wheels::VERSION, libtorch.root.display());
            Ok(())
        }
        Task::Run { gpu, arguments } => {
            let binaries = set_up(gpu)?.build()?;
            let mut cli = Command::new(binaries.join(CLI));
            cli.arg("run").args(arguments);
            Err(workspace::become_command(cli))
        }
        Task::Test { gpu, arguments, of_the_tests } => set_up(gpu)?.test(&rejoined(arguments, of_the_tests)),
        Task::Faults { names } => faults::make_all(&names),
        Task::Install { gpu, prefix } => {
            let workspace = set_up(gpu)?;
            install::install(&workspace.build()?, workspace.libtorch(), &prefix)
        }
        Task::Bench { gpu, args } => {
            let binaries = args.binaries.clone().map_or_else(|| set_up(gpu)?.build(), Ok)?;
            bench::bench(args, &binaries)
        }
        Task::Exec { gpu, command } => {
            let [program, arguments @ ..] = command.as_slice() else {
                return Ok(());
            };
            let mut command = set_up(gpu)?.command(program);
            command.args(arguments);
            Err(workspace::become_command(command))
        }
    }
}

/// The command line of `cargo test`: clap takes away a `--` that nothing stands before.
fn rejoined(mut arguments: Vec<OsString>, of_the_tests: Vec<OsString>) -> Vec<OsString> {
    if !of_the_tests.is_empty() {
        arguments.push("--".into());
        arguments.extend(of_the_tests);
    }
    arguments
}

fn set_up(gpu: Gpu) -> Result<Workspace, Error> {
    libtorch::set_up(gpu.wish()).map(Workspace::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Task {
        Cli::try_parse_from(line.split(' ')).unwrap().task
    }

    #[test]
    fn what_is_not_for_xtask_is_passed_on() {
        let Task::Run { gpu, arguments } = parse("xtask run --cpu sweep.yaml --set params.steps=2 --cuda") else {
            panic!()
        };
        assert!(gpu.cpu && !gpu.cuda);
        assert_eq!(arguments, ["sweep.yaml", "--set", "params.steps=2", "--cuda"]);

        let Task::Exec { command, .. } = parse("xtask exec cargo clippy -- -D warnings") else { panic!() };
        assert_eq!(command, ["cargo", "clippy", "--", "-D", "warnings"]);
    }

    #[test]
    fn arguments_of_cargo_test_arrive_as_typed() {
        for line in ["-p neftpipe --test cli", "-- --nocapture", "-p x -- --exact a"] {
            let Task::Test { arguments, of_the_tests, .. } = parse(&format!("xtask test {line}")) else { panic!() };
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert_eq!(rejoined(arguments, of_the_tests), words);
        }
    }
}
