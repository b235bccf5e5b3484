//! How the inputs of a report were made: kinds, labels, parameters and digests, no paths and no times.

use std::collections::{BTreeSet, HashMap};

use indexmap::IndexMap;
use neftpipe_protocol::params::remove;
use neftpipe_protocol::request::{Lineage, LineageInput, LineageStage};
use neftpipe_protocol::{Digest, Kind};

use crate::spec::model::Pipeline;

/// What is known of a finished instance.
pub struct Made<'a> {
    /// Its key.
    pub key: Digest,
    /// Digests of its outputs.
    pub outputs: &'a IndexMap<String, Digest>,
    /// Rows to train on, where it made tokens and somebody asks.
    pub training_rows: Option<u64>,
}

/// Every stage above an instance, inputs before those who need them. `made` tells what a finished instance is.
pub fn lineage<'a>(pipeline: &Pipeline, index: usize, made: impl Fn(usize) -> Option<Made<'a>>) -> Lineage {
    let mut above = BTreeSet::new();
    let mut open = vec![index];
    while let Some(next) = open.pop() {
        for input in pipeline.instances[next].inputs.values().flatten() {
            if above.insert(input.instance) {
                open.push(input.instance);
            }
        }
    }
    let missing = above.iter().chain([&index]).flat_map(|&at| &pipeline.instances[at].missing).cloned().collect();
    let stages = above.into_iter().filter_map(|at| made(at).map(|made| stage(pipeline, at, made)));
    let file = pipeline.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Lineage { pipeline: file, stages: stages.collect(), missing }
}

/// The digest under which a lineage enters a report's key. Stages go by their place and the file's name stays out, so that
/// a new name for one is no reason to write the report anew; their keys stay out, since a stage that ran again and left the
/// same bytes is none, and so do rows of tokens, which their digests stand for.
pub fn digest(lineage: &Lineage) -> Digest {
    let places: HashMap<String, usize> =
        lineage.stages.iter().enumerate().map(|(place, stage)| (stage.id.clone(), place)).collect();
    let place = |id: &mut String| *id = places.get(id).map_or(String::new(), usize::to_string);
    let mut nameless = lineage.clone();
    nameless.pipeline.clear();
    for stage in &mut nameless.stages {
        place(&mut stage.id);
        stage.inputs.values_mut().flatten().for_each(|input| place(&mut input.stage));
    }
    let mut value = serde_json::to_value(nameless).expect("a lineage serialises");
    let follows = ["key", "training_rows"];
    let stages = value["stages"].as_array_mut().into_iter().flatten();
    stages.for_each(|stage| follows.iter().for_each(|name| remove(stage, name)));
    Digest::of_value("neftpipe 2026 lineage v1", &value)
}

/// Whether a kind is given its lineage.
pub fn is_wanted(kind: Kind) -> bool {
    kind == Kind::Report
}

fn stage(pipeline: &Pipeline, at: usize, made: Made<'_>) -> LineageStage {
    let instance = &pipeline.instances[at];
    let inputs = instance.inputs.iter().map(|(slot, inputs)| {
        let inputs = inputs.iter().map(|input| LineageInput {
            stage: pipeline.instances[input.instance].id.clone(),
            output: input.output.clone(),
        });
        (slot.clone(), inputs.collect())
    });
    LineageStage {
        id: instance.id.clone(),
        kind: instance.kind,
        label: instance.label.clone(),
        axes: instance.axes.clone(),
        params: instance.params.key(),
        inputs: inputs.collect(),
        outputs: made.outputs.clone(),
        training_rows: made.training_rows,
        key: made.key,
    }
}
