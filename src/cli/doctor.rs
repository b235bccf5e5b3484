//! `neftpipe doctor`.

use std::path::PathBuf;

use clap::Args;
use neftpipe_protocol::Failure;
use neftpipe_protocol::request::Describe;
use serde_json::{Value, json};

use super::{CliError, CliResult, Context};
use crate::exec::{Machine, Workers};
use crate::exit::Exit;
use crate::store::{self, Usage};
use crate::ui::printer::{BAD, DIM, GOOD, HEADING, styled};
use crate::ui::table::{bytes, cell};

const WORKERS: [&str; 2] = ["neftpipe-stage", "neftpipe-stage-torch"];

/// Say what this machine has: processors, memory, disk and what the store takes of it, GPUs, the workers and their libraries.
#[derive(Debug, Args)]
pub struct DoctorArgs {}

/// What was found.
struct Findings {
    machine: Machine,
    store: PathBuf,
    free_bytes: Option<u64>,
    /// What the store holds; nothing where there is none yet.
    usage: Vec<Usage>,
    workers: Vec<(PathBuf, Result<Describe, Failure>)>,
    missing: Vec<&'static str>,
}

pub(super) fn run(context: &Context, _: &DoctorArgs) -> CliResult {
    let findings = look(context)?;
    if context.printer.is_json() {
        context.printer.json(&findings.json())?;
    } else {
        context.printer.line(findings.text().trim_end())?;
    }
    Ok(if findings.is_healthy() { Exit::Success } else { Exit::Environment })
}

fn look(context: &Context) -> Result<Findings, CliError> {
    let root = context.root_here()?;
    let workers = Workers::new(crate::env::workers(), root.join("workers.json")).all();
    let is_there = |name: &&str| workers.iter().any(|(path, _)| path.file_name().is_some_and(|file| file == *name));
    Ok(Findings {
        machine: Machine::detect(crate::env::visible_gpus().as_deref()),
        free_bytes: store::free_bytes(&root),
        usage: context.find_store_here()?.map(|store| store.usage()).unwrap_or_default(),
        missing: WORKERS.into_iter().filter(|name| !is_there(name)).collect(),
        store: root,
        workers,
    })
}

impl Findings {
    fn is_healthy(&self) -> bool {
        self.missing.is_empty() && self.workers.iter().all(|(_, describe)| describe.is_ok())
    }

    fn json(&self) -> Value {
        let worker = |(path, describe): &(PathBuf, Result<_, Failure>)| match describe {
            Ok(describe) => json!({ "path": path, "describe": describe }),
            Err(failure) => json!({ "path": path, "error": failure.message }),
        };
        json!({
            "version": 1, "healthy": self.is_healthy(), "cpus": self.machine.cpus,
            "memory_bytes": self.machine.memory_bytes, "gpus": self.machine.gpus, "store": self.store,
            "free_bytes": self.free_bytes, "usage": self.usage,
            "workers": self.workers.iter().map(worker).collect::<Vec<_>>(), "missing": self.missing,
        })
    }

    fn text(&self) -> String {
        let Machine { cpus, memory_bytes, gpus, .. } = &self.machine;
        let gpus = if gpus.is_empty() { "none".to_owned() } else { gpus.join(", ") };
        let free = self.free_bytes.map_or("unknown".to_owned(), bytes);
        let mut text = format!("cores    {cpus}\nmemory   {}\nGPUs     {gpus}\n", bytes(*memory_bytes));
        text += &format!("store    {} ({free} free)\n", self.store.display());
        for Usage { name, files, bytes: size } in self.usage.iter().filter(|part| part.files > 0) {
            text += &format!("   {name:<10} {:>9}  {}\n", bytes(*size), styled(DIM, format!("{files} files")));
        }
        for (path, describe) in &self.workers {
            text += &match describe {
                Ok(describe) => {
                    let name = styled(HEADING, &describe.worker);
                    let facts = describe.facts.iter().map(|(name, value)| format!("   {name:<18} {}\n", cell(value)));
                    format!("\n{} {name}  {}\n{}", styled(GOOD, "ok"), path.display(), facts.collect::<String>())
                }
                Err(failure) => format!("\n{} {failure}\n", styled(BAD, "error")),
            };
        }
        for name in &self.missing {
            text += &format!("\n{} the worker {name} is not installed\n", styled(BAD, "error"));
        }
        text
    }
}
