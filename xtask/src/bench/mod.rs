//! `cargo xtask bench`: whole commands timed beside what people would use instead, interleaved, as a Markdown table.
//!
//! It knows commands, files and clocks; what neftpipe does inside is none of its business. Peers that are not installed
//! are left out, and it says so.

mod cases;
mod figure;
mod generation;
mod graphs;
mod peers;
mod shape;
mod timing;
mod tokenize;
mod training;
mod worker;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use crate::error::Error;
use figure::Figure;

/// What to measure.
#[derive(Args)]
pub struct BenchArgs {
    /// Where the graphs and files are made, on the disk that is to be measured [default: a folder beside the binaries]
    #[arg(long, value_name = "DIR", global = true)]
    scratch: Option<PathBuf>,
    /// Take the programs from this folder, and build none
    #[arg(long, value_name = "DIR", global = true)]
    pub binaries: Option<PathBuf>,
    /// Rounds of each comparison
    #[arg(long, default_value_t = 7, value_name = "N", global = true)]
    rounds: usize,
    /// Only the cases whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Also a graph of 100,000 stages, which takes half an hour to run for the first time
    #[arg(long)]
    large: bool,
    #[command(subcommand)]
    of: Option<Of>,
}

/// What is measured in place of the runner.
#[derive(Subcommand)]
enum Of {
    /// Greedy generation beside transformers
    Generate(peers::PeerArgs),
    /// LoRA training beside transformers with peft
    Train(peers::PeerArgs),
    /// Rows to tokens beside `datasets.map`
    Tokenize(peers::PeerArgs),
    /// Win rates of an annotation file with length control, as a whole process
    Leaderboard(LeaderboardArgs),
}

/// The files of AlpacaEval.
#[derive(Args)]
struct LeaderboardArgs {
    /// Annotations of all 805 instructions
    #[arg(long, value_name = "FILE")]
    annotations: PathBuf,
    /// Difficulties and the gamed baseline
    #[arg(long, value_name = "FILE")]
    length_control: PathBuf,
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
    std::fs::create_dir_all(&scratch).map_err(Error::io("create", &scratch))?;
    let found = |path: &Path| path.canonicalize().map_err(Error::io("find", path));
    let bench = Bench { binaries: found(binaries)?, scratch: found(&scratch)?, rounds: args.rounds, large: args.large };
    say("| what | here | beside it | ratio | wanted |\n|---|---|---|---|---|")?;
    match &args.of {
        Some(Of::Generate(peers)) => bench.measure("generate", |folder| generation::generate(&bench, peers, folder)),
        Some(Of::Train(peers)) => bench.measure("train", |folder| training::train(&bench, peers, folder)),
        Some(Of::Tokenize(peers)) => bench.measure("tokenize", |folder| tokenize::tokenize(&bench, peers, folder)),
        Some(Of::Leaderboard(files)) => bench.measure("leaderboard", |folder| {
            cases::leaderboard(&bench, folder, &files.annotations, &files.length_control)
        }),
        None => cases::ALL
            .iter()
            .filter(|(name, _)| args.only.as_ref().is_none_or(|only| name.contains(only.as_str())))
            .try_for_each(|(name, case)| bench.measure(name, |folder| case(&bench, folder))),
    }
}

impl Bench {
    /// Measures in a folder of its own, and prints what came out.
    fn measure(&self, name: &str, case: impl FnOnce(&Path) -> std::io::Result<Vec<Figure>>) -> Result<(), Error> {
        let folder = self.scratch.join(name);
        let figures = case(&folder);
        let removed = std::fs::remove_dir_all(&folder);
        figures.map_err(Error::io("measure in", &folder))?.iter().try_for_each(|figure| say(&figure.row()))?;
        removed.map_err(Error::io("remove", &folder))
    }
}

fn say(line: &str) -> Result<(), Error> {
    writeln!(std::io::stdout(), "{line}").map_err(Error::io("write", Path::new("the table")))
}
