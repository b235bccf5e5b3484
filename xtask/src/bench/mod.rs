//! `cargo xtask bench`: whole commands timed beside what people would use instead, interleaved, as a Markdown table.
//!
//! It knows commands, files and clocks; what neftpipe does inside is none of its business. Peers that are not installed
//! are left out, and it says so.

mod cases;
mod graphs;
mod timing;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::Error;

/// What to measure.
#[derive(Args)]
pub struct BenchArgs {
    /// Where the graphs and files are made, on the disk that is to be measured [default: a folder beside the binaries]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Take the programs from this folder, and build none
    #[arg(long, value_name = "DIR")]
    pub binaries: Option<PathBuf>,
    /// Rounds of each comparison
    #[arg(long, default_value_t = 7, value_name = "N")]
    rounds: usize,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Also a graph of 100,000 stages, which takes half an hour to run for the first time
    #[arg(long)]
    large: bool,
}

/// What cases are given.
struct Bench {
    binaries: PathBuf,
    scratch: PathBuf,
    rounds: usize,
    large: bool,
}

/// Runs the cases and prints the table.
pub fn bench(args: BenchArgs, binaries: &Path) -> Result<(), Error> {
    let scratch = args.scratch.unwrap_or_else(|| binaries.join("bench"));
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    };
    std::fs::create_dir_all(&scratch).map_err(io("create", &scratch))?;
    let binaries = binaries.canonicalize().map_err(io("find", binaries))?;
    let bench = Bench { binaries, scratch, rounds: args.rounds, large: args.large };
    say("| what | here | beside it | ratio | wanted |\n|---|---|---|---|---|")?;
    for (name, case) in cases::ALL {
        if args.only.as_ref().is_some_and(|only| !name.contains(only.as_str())) {
            continue;
        }
        let folder = bench.scratch.join(name);
        let figures = case(&bench, &folder);
        std::fs::remove_dir_all(&folder).map_err(io("remove", &folder))?;
        figures.map_err(io("measure in", &folder))?.iter().try_for_each(|figure| say(&figure.row()))?;
    }
    Ok(())
}

fn say(line: &str) -> Result<(), Error> {
    let failure = |source| Error::Io { action: "write", path: "the table".into(), source };
    writeln!(std::io::stdout(), "{line}").map_err(failure)
}
