//! `neftpipe doctor`.

mod gpu;

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use neftpipe_protocol::Failure;
use neftpipe_protocol::params::Precision;
use neftpipe_protocol::request::Describe;
use serde_json::{Value, json};

use crate::cli::{CliError, CliResult, Context};
use crate::exec::{Machine, Workers};
use crate::exit::Exit;
use crate::store::{self, Usage};
use crate::ui::printer::{BAD, DIM, GOOD, HEADING, styled};
use crate::ui::table::{bytes, cell};

const WORKERS: [&str; 2] = ["neftpipe-stage", "neftpipe-stage-torch"];

/// Say what this machine has: processors, memory, disk and what the store takes of it, GPUs, the workers and their libraries.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Check what the GPU computes: losses beside those of the CPU, two runs beside each other, and tokens a second and
    /// memory of training Llama 3.2 1B and 3B. Takes some minutes, and no downloads: the weights are random numbers.
    /// Where there is no GPU the CPU is checked, and no size measured that is not asked for.
    #[arg(long)]
    gpu: bool,
    /// The sizes to measure; 1b and 3b where there is a GPU.
    #[arg(long, value_enum, requires = "gpu")]
    size: Vec<gpu::Size>,
    /// The number format to measure them in.
    #[arg(long, requires = "gpu", default_value = "bf16", value_parser = formats())]
    precision: Precision,
}

fn formats() -> impl TypedValueParser<Value = Precision> {
    let formats = PossibleValuesParser::new(["f32", "bf16"]);
    formats.map(|name| if name == "bf16" { Precision::Bf16 } else { Precision::F32 })
}

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

pub(in crate::cli) fn run(context: &Context, args: &DoctorArgs) -> CliResult {
    if args.gpu {
        return gpu::run(context, &args.size, args.precision);
    }
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
            text += &format!(
                "   {name:<10} {:>9}  {}\n",
                bytes(*size),
                styled(DIM, format!("{files} file{}", if *files == 1 { "" } else { "s" }))
            );
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
