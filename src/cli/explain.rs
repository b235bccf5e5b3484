//! `neftpipe explain`.

use clap::Args;
use serde_json::json;

use super::graph::mark;
use super::overrides::FileArgs;
use super::{Chosen, CliResult, Context};
use crate::exit::Exit;
use crate::facts::history;
use crate::plan::{Node, Preimage, differences, nearest};
use crate::spec::model::Instance;
use crate::ui::leaves::leaves;
use crate::ui::printer::{DIM, HEADING, styled};
use crate::ui::table::cell;

/// Say in full why an instance would run: each ingredient of its key that changed, old → new.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The instances: `train[variant=neft5,seed=0]`; axes may be left out.
    #[arg(value_name = "INSTANCE", required = true)]
    instances: Vec<String>,
}

pub(super) fn run(context: &Context, args: &ExplainArgs) -> CliResult {
    let (Chosen { pipeline, store, .. }, plan) = context.plan(&args.file, &[], &[])?;
    let mut explained = Vec::new();
    for index in context.select(&pipeline, &args.instances)?.indexes() {
        let (instance, node) =
            (&pipeline.instances[index], plan.nodes[index].as_ref().expect("everything was planned"));
        let neighbours = history(&store, &instance.stage);
        if context.printer.is_json() {
            explained.push(as_json(instance, node));
        } else {
            context.printer.line(text(instance, node, &neighbours))?;
        }
    }
    if context.printer.is_json() {
        context.printer.json(&json!({ "version": 1, "pipeline": pipeline.name, "stages": explained }))?;
    }
    Ok(Exit::Success)
}

fn as_json(instance: &Instance, node: &Node) -> serde_json::Value {
    json!({
        "id": instance.id, "kind": instance.kind, "key": node.key, "state": node.state, "reasons": node.reasons,
        "preimage": node.preimage,
    })
}

fn text(instance: &Instance, node: &Node, neighbours: &[(String, Preimage)]) -> String {
    let mut text = format!("{} {}\n", mark(node.state), styled(HEADING, &instance.id));
    if let Some(failure) = &node.failure {
        text += &format!("  {}\n", failure.message);
    }
    for reason in &node.reasons {
        text += &format!("  {reason}\n");
    }
    if node.reasons == [crate::plan::Reason::NeverRan] {
        text += &nearest_neighbour(node, neighbours);
    }
    match &node.preimage {
        Some(preimage) => text += &ingredients(node, preimage),
        None => text += &styled(DIM, "  its key is known once what it waits for has run\n"),
    }
    text.trim_end().to_owned()
}

/// An instance that is new under its name may be near to another of its stage.
fn nearest_neighbour(node: &Node, neighbours: &[(String, Preimage)]) -> String {
    let Some(preimage) = &node.preimage else { return String::new() };
    let earlier: Vec<Preimage> = neighbours.iter().map(|(_, old)| old.clone()).collect();
    let Some(old) = nearest(preimage, &earlier) else { return String::new() };
    let name = neighbours.iter().find(|(_, other)| other == old).map_or("", |(id, _)| id.as_str());
    let mut text = format!("  the nearest earlier result is {name}:\n");
    for reason in differences(old, preimage) {
        text += &format!("    {reason}\n");
    }
    text
}

fn ingredients(node: &Node, preimage: &Preimage) -> String {
    let mut text = styled(DIM, "  key\n");
    let mut row = |name: &str, value: String| text += &format!("    {name:<24} {value}\n");
    if let Some(key) = node.key {
        row("digest", key.to_string());
    }
    row("kind", format!("{}@{}", preimage.kind, preimage.version));
    leaves(&preimage.params).iter().for_each(|(path, value)| row(path, cell(value)));
    for (slot, inputs) in &preimage.inputs {
        for input in inputs {
            let axes = input.axes.iter().flatten().map(|(axis, value)| format!(" {axis}={}", cell(value)));
            row(&format!("input {slot}"), input.digest.short() + &axes.collect::<String>());
        }
    }
    for (path, digest) in &preimage.contents {
        row(path, digest.short());
    }
    for (name, digest) in &preimage.env {
        row(&format!("env {name}"), digest.map_or("not set".to_owned(), |digest| digest.short()));
    }
    text
}
