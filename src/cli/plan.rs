//! `neftpipe plan`.

use clap::Args;
use serde_json::{Value, json};

use super::graph::mark;
use super::overrides::FileArgs;
use super::{CliResult, Context};
use crate::exit::Exit;
use crate::plan::{Node, Plan, Reason, State};
use crate::spec::model::Pipeline;
use crate::ui::printer::{DIM, styled};

/// Say what a run would do, and why: what is cached, what would run, what waits for it.
#[derive(Debug, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Only these instances and what they need: `train[variant=neft5]`; a trailing `+` adds what depends on them.
    #[arg(value_name = "SELECTOR")]
    selectors: Vec<String>,
    /// Plan as if these had no result.
    #[arg(long, value_name = "SELECTOR")]
    force: Vec<String>,
}

pub(super) fn run(context: &Context, args: &PlanArgs) -> CliResult {
    let (chosen, plan) = context.plan(&args.file, &args.selectors, &args.force)?;
    print(context, &chosen.pipeline, &plan)?;
    Ok(Exit::Success)
}

/// Prints a plan in the form that was asked for.
pub(super) fn print(context: &Context, pipeline: &Pipeline, plan: &Plan) -> std::io::Result<()> {
    if context.printer.is_json() {
        context.printer.json(&json(pipeline, plan))
    } else {
        context.printer.line(text(pipeline, plan))
    }
}

/// The documented JSON of a plan.
pub(super) fn json(pipeline: &Pipeline, plan: &Plan) -> Value {
    let stages: Vec<Value> = nodes(pipeline, plan)
        .map(|(id, kind, node)| {
            let mut stage = json!({
                "id": id, "kind": kind, "key": node.key, "state": node.state, "reasons": node.reasons,
            });
            if let Some(failure) = &node.failure {
                stage["error"] = json!({ "message": failure.message, "hint": failure.hint });
            }
            stage
        })
        .collect();
    json!({ "version": 1, "pipeline": pipeline.name, "stages": stages, "counts": plan.counts() })
}

fn text(pipeline: &Pipeline, plan: &Plan) -> String {
    let counts = plan.counts();
    let mut text = format!(
        "{}: {} to run, {} waiting for them, {} cached{}\n",
        pipeline.name,
        counts.run,
        counts.pending,
        counts.cached,
        if counts.blocked > 0 { format!(", {} blocked", counts.blocked) } else { String::new() },
    );
    let width = nodes(pipeline, plan).map(|(id, ..)| id.chars().count()).max().unwrap_or(0).min(60);
    for (id, _, node) in nodes(pipeline, plan) {
        let padding = " ".repeat("pending".len() - node.state.name().len());
        let why = why(node);
        text += &match why.is_empty() {
            true => format!("  {}{padding}  {id}\n", mark(node.state)),
            false => format!("  {}{padding}  {id:<width$}  {}\n", mark(node.state), styled(DIM, why)),
        };
    }
    text.trim_end().to_owned()
}

/// The reasons in one line; a waiting instance names what it waits for, not each slot.
fn why(node: &Node) -> String {
    if let Some(failure) = &node.failure {
        return failure.message.clone();
    }
    if node.state == State::Pending {
        let mut waits: Vec<&str> = node
            .reasons
            .iter()
            .filter_map(|reason| match reason {
                Reason::InputPending { stage, .. } => Some(stage.as_str()),
                _ => None,
            })
            .collect();
        waits.dedup();
        return match waits.as_slice() {
            [] => String::new(),
            [only] => format!("waits for {only}"),
            [first, rest @ ..] => format!("waits for {first} and {} more", rest.len()),
        };
    }
    node.reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn nodes<'a>(pipeline: &'a Pipeline, plan: &'a Plan) -> impl Iterator<Item = (&'a str, &'static str, &'a Node)> {
    let pairs = pipeline.instances.iter().zip(&plan.nodes);
    pairs.filter_map(|(instance, node)| Some((instance.id.as_str(), instance.kind.name(), node.as_ref()?)))
}
