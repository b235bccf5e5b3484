//! The graph of instances: what a selection needs.

use petgraph::Direction;
use petgraph::graph::{DiGraph, NodeIndex};

use crate::spec::model::Pipeline;

/// Instances and their needs; an edge goes from an input to who needs it.
pub struct Graph {
    graph: DiGraph<(), ()>,
}

/// A set of instances, by index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection(Vec<bool>);

impl Selection {
    /// No instance.
    pub fn none(pipeline: &Pipeline) -> Self {
        Self(vec![false; pipeline.instances.len()])
    }

    /// Every instance.
    pub fn all(pipeline: &Pipeline) -> Self {
        Self(vec![true; pipeline.instances.len()])
    }

    /// These instances.
    pub fn of(pipeline: &Pipeline, indexes: &[usize]) -> Self {
        let mut selection = Self::none(pipeline);
        indexes.iter().for_each(|&index| selection.0[index] = true);
        selection
    }

    /// Whether it holds this instance.
    pub fn contains(&self, index: usize) -> bool {
        self.0[index]
    }

    /// The instances of either.
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| *a || *b).collect())
    }

    /// Its instances in order.
    pub fn indexes(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().filter_map(|(index, &is_in)| is_in.then_some(index))
    }
}

impl Graph {
    /// The graph of a pipeline.
    pub fn new(pipeline: &Pipeline) -> Self {
        let inputs = pipeline.instances.iter().map(|instance| instance.inputs.values().flatten());
        let mut graph = DiGraph::with_capacity(pipeline.instances.len(), pipeline.instances.len());
        pipeline.instances.iter().for_each(|_| {
            graph.add_node(());
        });
        for (index, inputs) in inputs.enumerate() {
            for input in inputs {
                graph.add_edge(NodeIndex::new(input.instance), NodeIndex::new(index), ());
            }
        }
        Self { graph }
    }

    /// The selected instances and all that they need.
    pub fn with_needs(&self, selection: &Selection) -> Selection {
        let mut reached = selection.clone();
        let mut open: Vec<usize> = selection.indexes().collect();
        while let Some(index) = open.pop() {
            for next in self.graph.neighbors_directed(NodeIndex::new(index), Direction::Incoming) {
                if !std::mem::replace(&mut reached.0[next.index()], true) {
                    open.push(next.index());
                }
            }
        }
        reached
    }
}
