//! Coordinates of the drawings that the template draws itself: strips of points and intervals, and the lineage as a graph.

use std::collections::BTreeSet;

use indexmap::IndexMap;
use neftpipe_protocol::request::Lineage;
use serde::Serialize;

use super::place::stage_name;

/// Room left and right of a strip's values, in per cent.
const MARGIN: f64 = 5.0;

/// A common axis of several strips, in per cent of their width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
}

impl Axis {
    /// From the least to the greatest value; a single value stands in the middle.
    pub fn around(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low < high { Self { low, high } } else { Self { low: low - 0.5, high: low + 0.5 } }
    }

    /// Where a value stands, to a hundredth of a per cent.
    pub fn place(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        ((MARGIN + share * (100.0 - 2.0 * MARGIN)) * 100.0).round() / 100.0
    }
}

/// A stage of the graph: all instances of one name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// The stage.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// How many instances it has.
    pub instances: usize,
    /// Left edge.
    pub x: usize,
    /// Upper edge.
    pub y: usize,
}

/// The stages above the report as a drawing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Graph {
    /// Stages.
    pub nodes: Vec<Node>,
    /// Paths of the edges, as SVG has them.
    pub edges: Vec<String>,
    /// Width of the drawing.
    pub width: usize,
    /// Height of the drawing.
    pub height: usize,
}

/// Width of a node.
pub const NODE_WIDTH: usize = 136;
/// Height of a node.
pub const NODE_HEIGHT: usize = 40;
const GAP_X: usize = 44;
const GAP_Y: usize = 18;

/// Lays the stages out in layers: each right of all that it needs. The page itself is the last node.
pub fn graph(lineage: &Lineage, last: &[&str]) -> Graph {
    let mut nodes: IndexMap<String, (String, usize, Vec<String>)> = IndexMap::new();
    for stage in &lineage.stages {
        let entry =
            nodes.entry(stage_name(&stage.id).to_owned()).or_insert_with(|| (stage.kind.to_string(), 0, Vec::new()));
        entry.1 += 1;
        for input in stage.inputs.values().flatten() {
            let from = stage_name(&input.stage).to_owned();
            if !entry.2.contains(&from) {
                entry.2.push(from);
            }
        }
    }
    let needs: BTreeSet<&str> = last.iter().map(|id| stage_name(id)).collect();
    let needs = needs.into_iter().map(str::to_owned).collect();
    nodes.insert("this page".to_owned(), ("report".to_owned(), 1, needs));
    drop_implied(&mut nodes);
    let places = places(&nodes);
    let edges = nodes.iter().flat_map(|(name, (_, _, needs))| needs.iter().map(move |from| (from, name)));
    let edges = edges.filter_map(|(from, to)| Some(edge(*places.get(from)?, *places.get(to)?))).collect();
    let node = |(name, (kind, instances, _)): (&String, &(String, usize, Vec<String>))| {
        let (x, y) = places[name];
        Node { name: name.clone(), kind: kind.clone(), instances: *instances, x, y }
    };
    let width = places.values().map(|place| place.0).max().unwrap_or(0) + NODE_WIDTH + 1;
    let height = places.values().map(|place| place.1).max().unwrap_or(0) + NODE_HEIGHT + 1;
    Graph { nodes: nodes.iter().map(node).collect(), edges, width, height }
}

/// Leaves out a need that follows from another: who needs `answers` needs the model that made them. Stages come after all
/// that they need, so one pass knows everything above each.
fn drop_implied(nodes: &mut IndexMap<String, (String, usize, Vec<String>)>) {
    let mut above: IndexMap<String, BTreeSet<String>> = IndexMap::new();
    for (name, (_, _, needs)) in nodes {
        let of = |need: &String| above.get(need).cloned().unwrap_or_default();
        let implied: BTreeSet<String> = needs.iter().flat_map(of).collect();
        above.insert(name.clone(), implied.iter().chain(needs.iter()).cloned().collect());
        needs.retain(|need| !implied.contains(need));
    }
}

fn places(nodes: &IndexMap<String, (String, usize, Vec<String>)>) -> IndexMap<String, (usize, usize)> {
    let mut layer_of: IndexMap<&str, usize> = IndexMap::new();
    for (name, (_, _, needs)) in nodes {
        let layer = needs.iter().filter_map(|from| layer_of.get(from.as_str())).map(|layer| layer + 1).max();
        layer_of.insert(name, layer.unwrap_or(0));
    }
    let layers = layer_of.values().max().map_or(0, |layer| layer + 1);
    let sizes: Vec<usize> = (0..layers).map(|at| layer_of.values().filter(|&&layer| layer == at).count()).collect();
    let tallest = sizes.iter().max().copied().unwrap_or(0);
    let mut used = vec![0; layers];
    let place = |(name, &layer): (&&str, &usize)| {
        let row = used[layer];
        used[layer] += 1;
        let above = (tallest - sizes[layer]) * (NODE_HEIGHT + GAP_Y) / 2;
        ((*name).to_owned(), (layer * (NODE_WIDTH + GAP_X), above + row * (NODE_HEIGHT + GAP_Y)))
    };
    layer_of.iter().map(place).collect()
}

fn edge(from: (usize, usize), to: (usize, usize)) -> String {
    let (x1, y1) = (from.0 + NODE_WIDTH, from.1 + NODE_HEIGHT / 2);
    let (x2, y2) = (to.0, to.1 + NODE_HEIGHT / 2);
    let bend = GAP_X / 2;
    format!("M{x1} {y1}C{} {y1} {} {y2} {x2} {y2}", x1 + bend, x2.saturating_sub(bend))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_share_an_axis() {
        let axis = Axis::around([-1.0, 3.0].into_iter());
        assert_eq!((axis.place(-1.0), axis.place(3.0), axis.place(1.0)), (5.0, 95.0, 50.0));
        assert_eq!(Axis::around([2.0].into_iter()).place(2.0), 50.0);
    }

    #[test]
    fn stages_stand_right_of_what_they_need() {
        let lineage: Lineage = serde_json::from_value(serde_json::json!({"stages": [
            {"id": "model", "kind": "download", "axes": {}, "params": {}, "inputs": {}, "outputs": {}, "key": "0".repeat(64)},
            {"id": "train[seed=0]", "kind": "train", "axes": {}, "params": {}, "outputs": {}, "key": "1".repeat(64),
             "inputs": {"model": [{"stage": "model", "output": "output"}]}},
            {"id": "train[seed=1]", "kind": "train", "axes": {}, "params": {}, "outputs": {}, "key": "2".repeat(64),
             "inputs": {"model": [{"stage": "model", "output": "output"}]}},
        ]}))
        .unwrap();
        let graph = graph(&lineage, &["train[seed=0]", "model", "train[seed=1]"]);
        let names: Vec<_> = graph.nodes.iter().map(|node| (node.name.as_str(), node.instances, node.x)).collect();
        assert_eq!(names, [("model", 1, 0), ("train", 2, 180), ("this page", 1, 360)]);
        assert_eq!(graph.edges.len(), 2, "that the page needs the model follows from the training");
    }
}
