//! `neftpipe diff`.

mod instances;
mod rows;
mod runs;

use std::collections::HashSet;

use clap::Args;

use super::reference::{self, Target};
use super::show::introduce;
use super::{CliError, CliResult, Context};
use crate::exit::Exit;
use crate::record::{RunRecord, StageRecord};
use crate::store::{Artifact, Entry, Store};

/// Say what differs between two instances, or two runs: parameters, inputs, figures, answers.
#[derive(Debug, Args)]
pub struct DiffArgs {
    /// `[PIPELINE:]INSTANCE[@RUN]`, a digest's first digits, or RUN.
    #[arg(value_name = "A")]
    a: String,
    /// The same, to compare with.
    #[arg(value_name = "B")]
    b: String,
    /// Show every row that differs.
    #[arg(long)]
    all: bool,
}

/// One side: a result, with what its run knows of it.
struct Side {
    id: String,
    run: Option<String>,
    stage: Option<StageRecord>,
    entry: Entry,
    artifact: Artifact,
}

enum Sides {
    Run(Box<RunRecord>),
    Instance(Box<Side>),
}

pub(super) fn run(context: &Context, args: &DiffArgs) -> CliResult {
    let store = context.store_here()?;
    let mut introduced = HashSet::new();
    let mut side = |text: &str| side(context, &store, text, &mut introduced);
    match (side(&args.a)?, side(&args.b)?) {
        (Sides::Run(a), Sides::Run(b)) => runs::diff(context, &store, &a, &b)?,
        (Sides::Instance(a), Sides::Instance(b)) => instances::diff(context, &store, &a, &b, args.all)?,
        _ => return context.refuse("a run is compared with a run, and an instance with an instance"),
    }
    Ok(Exit::Success)
}

fn side(context: &Context, store: &Store, text: &str, introduced: &mut HashSet<String>) -> Result<Sides, CliError> {
    match reference::resolve(store, text)? {
        Target::Run(run) => Ok(Sides::Run(run)),
        Target::Instances(run, mut found) if found.len() == 1 => {
            if introduced.insert(run.run.clone()) {
                introduce(context, &run);
            }
            let named = reference::named(&run, found.remove(0))?;
            Ok(Sides::Instance(Box::new(Side::of(named, Some(run.run)))))
        }
        Target::Instances(_, found) => {
            let names: Vec<&str> = found.iter().map(|found| found.id.as_str()).collect();
            Err(CliError::usage(format!("several match `{text}`"))
                .with_hint(format!("name one of {}", names.join(", "))))
        }
        Target::Entry(entry, output) => {
            Ok(Sides::Instance(Box::new(Side::of(reference::of_entry(*entry, output)?, None))))
        }
        Target::File(path) => {
            Err(CliError::usage(format!("{} is a file: results of the store are compared", path.display())))
        }
    }
}

impl Side {
    fn of(named: reference::Named, run: Option<String>) -> Self {
        let reference::Named { id, artifact, entry, stage } = named;
        Self { id, run, stage, entry, artifact }
    }

    /// Its name, with the run where that tells the sides apart.
    fn name(&self, other: &Self) -> String {
        match &self.run {
            Some(run) if self.id == other.id => format!("{}@{run}", self.id),
            _ if self.id == other.id => format!("{} {}", self.id, self.artifact.digest.short()),
            _ => self.id.clone(),
        }
    }
}
