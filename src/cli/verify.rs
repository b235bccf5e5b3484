//! `neftpipe verify`.

use clap::Args;
use serde_json::{Value, json};

use super::{CliResult, Context};
use crate::exit::Exit;
use crate::ui::printer::{BAD, GOOD, styled};
use crate::ui::table::bytes;

/// Read every byte of the store, and say what is not as it should be.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Set aside what is damaged, so that the next run makes it again.
    #[arg(long)]
    repair: bool,
}

fn files_are(count: usize) -> String {
    if count == 1 { "1 file is".to_owned() } else { format!("{count} files are") }
}

pub(super) fn run(context: &Context, args: &VerifyArgs) -> CliResult {
    let store = context.store_here()?;
    let verified = store.verify(args.repair)?;
    let whole = verified.damaged.is_empty() && verified.incomplete.is_empty();
    if context.printer.is_json() {
        let damaged: Vec<Value> =
            verified.damaged.iter().map(|damage| json!({ "path": damage.path, "problem": damage.problem })).collect();
        let incomplete: Vec<Value> = verified
            .incomplete
            .iter()
            .map(|(key, stage, missing)| json!({ "key": key, "stage": stage, "missing_files": missing }))
            .collect();
        context.printer.json(&json!({
            "version": 1, "whole": whole, "results": verified.entries, "files": verified.blobs,
            "bytes": verified.bytes, "damaged": damaged, "incomplete": incomplete,
        }))?;
    } else {
        for damage in &verified.damaged {
            context.printer.line(format!(
                "{} {}: {}",
                styled(BAD, "damaged"),
                damage.path.display(),
                damage.problem
            ))?;
        }
        for (_, stage, missing) in &verified.incomplete {
            context.printer.line(format!("{} {stage}: {} gone", styled(BAD, "incomplete"), files_are(*missing)))?;
        }
        let word = if whole { styled(GOOD, "whole") } else { styled(BAD, "not whole") };
        let size = bytes(verified.bytes);
        context.printer.line(format!("{word}: {} results, {} files, {size}", verified.entries, verified.blobs))?;
    }
    Ok(if whole || args.repair { Exit::Success } else { Exit::Failed })
}
