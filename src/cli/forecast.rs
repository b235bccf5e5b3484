//! What a plan will take, from what earlier runs of the pipeline took, and how that is told.

use std::collections::HashSet;

use indexmap::IndexMap;
use neftpipe_protocol::Kind;
use serde::Serialize;
use serde_json::{Value, json};

use super::CliError;
use crate::engine::{training_bytes, training_rows};
use crate::exec::Machine;
use crate::plan::{Cost, Estimate, Plan, Steps};
use crate::record::past::Past;
use crate::spec::model::{Instance, Pipeline};
use crate::store::{Artifact, Store};
use crate::ui::printer::{NOTICE, styled};
use crate::ui::table::{bytes, seconds};

/// A plan's estimate beside the room there is.
pub(super) struct Forecast {
    pub estimate: Estimate,
    /// Room on the disk of the store.
    free_bytes: Option<u64>,
    /// Most memory that a stage took.
    peak_memory_bytes: Option<u64>,
}

/// What a plan will take. None where nothing has to be done, or no earlier run tells.
pub(super) fn forecast(pipeline: &Pipeline, plan: &Plan, store: &Store) -> Result<Option<Forecast>, CliError> {
    let instances = pipeline.instances.iter().zip(&plan.nodes);
    let wanted = instances.filter(|(_, node)| node.as_ref().is_some_and(|node| node.state.has_work()));
    let wanted: Vec<&str> = wanted.map(|(instance, _)| instance.id.as_str()).collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let past = Past::read(&store.runs_dir(), &pipeline.name, &wanted)?;
    let cost = |index: usize| {
        let before = past.forecast(&pipeline.instances[index])?;
        // What cannot be read costs a figure, not the plan.
        let bytes = before.key.and_then(|key| store.output_bytes(&key).ok().flatten());
        Some(Cost { seconds: before.seconds, bytes, guessed: before.guessed })
    };
    let Some(estimate) = Estimate::new(pipeline, plan, cost) else { return Ok(None) };
    let peak_memory_bytes = peak_memory(pipeline, &estimate, &past, store);
    Ok(Some(Forecast { estimate, free_bytes: store.free_bytes(), peak_memory_bytes }))
}

/// Most memory that these stages took when they were last carried out. Records are read for one instance a stage.
fn peak_memory(pipeline: &Pipeline, estimate: &Estimate, past: &Past, store: &Store) -> Option<u64> {
    const RECORDS: usize = 32;
    let mut stages = HashSet::new();
    let wanted = pipeline.instances.iter().zip(&estimate.costs).filter(|(_, cost)| cost.is_some());
    let firsts = wanted.filter(|(instance, _)| stages.insert(instance.stage.as_str())).take(RECORDS);
    let entries = firsts.filter_map(|(instance, _)| store.entry(&past.forecast(instance)?.key?).ok().flatten());
    entries.filter_map(|entry| entry.measured.get("peak_memory_bytes")?.as_u64()).max()
}

/// The optimizer steps of a plan's training: asked, and to be computed. None where it trains nothing.
pub(super) fn training_steps(pipeline: &Pipeline, plan: &Plan, store: &Store) -> Result<Option<Steps>, CliError> {
    let rows = |tokens: usize| training_rows(store, &planned_output(plan, store, tokens, "tokens")?).ok();
    let saved = store.state_keys()?;
    Ok(Steps::new(pipeline, plan, rows, |key| saved.contains(key)))
}

/// Steps for people: `320 steps of training asked, 200 to be computed`.
pub(super) fn steps_text(steps: Steps) -> String {
    let Steps { asked, computed, unknown } = steps;
    let mut text = match asked {
        0 => "training".to_owned(),
        _ if asked == computed => format!("{asked} steps of training"),
        _ => format!("{asked} steps of training asked, {computed} to be computed: the others are shared or saved"),
    };
    if unknown > 0 {
        text += &format!("; how many of {unknown} more, their tokens will tell");
    }
    text
}

/// What a training stage will take of memory.
#[derive(Debug, Serialize)]
pub(super) struct TrainingMemory {
    /// The stage.
    stage: String,
    /// The most that an arm of it takes at its peak; none where its model or its tokens are not there yet.
    needed_bytes: Option<u64>,
    /// Memory of this machine.
    machine_bytes: u64,
}

/// The first artifact of a slot, where it is there already.
pub(super) fn planned_input(plan: &Plan, store: &Store, of: &Instance, slot: &str) -> Option<Artifact> {
    let input = of.inputs.get(slot)?.first()?;
    planned_output(plan, store, input.instance, &input.output)
}

/// An output of a planned instance, where it is there already.
fn planned_output(plan: &Plan, store: &Store, instance: usize, output: &str) -> Option<Artifact> {
    let key = plan.nodes[instance].as_ref()?.key?;
    store.entry(&key).ok()??.outputs.swap_remove(output)
}

/// What the training stages of a plan will take of memory, by arithmetic.
pub(super) fn training_memory(pipeline: &Pipeline, plan: &Plan, store: &Store) -> Vec<TrainingMemory> {
    let machine_bytes = Machine::detect(None).memory_bytes;
    let needed = |arm: &Instance| {
        let input = |slot: &str| planned_input(plan, store, arm, slot);
        training_bytes(store, &arm.typed_params().ok()?, &input("model")?, &input("tokens")?)
    };
    let wanted = pipeline.instances.iter().zip(&plan.nodes);
    let wanted =
        wanted.filter(|(arm, node)| arm.kind == Kind::Train && node.as_ref().is_some_and(|node| node.state.has_work()));
    let mut stages: IndexMap<&str, Option<u64>> = IndexMap::new();
    for (arm, _) in wanted {
        let most = stages.entry(&arm.stage).or_default();
        *most = (*most).max(needed(arm));
    }
    let told =
        |(stage, needed_bytes): (&str, _)| TrainingMemory { stage: stage.to_owned(), needed_bytes, machine_bytes };
    stages.into_iter().map(told).collect()
}

impl TrainingMemory {
    /// For people: `train ≈ 14.2 of 24.0 GiB of memory`.
    pub fn text(&self) -> String {
        let Self { stage, machine_bytes, .. } = self;
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        let Some(needed) = self.needed_bytes else {
            return format!("{stage}: how much memory it takes, its model and tokens will tell");
        };
        let mut text = format!("{stage} ≈ {:.1} of {:.1} GiB of memory", gib(needed), gib(*machine_bytes));
        if needed > *machine_bytes {
            let advice = "that does not fit; lower `batch.micro`, or say `activation_checkpointing: true`";
            text += &format!("\n{}: {advice}", styled(NOTICE, "warning"));
        }
        text
    }
}

impl Forecast {
    /// The sums, for programs.
    pub fn json(&self) -> Value {
        let mut sums = serde_json::to_value(&self.estimate).expect("an estimate serialises");
        sums["free_bytes"] = json!(self.free_bytes);
        if let Some(peak) = self.peak_memory_bytes {
            sums["peak_memory_bytes"] = json!(peak);
        }
        sums
    }

    /// The time of one instance: `≈49s` where it is taken from another.
    pub fn time_of(&self, index: usize) -> String {
        self.estimate.costs[index].map_or(String::new(), |cost| time(cost.seconds, cost.guessed))
    }

    /// The sums, for people.
    pub fn text(&self) -> String {
        let Estimate { seconds: work, critical_path_seconds: chain, bytes: size, unknown, guessed, .. } = self.estimate;
        let mut text = format!("{} of work, {} along its longest chain", time(work, guessed), seconds(chain));
        if unknown > 0 {
            text += &format!("; nothing is known of {unknown} more");
        }
        if size > 0 {
            let free = self.free_bytes.map_or(String::new(), |free| format!("; {} are free", bytes(free)));
            text += &format!("\n{} of results{free}", bytes(size));
        }
        if let Some(peak) = self.peak_memory_bytes {
            text += &format!("\nup to {} of memory a stage", bytes(peak));
        }
        if self.free_bytes.is_some_and(|free| free < size) {
            text += &format!("\n{}: that does not fit; `neftpipe gc` makes room", styled(NOTICE, "warning"));
        }
        text
    }
}

fn time(span: f64, guessed: bool) -> String {
    format!("{}{}", if guessed { "≈" } else { "" }, seconds(span))
}
