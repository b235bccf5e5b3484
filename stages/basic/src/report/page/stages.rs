//! How the page shows what it was made from: the graph, and every stage with its parameters and digests.

use std::collections::BTreeMap;

use minijinja::value::Serde;
use minijinja::{Value, context};
use neftpipe_protocol::Kind;
use neftpipe_protocol::request::{Lineage, LineageStage};

use crate::report::drawing::{self, graph};
use crate::report::lineage::{defaults, leaves};
use crate::report::place::display;

/// The graph, and every stage with its parameters and digests.
pub fn lineage_view(lineage: &Lineage, last: &[&str]) -> Value {
    let stage = |stage: &LineageStage| {
        let params: Vec<(String, String)> =
            leaves(&stage.params).into_iter().map(|(name, value)| (name, display(value))).collect();
        let inputs: Vec<(String, String)> = stage
            .inputs
            .iter()
            .map(|(slot, inputs)| {
                let inputs: Vec<&str> = inputs.iter().map(|input| input.stage.as_str()).collect();
                (slot.clone(), inputs.join(", "))
            })
            .collect();
        context! {
            id => stage.id.clone(),
            kind => stage.kind.name(),
            label => stage.label.clone(),
            params => params,
            inputs => inputs,
            outputs => stage.outputs.iter().map(|(name, digest)| (name.clone(), digest.to_string())).collect::<Vec<_>>(),
            key => stage.key.to_string(),
        }
    };
    context! {
        pipeline => lineage.pipeline.clone(),
        graph => Value::from(Serde(graph(lineage, last))),
        node_width => drawing::NODE_WIDTH,
        node_height => drawing::NODE_HEIGHT,
        defaults => defaults(lineage).iter().map(of_kind).collect::<Vec<_>>(),
        stages => lineage.stages.iter().map(stage).collect::<Vec<_>>(),
    }
}

fn of_kind((kind, params): (&Kind, &BTreeMap<String, serde_json::Value>)) -> Value {
    let params: Vec<_> = params.iter().map(|(name, value)| (name.clone(), display(value))).collect();
    context! { kind => kind.name(), params => params }
}
