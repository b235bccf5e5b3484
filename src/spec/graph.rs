//! The order of stages: inputs before those who need them, otherwise as in the file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use petgraph::algo::kosaraju_scc;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{EdgeRef, NodeIndexable};

/// Stages by index, an edge from each to those who need it. The weight is the index of the need.
pub type StageGraph = DiGraph<(), usize>;

/// Builds the graph of `count` stages from (needed, needs it, index of the need).
pub fn build(count: usize, needs: impl IntoIterator<Item = (usize, usize, usize)>) -> StageGraph {
    let mut graph = StageGraph::with_capacity(count, count);
    (0..count).for_each(|_| {
        graph.add_node(());
    });
    for (from, to, need) in needs {
        graph.add_edge(NodeIndex::new(from), NodeIndex::new(to), need);
    }
    graph
}

/// Stages in an order that puts inputs first; those on a cycle, or behind one, are missing.
pub fn order(graph: &StageGraph) -> Vec<usize> {
    let mut waits: Vec<usize> = vec![0; graph.node_bound()];
    graph.edge_references().for_each(|edge| waits[edge.target().index()] += 1);
    let mut ready: BinaryHeap<Reverse<usize>> =
        waits.iter().enumerate().filter(|(_, waits)| **waits == 0).map(|(stage, _)| Reverse(stage)).collect();
    let mut order = Vec::with_capacity(waits.len());
    while let Some(Reverse(stage)) = ready.pop() {
        order.push(stage);
        for edge in graph.edges(NodeIndex::new(stage)) {
            let next = edge.target().index();
            waits[next] -= 1;
            if waits[next] == 0 {
                ready.push(Reverse(next));
            }
        }
    }
    order
}

/// One shortest cycle of each knot, as (stage, index of its need of the next stage), from the stage first in the file.
pub fn cycles(graph: &StageGraph) -> Vec<Vec<(usize, usize)>> {
    let mut cycles: Vec<_> = kosaraju_scc(graph)
        .into_iter()
        .filter(|knot| knot.len() > 1 || graph.contains_edge(knot[0], knot[0]))
        .map(|knot| shortest_cycle(graph, &knot))
        .collect();
    cycles.sort();
    cycles
}

/// Walks from the first stage of a knot against the edges, breadth first, until it comes back.
fn shortest_cycle(graph: &StageGraph, knot: &[NodeIndex]) -> Vec<(usize, usize)> {
    let inside: std::collections::HashSet<NodeIndex> = knot.iter().copied().collect();
    let start = knot.iter().copied().min().expect("a knot has stages");
    let mut came_from: std::collections::HashMap<NodeIndex, (NodeIndex, usize)> = Default::default();
    let mut queue = std::collections::VecDeque::from([start]);
    while let Some(stage) = queue.pop_front() {
        for edge in graph.edges_directed(stage, petgraph::Direction::Incoming) {
            let needed = edge.source();
            if needed == start {
                let mut cycle = vec![(stage.index(), *edge.weight())];
                let mut at = stage;
                while at != start {
                    let (previous, need) = came_from[&at];
                    cycle.push((previous.index(), need));
                    at = previous;
                }
                cycle.reverse();
                return cycle;
            }
            if inside.contains(&needed) && !came_from.contains_key(&needed) {
                came_from.insert(needed, (stage, *edge.weight()));
                queue.push_back(needed);
            }
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_file_where_needs_allow() {
        let graph = build(4, [(3, 1, 0), (0, 2, 0)]);
        assert_eq!(order(&graph), [0, 2, 3, 1]);
    }

    #[test]
    fn cycles_name_their_stages_and_needs() {
        let graph = build(5, [(1, 0, 7), (2, 1, 8), (0, 2, 9), (4, 4, 5), (0, 3, 0)]);
        assert_eq!(cycles(&graph), [vec![(0, 7), (1, 8), (2, 9)], vec![(4, 5)]]);
        assert_eq!(order(&graph), [] as [usize; 0]);
    }

    #[test]
    fn long_chains_do_not_need_a_deep_stack() {
        const LENGTH: usize = 100_000;
        let chain = |closed: bool| {
            let back = closed.then_some((LENGTH - 1, 0, 0));
            build(LENGTH, (1..LENGTH).map(|stage| (stage - 1, stage, 0)).chain(back))
        };
        assert_eq!(order(&chain(false)).len(), LENGTH);
        assert_eq!(cycles(&chain(true))[0].len(), LENGTH);
    }
}
