//! A layered layout: boxes in columns, each to the right of all that it needs, edges around the boxes between.
//!
//! As Sugiyama, Tagawa and Toda (1981) lay graphs out: ranks by the longest way, long edges cut at every rank that they
//! pass, an order in each rank by the mean place of neighbours, then heights that come as near to the neighbours' as the
//! order allows. Edges from one box that pass the same rank pass it as one line.

use std::collections::BTreeMap;

/// Space between columns.
const COLUMN_GAP: f64 = 64.0;
/// Space between boxes of a column.
const BOX_GAP: f64 = 22.0;
/// Height that a passing line takes.
const LINE: f64 = 6.0;
/// Times that orders and heights are mended.
const ROUNDS: usize = 16;

/// Where everything is.
#[derive(Debug)]
pub struct Layout {
    /// Left upper corner of each box.
    pub corners: Vec<(f64, f64)>,
    /// Points that each edge passes, its two ends among them.
    pub routes: Vec<Vec<(f64, f64)>>,
    /// Width of it all.
    pub width: f64,
    /// Height of it all.
    pub height: f64,
}

/// A box, or the place where a line passes a rank.
struct Node {
    rank: usize,
    height: f64,
    /// Middle.
    y: f64,
    before: Vec<usize>,
    after: Vec<usize>,
}

/// Lays out boxes of these sizes. An edge goes from a lower index to a higher one.
pub fn lay_out(sizes: &[(f64, f64)], edges: &[(usize, usize)]) -> Layout {
    let ranks = ranks(sizes.len(), edges);
    let mut nodes: Vec<Node> = ranks
        .iter()
        .zip(sizes)
        .map(|(&rank, size)| Node { rank, height: size.1, y: 0.0, before: Vec::new(), after: Vec::new() })
        .collect();
    let ways = ways(&mut nodes, edges);
    let mut columns = columns(&nodes);
    columns.iter().for_each(|column| stack(column, &mut nodes));
    (0..ROUNDS).for_each(|round| order(&mut columns, &mut nodes, round % 2 == 0));
    (0..ROUNDS).for_each(|_| columns.iter().for_each(|column| settle(column, &mut nodes)));

    let top = nodes.iter().map(|node| node.y - node.height / 2.0).fold(f64::INFINITY, f64::min);
    nodes.iter_mut().for_each(|node| node.y -= top);
    let lefts = lefts(&ranks, sizes);
    let right = |at: usize| (lefts[ranks[at]] + sizes[at].0, nodes[at].y);
    let route = |way: &Vec<usize>| {
        let (first, last) = (way[0], way[way.len() - 1]);
        let mut points = vec![right(first)];
        for &passed in &way[1..way.len() - 1] {
            let (left, rank) = (lefts[nodes[passed].rank], nodes[passed].rank);
            points.extend([(left, nodes[passed].y), (lefts[rank + 1] - COLUMN_GAP, nodes[passed].y)]);
        }
        points.push((lefts[ranks[last]], nodes[last].y));
        points
    };
    Layout {
        corners: (0..sizes.len()).map(|at| (lefts[ranks[at]], nodes[at].y - nodes[at].height / 2.0)).collect(),
        routes: ways.iter().map(route).collect(),
        width: lefts.last().map_or(0.0, |end| end - COLUMN_GAP),
        height: nodes.iter().map(|node| node.y + node.height / 2.0).fold(0.0, f64::max),
    }
}

/// Each box right of all that it needs; one that needs nothing stands right before who needs it.
fn ranks(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut sorted = edges.to_vec();
    sorted.sort_by_key(|&(_, to)| to);
    let mut ranks = vec![0; count];
    sorted.iter().for_each(|&(from, to)| ranks[to] = ranks[to].max(ranks[from] + 1));
    let has_needs: Vec<bool> = (0..count).map(|at| sorted.binary_search_by_key(&at, |edge| edge.1).is_ok()).collect();
    for at in (0..count).filter(|&at| !has_needs[at]) {
        let nearest = edges.iter().filter(|edge| edge.0 == at).map(|edge| ranks[edge.1]).min();
        ranks[at] = nearest.map_or(0, |rank| rank - 1);
    }
    ranks
}

/// The nodes that each edge passes, its ends among them.
fn ways(nodes: &mut Vec<Node>, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
    let mut passing: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    let mut ways = Vec::with_capacity(edges.len());
    for &(from, to) in edges {
        let mut way = vec![from];
        for rank in nodes[from].rank + 1..nodes[to].rank {
            let passed = *passing.entry((from, rank)).or_insert_with(|| {
                nodes.push(Node { rank, height: LINE, y: 0.0, before: Vec::new(), after: Vec::new() });
                nodes.len() - 1
            });
            way.push(passed);
        }
        way.push(to);
        for pair in way.windows(2) {
            if !nodes[pair[0]].after.contains(&pair[1]) {
                nodes[pair[0]].after.push(pair[1]);
                nodes[pair[1]].before.push(pair[0]);
            }
        }
        ways.push(way);
    }
    ways
}

fn columns(nodes: &[Node]) -> Vec<Vec<usize>> {
    let mut columns = vec![Vec::new(); nodes.iter().map(|node| node.rank + 1).max().unwrap_or(0)];
    nodes.iter().enumerate().for_each(|(at, node)| columns[node.rank].push(at));
    columns
}

/// Sorts each column by the mean height of its neighbours on the side that was sorted before it.
fn order(columns: &mut [Vec<usize>], nodes: &mut [Node], forwards: bool) {
    let mut sort = |column: &mut Vec<usize>| {
        let wish = |at: &usize| {
            let side = if forwards { &nodes[*at].before } else { &nodes[*at].after };
            mean(side.iter().map(|&next| nodes[next].y)).unwrap_or(nodes[*at].y)
        };
        column.sort_by(|a, b| wish(a).total_cmp(&wish(b)));
        stack(column, nodes);
    };
    if forwards { columns.iter_mut().for_each(&mut sort) } else { columns.iter_mut().rev().for_each(&mut sort) }
}

/// Puts the boxes of a column one below the other, their middle at a height that all columns share.
fn stack(column: &[usize], nodes: &mut [Node]) {
    let total: f64 = column.iter().map(|&at| nodes[at].height + BOX_GAP).sum();
    let mut y = -total / 2.0;
    for &at in column {
        nodes[at].y = y + nodes[at].height / 2.0;
        y += nodes[at].height + BOX_GAP;
    }
}

/// Moves the boxes of a column as near to their neighbours' heights as their order and sizes allow: least squares, by
/// pooling those that would overlap.
fn settle(column: &[usize], nodes: &mut [Node]) {
    let mut offsets = Vec::with_capacity(column.len());
    let mut offset = 0.0;
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for (index, &at) in column.iter().enumerate() {
        if let Some(&previous) = index.checked_sub(1).and_then(|previous| column.get(previous)) {
            offset += (nodes[previous].height + nodes[at].height) / 2.0 + BOX_GAP;
        }
        offsets.push(offset);
        let neighbours = nodes[at].before.iter().chain(&nodes[at].after);
        let wish = mean(neighbours.map(|&next| nodes[next].y)).unwrap_or(nodes[at].y) - offset;
        pools.push((wish, 1));
        while let [.., (upper, above), (lower, below)] = pools[..]
            && upper > lower
        {
            pools.truncate(pools.len() - 2);
            let size = above + below;
            pools.push(((upper * above as f64 + lower * below as f64) / size as f64, size));
        }
    }
    let places = pools.iter().flat_map(|&(place, size)| std::iter::repeat_n(place, size));
    for ((&at, offset), place) in column.iter().zip(offsets).zip(places) {
        nodes[at].y = place + offset;
    }
}

/// Left edge of each column, and where one more would begin.
fn lefts(ranks: &[usize], sizes: &[(f64, f64)]) -> Vec<f64> {
    let mut widths = vec![0.0_f64; ranks.iter().map(|rank| rank + 1).max().unwrap_or(0)];
    ranks.iter().zip(sizes).for_each(|(&rank, size)| widths[rank] = widths[rank].max(size.0));
    let mut lefts = vec![0.0];
    widths.iter().for_each(|width| lefts.push(lefts[lefts.len() - 1] + width + COLUMN_GAP));
    lefts
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_stand_right_of_what_they_need_and_do_not_overlap() {
        let sizes: Vec<(f64, f64)> = (0..7).map(|at| (100.0, 20.0 + 10.0 * f64::from(at))).collect();
        let edges = [(0, 2), (1, 2), (0, 3), (2, 3), (2, 4), (0, 5), (4, 5), (3, 6), (5, 6), (0, 6)];
        let layout = lay_out(&sizes, &edges);
        for &(from, to) in &edges {
            assert!(layout.corners[from].0 + 100.0 < layout.corners[to].0, "{from} {to}");
        }
        for a in 0..7 {
            for b in a + 1..7 {
                let ((ax, ay), (bx, by)) = (layout.corners[a], layout.corners[b]);
                let apart = ax != bx || ay + sizes[a].1 < by || by + sizes[b].1 < ay;
                assert!(apart, "{a} and {b} overlap: {:?}", layout.corners);
            }
        }
        assert!(layout.corners.iter().zip(&sizes).all(|(at, size)| at.1 + size.1 <= layout.height + 1e-9));
        assert_eq!(layout.routes.len(), edges.len());
    }

    #[test]
    fn nothing_is_laid_out_too() {
        let layout = lay_out(&[], &[]);
        assert_eq!((layout.width, layout.height), (-COLUMN_GAP, 0.0));
    }
}
