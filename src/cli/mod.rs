//! The command line: one file a subcommand, each an `Args` struct (its comments are the help) and one function.

mod bill;
mod cancel;
mod completions;
mod confirm;
mod context;
mod detach;
mod diff;
mod doctor;
mod error;
mod explain;
mod export;
mod figures;
mod follow;
mod forecast;
mod gc;
mod graph;
mod init;
mod keep;
mod logs;
mod overrides;
mod path;
mod plan;
mod pull;
mod push;
mod reference;
mod run;
mod runs;
mod safetensors;
mod schema;
mod share;
mod show;
mod table;
mod verify;

use std::io;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};

use context::{Chosen, Context};
pub use error::{CliError, CliResult};

use crate::exit::Exit;
use crate::ui::printer::{Color, Printer};

/// Declarative pipelines for fine-tuning language models: download → tokenize → train with a NEFTune variant →
/// generate → judge → report, as a content-hashed DAG, so that a rerun does only what changed.
#[derive(Debug, Parser)]
#[command(name = "neftpipe", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Directory of the store [default: `cache/` of the project].
    #[arg(long, global = true, value_name = "DIR", env = crate::env::STORE, value_parser = any_path())]
    store: Option<PathBuf>,
    /// Print results as JSON (`run`: one event a line).
    #[arg(long, global = true)]
    json: bool,
    /// Log more on stderr; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Print only results, warnings and errors.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// When to colour.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
}

/// A path, or nothing: a variable that is set to nothing is not set.
fn any_path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Plan(plan::PlanArgs),
    Explain(explain::ExplainArgs),
    Show(show::ShowArgs),
    Path(path::PathArgs),
    Export(export::ExportArgs),
    Table(table::TableArgs),
    Diff(diff::DiffArgs),
    Graph(graph::GraphArgs),
    Logs(logs::LogsArgs),
    Runs(runs::RunsArgs),
    Cancel(cancel::CancelArgs),
    Keep(keep::KeepArgs),
    Push(push::PushArgs),
    Pull(pull::PullArgs),
    Gc(gc::GcArgs),
    Verify(verify::VerifyArgs),
    Init(init::InitArgs),
    Doctor(doctor::DoctorArgs),
    Schema(schema::SchemaArgs),
    Completions(completions::CompletionsArgs),
}

/// Carries out a command line.
pub fn run(cli: Cli) -> Exit {
    let Global { store, json, verbose, quiet, color } = cli.global;
    let printer = Printer::new(json, quiet, color);
    start_log(verbose);
    let context = Context::new(printer, store.filter(|path| !path.as_os_str().is_empty()));
    let result = match cli.command {
        Command::Run(args) => run::run(&context, &args),
        Command::Plan(args) => plan::run(&context, &args),
        Command::Explain(args) => explain::run(&context, &args),
        Command::Show(args) => show::run(&context, &args),
        Command::Path(args) => path::run(&context, &args),
        Command::Export(args) => export::run(&context, &args),
        Command::Table(args) => table::run(&context, &args),
        Command::Diff(args) => diff::run(&context, &args),
        Command::Graph(args) => graph::run(&context, &args),
        Command::Logs(args) => logs::run(&context, &args),
        Command::Runs(args) => runs::run(&context, &args),
        Command::Cancel(args) => cancel::run(&context, &args),
        Command::Keep(args) => keep::run(&context, &args),
        Command::Push(args) => push::run(&context, &args),
        Command::Pull(args) => pull::run(&context, &args),
        Command::Gc(args) => gc::run(&context, &args),
        Command::Verify(args) => verify::run(&context, &args),
        Command::Init(args) => init::run(&context, &args),
        Command::Doctor(args) => doctor::run(&context, &args),
        Command::Schema(args) => schema::run(&context, &args),
        Command::Completions(args) => completions::run(&context, &args),
    };
    result.unwrap_or_else(|error| error.report(printer))
}

fn start_log(verbose: u8) {
    let level = ["warn", "neftpipe=info", "neftpipe=debug"][usize::from(verbose.min(2))];
    let filter = crate::env::log().unwrap_or_else(|| level.to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::builder().parse_lossy(filter))
        .with_writer(io::stderr)
        .with_ansi(anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never)
        .without_time()
        .with_target(false)
        .init();
}
