//! `neftpipe doctor`.

use clap::Args;
use serde_json::{Value, json};

use super::{CliResult, Context};
use crate::exec::{Machine, Workers};
use crate::exit::Exit;
use crate::store;
use crate::ui::printer::{BAD, GOOD, HEADING, styled};
use crate::ui::table::{bytes, cell};

/// Say what this machine has: processors, memory, disk, GPUs, the worker programs and their libraries.
#[derive(Debug, Args)]
pub struct DoctorArgs {}

pub(super) fn run(context: &Context, _: &DoctorArgs) -> CliResult {
    let root = context.root_here()?;
    let machine = Machine::detect(crate::env::visible_gpus().as_deref());
    let workers = Workers::new(crate::env::workers(), root.join("workers.json"));
    let found = workers.all();
    let missing = ["neftpipe-stage", "neftpipe-stage-torch"]
        .iter()
        .filter(|name| !found.iter().any(|(path, _)| path.file_name().is_some_and(|file| file == **name)));
    let missing: Vec<&str> = missing.copied().collect();
    let healthy = missing.is_empty() && found.iter().all(|(_, describe)| describe.is_ok());
    let free_bytes = store::free_bytes(&root);
    if context.printer.is_json() {
        let workers: Vec<Value> = found
            .iter()
            .map(|(path, describe)| match describe {
                Ok(describe) => json!({ "path": path, "describe": describe }),
                Err(failure) => json!({ "path": path, "error": failure.message }),
            })
            .collect();
        context.printer.json(&json!({
            "version": 1, "healthy": healthy, "cpus": machine.cpus, "memory_bytes": machine.memory_bytes,
            "gpus": machine.gpus, "store": root, "free_bytes": free_bytes, "workers": workers, "missing": missing,
        }))?;
    } else {
        let gpus = if machine.gpus.is_empty() { "none".to_owned() } else { machine.gpus.join(", ") };
        context.printer.line(format!(
            "cores    {}\nmemory   {}\nGPUs     {gpus}",
            machine.cpus,
            bytes(machine.memory_bytes)
        ))?;
        let free = free_bytes.map_or("unknown".to_owned(), bytes);
        context.printer.line(format!("store    {} ({free} free)", root.display()))?;
        for (path, describe) in &found {
            match describe {
                Ok(describe) => {
                    context.printer.line(format!(
                        "\n{} {}  {}",
                        styled(GOOD, "ok"),
                        styled(HEADING, &describe.worker),
                        path.display()
                    ))?;
                    for (name, value) in &describe.facts {
                        context.printer.line(format!("   {name:<18} {}", cell(value)))?;
                    }
                }
                Err(failure) => context.printer.line(format!("\n{} {failure}", styled(BAD, "error")))?,
            }
        }
        for name in &missing {
            context.printer.line(format!("\n{} the worker {name} is not installed", styled(BAD, "error")))?;
        }
    }
    Ok(if healthy { Exit::Success } else { Exit::Environment })
}
