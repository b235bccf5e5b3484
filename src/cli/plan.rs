//! `neftpipe plan`.

use clap::Args;
use serde_json::{Value, json};

use super::bill::Bill;
use super::forecast::{Forecast, TrainingMemory, forecast, steps_text, training_memory, training_steps};
use super::graph::mark;
use super::overrides::FileArgs;
use super::{Chosen, CliError, CliResult, Context};
use crate::exit::Exit;
use crate::plan::{Node, Outdated, Plan, Reason, State, Steps, in_a_line};
use crate::spec::model::Pipeline;
use crate::ui::printer::{DIM, styled};

/// Characters of the longest state.
const STATE: usize = "pending".len();

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
    /// Count with a run that may spend at most this much on judges that cost money.
    #[arg(long, value_name = "N", value_parser = dollars)]
    max_cost_usd: Option<f64>,
}

/// An amount of dollars.
pub(super) fn dollars(text: &str) -> Result<f64, String> {
    match text.trim_start_matches('$').parse::<f64>() {
        Ok(amount) if amount.is_finite() && amount >= 0.0 => Ok(amount),
        _ => Err("an amount of dollars is wanted: 20, 0.5".to_owned()),
    }
}

pub(super) fn run(context: &Context, args: &PlanArgs) -> CliResult {
    let (chosen, plan) = context.plan(&args.file, &args.selectors, &args.force)?;
    print(context, &chosen, &plan, args.max_cost_usd)?;
    Ok(Exit::Success)
}

/// Prints a plan, and what it will take where judges may cost so much, in the form that was asked for.
pub(super) fn print(context: &Context, chosen: &Chosen, plan: &Plan, cap_usd: Option<f64>) -> Result<(), CliError> {
    let forecast = forecast(&chosen.pipeline, plan, &chosen.store)?;
    let steps = training_steps(&chosen.pipeline, plan, &chosen.store)?;
    let bill = Bill::new(&chosen.pipeline, plan, &chosen.store, cap_usd);
    bill.warnings().into_iter().for_each(|warning| context.printer.warning(warning));
    let memory = training_memory(&chosen.pipeline, plan, &chosen.store);
    if context.printer.is_json() {
        let mut value = json(&chosen.pipeline, plan);
        add_bill(&mut value, plan, &bill);
        if let Some(steps) = steps {
            value["training_steps"] = json!(steps);
            value["training_memory"] = json!(memory);
        }
        if let Some(forecast) = forecast {
            add_forecast(&mut value, plan, &forecast);
        }
        return Ok(context.printer.json(&value)?);
    }
    let forecasts = Forecasts { forecast: forecast.as_ref(), steps, memory: &memory, bill: &bill };
    Ok(context.printer.line(text(&chosen.pipeline, plan, forecasts, context.printer.width()))?)
}

/// What is told beside the states.
struct Forecasts<'a> {
    forecast: Option<&'a Forecast>,
    steps: Option<Steps>,
    memory: &'a [TrainingMemory],
    bill: &'a Bill,
}

fn add_bill(value: &mut Value, plan: &Plan, bill: &Bill) {
    let planned = (0..plan.nodes.len()).filter(|&index| plan.nodes[index].is_some());
    for (stage, index) in value["stages"].as_array_mut().into_iter().flatten().zip(planned) {
        if let Some(judging) = bill.json_of(index) {
            stage["judging"] = judging;
        }
    }
    if let Some(most) = bill.most_usd().filter(|_| bill.asks()) {
        value["most_usd"] = json!(most);
    }
}

fn add_forecast(value: &mut Value, plan: &Plan, forecast: &Forecast) {
    let planned = (0..plan.nodes.len()).filter(|&index| plan.nodes[index].is_some());
    for (stage, index) in value["stages"].as_array_mut().into_iter().flatten().zip(planned) {
        if let Some(cost) = forecast.estimate.costs[index] {
            stage["estimate"] = json!(cost);
        }
    }
    value["estimate"] = forecast.json();
}

/// The documented JSON of a plan.
pub(super) fn json(pipeline: &Pipeline, plan: &Plan) -> Value {
    let stages: Vec<Value> = nodes(pipeline, plan)
        .map(|(_, id, kind, node)| {
            let mut stage = json!({
                "id": id, "kind": kind, "key": node.key, "state": node.state, "reasons": node.reasons,
            });
            if let Some(failure) = &node.failure {
                stage["error"] = json!({ "message": failure.message, "hint": failure.hint });
            }
            stage
        })
        .collect();
    let mut value = json!({ "version": 1, "pipeline": pipeline.name, "stages": stages, "counts": plan.counts() });
    let outdated = plan.outdated(pipeline);
    if !outdated.is_empty() {
        value["outdated"] = json!(outdated);
    }
    value
}

fn text(pipeline: &Pipeline, plan: &Plan, forecasts: Forecasts<'_>, terminal: Option<usize>) -> String {
    let Forecasts { forecast, steps, memory, bill } = forecasts;
    let counts = plan.counts();
    let mut text = format!(
        "{}: {} to run, {} waiting for them, {} cached{}\n",
        pipeline.name,
        counts.run,
        counts.pending,
        counts.cached,
        if counts.blocked > 0 { format!(", {} blocked", counts.blocked) } else { String::new() },
    );
    if let Some(forecast) = forecast {
        text += &format!("{}\n", forecast.text());
    }
    if let Some(steps) = steps {
        text += &format!("{}\n", steps_text(steps));
    }
    for stage in memory {
        text += &format!("{}\n", stage.text());
    }
    let asked = bill.text();
    if !asked.is_empty() {
        text += &format!("{asked}\n");
    }
    for Outdated { kind, old, new, results } in plan.outdated(pipeline) {
        let (noun, them) = if results == 1 { ("result", "it as it is") } else { ("results", "them as they are") };
        text += &format!("{kind}@{old} → {kind}@{new}: {results} {noun}; --accept {kind}@{old} takes {them}\n");
    }
    let width = nodes(pipeline, plan).map(|(_, id, ..)| id.chars().count()).max().unwrap_or(0).min(60);
    for (index, id, _, node) in nodes(pipeline, plan) {
        let state = format!("{}{}", mark(node.state), " ".repeat(STATE - node.state.name().len()));
        let time = forecast.map_or(String::new(), |forecast| format!("  {:>6}", forecast.time_of(index)));
        let told = format!("{id:<width$}{time}");
        let why = why(node);
        let fits = terminal.is_none_or(|terminal| STATE + 6 + told.chars().count() + why.chars().count() <= terminal);
        text += &match why.is_empty() {
            true => format!("  {state}  {}\n", told.trim_end()),
            false if fits => format!("  {state}  {told}  {}\n", styled(DIM, why)),
            false => format!("  {state}  {}\n  {:STATE$}    {}\n", told.trim_end(), "", styled(DIM, why)),
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
    in_a_line(&node.reasons)
}

/// Index, id, kind and node of what was planned.
fn nodes<'a>(pipeline: &'a Pipeline, plan: &'a Plan) -> impl Iterator<Item = (usize, &'a str, &'static str, &'a Node)> {
    let pairs = pipeline.instances.iter().zip(&plan.nodes).enumerate();
    pairs.filter_map(|(index, (instance, node))| {
        Some((index, instance.id.as_str(), instance.kind.name(), node.as_ref()?))
    })
}
