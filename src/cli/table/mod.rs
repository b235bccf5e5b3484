//! `neftpipe table`.

mod instances;
mod long;
mod mixed;

use std::io::{IsTerminal, stdout};

use clap::{Args, ValueEnum};
use neftpipe_protocol::Failure;
use serde_json::json;

use super::{CliError, CliResult, Context};
use crate::exit::Exit;
use crate::ui::frame::{Frame, Record};

/// Make a table of results: one row an instance with its axes, parameters and figures, for people or for other programs.
#[derive(Debug, Args)]
pub struct TableArgs {
    /// `[PIPELINE:]INSTANCE[@RUN]` (axes left out mean all that match), RUN, or a digest's first digits.
    #[arg(value_name = "REF", required = true)]
    references: Vec<String>,
    /// The form.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// One row a training step: loss, learning rate, alpha.
    #[arg(long, conflicts_with = "rows")]
    steps: bool,
    /// One row an answer, verdict or prompt.
    #[arg(long)]
    rows: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// What differs between the rows, for people.
    #[default]
    Text,
    /// Everything, with a heading row.
    Csv,
    /// Everything, typed, for data frames.
    Parquet,
    /// Everything (as `--json`).
    Json,
}

pub(super) fn run(context: &Context, args: &TableArgs) -> CliResult {
    let format = if context.printer.is_json() { Format::Json } else { args.format };
    if format == Format::Parquet && stdout().is_terminal() {
        return Err(
            CliError::usage("Parquet is nothing for a terminal").with_hint("send it to a file: > table.parquet")
        );
    }
    let store = context.store_here()?;
    let rows = instances::find(context, &store, &args.references)?;
    let (records, mixed) = if args.steps {
        (long::steps(&store, &rows)?, Vec::new())
    } else if args.rows {
        (long::rows(&store, &rows)?, Vec::new())
    } else {
        let mut records: Vec<Record> = rows.iter().map(instances::Row::record).collect();
        if format == Format::Text {
            instances::leave_out_defaults(&mut records, &rows);
        }
        let mixed = mixed::of(&records);
        (records, mixed)
    };
    mixed.iter().for_each(|mix| context.printer.warning(mix.text()));
    let frame = Frame::new(&records);
    match format {
        Format::Text => context.printer.line(frame.text(context.printer.width()))?,
        Format::Csv => context.printer.bytes(&frame.csv())?,
        Format::Parquet => {
            let file = frame.parquet().map_err(|error| Failure::internal(format!("Parquet: {error}")))?;
            context.printer.bytes(&file)?;
        }
        Format::Json => {
            let mixed: serde_json::Map<_, _> = mixed.into_iter().map(|mix| (mix.name, json!(mix.values))).collect();
            context.printer.json(&json!({ "version": 1, "rows": frame.json(), "mixed": mixed }))?;
        }
    }
    Ok(Exit::Success)
}
