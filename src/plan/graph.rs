//! The graph of instances: what a selection needs, and what depends on it.

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

    /// Those for which the test holds.
    pub fn matching(pipeline: &Pipeline, test: impl Fn(usize) -> bool) -> Self {
        Self((0..pipeline.instances.len()).map(test).collect())
    }

    /// Whether it holds this instance.
    pub fn contains(&self, index: usize) -> bool {
        self.0[index]
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        !self.0.contains(&true)
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
        self.closure(selection, Direction::Incoming)
    }

    /// The selected instances and all that depends on them.
    pub fn with_dependents(&self, selection: &Selection) -> Selection {
        self.closure(selection, Direction::Outgoing)
    }

    fn closure(&self, selection: &Selection, direction: Direction) -> Selection {
        let mut reached = selection.clone();
        let mut open: Vec<usize> = selection.indexes().collect();
        while let Some(index) = open.pop() {
            for next in self.graph.neighbors_directed(NodeIndex::new(index), direction) {
                if !std::mem::replace(&mut reached.0[next.index()], true) {
                    open.push(next.index());
                }
            }
        }
        reached
    }
}
