//! `neftpipe init`.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use neftpipe_protocol::worker::io_failure;
use serde_json::json;

use super::{CliError, CliResult, Context};
use crate::exit::Exit;

const PIPELINE: &str = include_str!("first.yaml");

/// Begin a project: a small pipeline that runs as it is, and a store beside it.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The project's folder, which is made if need be.
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
}

pub(super) fn run(context: &Context, args: &InitArgs) -> CliResult {
    let file = args.dir.join("pipelines/first.yaml");
    write_new(&file, PIPELINE)?;
    let store = context.store_of(&file)?;
    if context.printer.is_json() {
        context.printer.json(&json!({ "version": 1, "pipeline": file, "store": store.root() }))?;
        return Ok(Exit::Success);
    }
    context.printer.line(file.display().to_string())?;
    let enter = if args.dir == Path::new(".") { String::new() } else { format!("  cd {}\n", args.dir.display()) };
    context.printer.note(format!(
        "the store is {}\nnext:\n{enter}  neftpipe plan pipelines/first.yaml\n  neftpipe run pipelines/first.yaml",
        store.root().display()
    ));
    Ok(Exit::Success)
}

/// Writes a file that is not there yet.
fn write_new(file: &Path, text: &str) -> Result<(), CliError> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(|error| io_failure("create", folder, &error))?;
    match File::create_new(file) {
        Ok(mut created) => Ok(created.write_all(text.as_bytes()).map_err(|error| io_failure("write", file, &error))?),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            Err(CliError::usage(format!("{} is there already", file.display()))
                .with_hint("it is left as it is; name another folder, or run it"))
        }
        Err(error) => Err(io_failure("create", file, &error).into()),
    }
}
