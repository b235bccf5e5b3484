//! Losses with the noise off on a fixed set of rows: the running training loss hides what the noise does.

use serde::{Deserialize, Serialize};
use tch::Kind;

use super::data::{Row, Split};
use super::loss::{Wanted, cross_entropy};
use super::step::supervised;
use crate::model::{Llama, Rows};

/// Rows of each part of the probe set.
const PROBE_ROWS: usize = 32;
/// Tokens that go through the model together.
const PASS_TOKENS: usize = 512;

/// Which rows are probed; the same for every arm of a sweep with the same seed.
pub struct ProbeSet {
    train: Vec<u64>,
    heldout: Vec<u64>,
}

/// Losses of the probe set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Optimizer steps taken before.
    pub step: u64,
    /// Rows that are trained on.
    pub train: Part,
    /// Rows kept out of training; empty where there are none.
    pub heldout: Part,
}

/// Losses of one part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Places of the rows in their split.
    pub rows: Vec<u64>,
    /// Mean loss of each row's supervised tokens.
    pub losses: Vec<f64>,
    /// Supervised tokens of each row.
    pub tokens: Vec<u64>,
}

impl Part {
    /// Mean loss over all supervised tokens.
    pub fn mean_loss(&self) -> Option<f64> {
        let tokens: u64 = self.tokens.iter().sum();
        let sum: f64 = self.losses.iter().zip(&self.tokens).map(|(loss, &tokens)| loss * tokens as f64).sum();
        (tokens > 0).then(|| sum / tokens as f64)
    }
}

impl ProbeSet {
    /// The first rows that training meets, and held-out rows that have a loss, evenly spread over the file.
    pub fn new(batches: &[Vec<u64>], heldout: &Split) -> Self {
        let heldout: Vec<u64> =
            (0..heldout.len() as u64).filter(|&row| heldout.row(row as usize).targets().next().is_some()).collect();
        Self { train: first_rows(batches), heldout: spread(&heldout) }
    }

    /// Held-out rows that are probed.
    pub fn heldout_rows(&self) -> usize {
        self.heldout.len()
    }

    /// The losses of the model as it is now.
    pub fn measure(&self, model: &Llama, step: u64, train: &Split, heldout: &Split) -> Probe {
        Probe { step, train: part(model, train, &self.train), heldout: part(model, heldout, &self.heldout) }
    }
}

/// The first rows that training meets, each once, sorted.
fn first_rows(batches: &[Vec<u64>]) -> Vec<u64> {
    let mut rows: Vec<u64> = Vec::new();
    for &row in batches.iter().flatten() {
        if rows.len() == PROBE_ROWS {
            break;
        }
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows.sort();
    rows
}

fn spread(rows: &[u64]) -> Vec<u64> {
    let count = rows.len().min(PROBE_ROWS);
    (0..count).map(|i| rows[i * rows.len() / count]).collect()
}

fn part(model: &Llama, split: &Split, rows: &[u64]) -> Part {
    let mut part = Part { rows: rows.to_vec(), ..Part::default() };
    let mut waiting: Vec<Row<'_>> = Vec::new();
    let mut tokens = 0;
    for &index in rows {
        let row = split.row(index as usize);
        if !waiting.is_empty() && tokens + row.ids.len() > PASS_TOKENS {
            measure(model, &waiting, &mut part);
            waiting.clear();
            tokens = 0;
        }
        tokens += row.ids.len();
        waiting.push(row);
    }
    if !waiting.is_empty() {
        measure(model, &waiting, &mut part);
    }
    part
}

fn measure(model: &Llama, rows: &[Row<'_>], part: &mut Part) {
    let each = tch::no_grad(|| {
        let layout = Rows::new(rows.iter().map(|row| row.ids), model.device());
        let hidden = model.hidden_states(model.embed(layout.ids()), &layout);
        let (places, targets) = supervised(rows.iter(), model.device());
        cross_entropy(&hidden.index_select(0, &places), model.head_weight(), &targets, Wanted::Losses).each
    });
    let each = each.to_kind(Kind::Double);
    let mut start = 0;
    for row in rows {
        let tokens = row.targets().count() as i64;
        part.losses.push(each.narrow(0, start, tokens).mean(Kind::Double).double_value(&[]));
        part.tokens.push(tokens as u64);
        start += tokens;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_holds_rows_that_are_trained_on_each_once() {
        assert_eq!(first_rows(&[vec![7, 3], vec![3, 9]]), [3, 7, 9]);
        let many: Vec<Vec<u64>> = (0..50).map(|step| (step * 4..step * 4 + 4).collect()).collect();
        assert_eq!(first_rows(&many), (0..PROBE_ROWS as u64).collect::<Vec<_>>());
    }

    #[test]
    fn held_out_rows_are_spread_over_the_file() {
        assert_eq!(spread(&[0, 1, 5]), [0, 1, 5]);
        let many: Vec<u64> = (0..PROBE_ROWS as u64 * 10).collect();
        assert_eq!(spread(&many), many.iter().copied().step_by(10).collect::<Vec<_>>());
        assert!(spread(&[]).is_empty());
    }

    #[test]
    fn the_mean_counts_tokens_and_not_rows() {
        let part = Part { rows: vec![0, 1], losses: vec![1.0, 4.0], tokens: vec![30, 10] };
        assert_eq!(part.mean_loss(), Some(1.75));
        assert_eq!(Part::default().mean_loss(), None);
    }
}
