//! `neftpipe path`.

use clap::Args;
use serde_json::json;

use super::{CliResult, Context, reference};
use crate::exit::Exit;

/// Print the read-only place of an artifact.
#[derive(Debug, Args)]
pub struct PathArgs {
    /// `[PIPELINE:]INSTANCE[@RUN]`, as `tokens.heldout` or `train[variant=neft5,seed=0]`, or a digest's first digits.
    #[arg(value_name = "REF")]
    reference: String,
}

pub(super) fn run(context: &Context, args: &PathArgs) -> CliResult {
    let store = context.store_here()?;
    let mut places = Vec::new();
    for named in reference::artifacts(&store, &args.reference)? {
        let path = store.view(&named.artifact)?;
        places.push(json!({ "id": named.id, "digest": named.artifact.digest, "path": path }));
        if !context.printer.is_json() {
            context.printer.line(path.display().to_string())?;
        }
    }
    if context.printer.is_json() {
        context.printer.json(&json!({ "version": 1, "paths": places }))?;
    }
    Ok(Exit::Success)
}
