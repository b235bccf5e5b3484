//! `neftpipe graph`.

mod layers;
mod svg;

use clap::{Args, ValueEnum};

use super::overrides::FileArgs;
use super::{CliResult, Context};
use crate::exit::Exit;
use crate::plan::{Plan, State};
use crate::spec::model::{Instance, Pipeline};
use crate::ui::printer::{BAD, DIM, GOOD, NOTICE, styled};

/// Print the graph of a pipeline's instances, with their states.
#[derive(Debug, Args)]
pub struct GraphArgs {
    #[command(flatten)]
    file: FileArgs,
    /// The form.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Format {
    /// An indented list.
    #[default]
    Text,
    /// Mermaid, for Markdown.
    Mermaid,
    /// Graphviz.
    Dot,
    /// A picture: a box a stage, with the states of its instances.
    Svg,
}

pub(super) fn run(context: &Context, args: &GraphArgs) -> CliResult {
    let (chosen, plan) = context.plan(&args.file, &[], &[])?;
    let (pipeline, plan) = (&chosen.pipeline, &plan);
    if context.printer.is_json() {
        context.printer.json(&super::plan::json(pipeline, plan))?;
        return Ok(Exit::Success);
    }
    let text = match args.format {
        Format::Text => text(pipeline, plan),
        Format::Mermaid => mermaid(pipeline, plan),
        Format::Dot => dot(pipeline, plan),
        Format::Svg => svg::svg(pipeline, plan),
    };
    context.printer.line(text.trim_end())?;
    Ok(Exit::Success)
}

/// The mark of a state in lists.
pub(super) fn mark(state: State) -> String {
    let style = match state {
        State::Cached => GOOD,
        State::Run => NOTICE,
        State::Pending => DIM,
        State::Blocked => BAD,
    };
    styled(style, state.name())
}

fn state(plan: &Plan, index: usize) -> State {
    plan.nodes[index].as_ref().map_or(State::Pending, |node| node.state)
}

fn needs(instance: &Instance) -> Vec<usize> {
    let mut needs: Vec<usize> = instance.inputs.values().flatten().map(|input| input.instance).collect();
    needs.sort_unstable();
    needs.dedup();
    needs
}

fn text(pipeline: &Pipeline, plan: &Plan) -> String {
    let line = |(index, instance): (usize, &Instance)| {
        let names: Vec<_> = needs(instance).iter().map(|&need| pipeline.instances[need].id.as_str()).collect();
        let from = if names.is_empty() { String::new() } else { styled(DIM, format!("  ← {}", names.join(" "))) };
        format!("{} {} {}{from}\n", mark(state(plan, index)), styled(DIM, instance.kind), instance.id)
    };
    pipeline.instances.iter().enumerate().map(line).collect()
}

fn mermaid(pipeline: &Pipeline, plan: &Plan) -> String {
    let mut text = String::from("flowchart LR\n");
    for (index, instance) in pipeline.instances.iter().enumerate() {
        text += &format!("  n{index}[\"{}\"]:::{}\n", instance.id.replace('"', "#quot;"), state(plan, index).name());
        for need in needs(instance) {
            text += &format!("  n{need} --> n{index}\n");
        }
    }
    text + "  classDef cached fill:#d5ead8,color:#000\n  classDef run fill:#fbe3b5,color:#000\n  classDef pending fill:#eee,color:#000\n  classDef blocked fill:#f2c4c4,color:#000\n"
}

fn dot(pipeline: &Pipeline, plan: &Plan) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut text = String::from("digraph pipeline {\n  rankdir=LR\n  node [shape=box, style=filled]\n");
    for (index, instance) in pipeline.instances.iter().enumerate() {
        let fill = match state(plan, index) {
            State::Cached => "#d5ead8",
            State::Run => "#fbe3b5",
            State::Pending => "#eeeeee",
            State::Blocked => "#f2c4c4",
        };
        text += &format!("  n{index} [label=\"{}\", fillcolor=\"{fill}\"]\n", quoted(&instance.id));
        for need in needs(instance) {
            text += &format!("  n{need} -> n{index}\n");
        }
    }
    text + "}\n"
}
