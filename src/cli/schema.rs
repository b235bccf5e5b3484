//! `neftpipe schema`.

use clap::Args;

use super::{CliResult, Context};
use crate::exit::Exit;
use crate::spec::schema::pipeline_schema;

/// Print the JSON Schema of pipeline files, for completion and checks in editors.
#[derive(Debug, Args)]
pub struct SchemaArgs {}

pub(super) fn run(context: &Context, _: &SchemaArgs) -> CliResult {
    context.printer.line(serde_json::to_string_pretty(&pipeline_schema()).expect("a schema serialises"))?;
    Ok(Exit::Success)
}
