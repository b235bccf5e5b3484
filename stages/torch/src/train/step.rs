//! One optimizer step's gradients: micro-batches of unpadded rows, noise, forward, losses, backward.
//!
//! Rows that go through the model together lie one after the other and never see one another: each has its own attention,
//! positions and noise. So which rows share a pass is a matter of speed and memory alone.

use std::cmp::Reverse;

use neftpipe_protocol::params::TrainParams;
use neftpipe_protocol::params::train::Batch;
use tch::{Kind, Tensor};

use super::data::{Row, Split};
use super::loss::{Wanted, cross_entropy};
use crate::device::upload;
use crate::dropout::{PassDropout, StepDropout};
use crate::model::{AdapterInput, Llama, Rows};
use crate::neft::StepNoise;

/// What a step saw.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepLoss {
    /// Mean cross-entropy of the step's supervised tokens.
    pub loss: f64,
    /// Tokens of its rows.
    pub tokens: u64,
    /// Tokens that carried loss.
    pub supervised_tokens: u64,
    /// Mean over the rows of alpha/√(L·d).
    pub noise_magnitude: f64,
}

/// What a step does with its rows.
pub struct StepPlan<'a> {
    /// How it is cut into passes.
    pub batch: &'a Batch,
    /// Noise on the embeddings.
    pub noise: StepNoise<'a>,
    /// Dropout before the adapters.
    pub dropout: Option<StepDropout>,
    /// Rows are put into passes by what fits, and not in their order.
    pub packing: bool,
    /// Blocks are computed again in the backward pass.
    pub recompute: bool,
}

impl<'a> StepPlan<'a> {
    /// What the parameters say of step `step`, whose longest row has so many tokens.
    pub fn new(params: &'a TrainParams, alpha: f64, step: u64, padded_tokens: usize) -> Self {
        let (seed, rate) = (params.seed, if params.full { 0.0 } else { params.lora.dropout });
        Self {
            batch: &params.batch,
            noise: StepNoise { neft: &params.neft, alpha, seed, step, padded_tokens },
            dropout: (rate > 0.0).then_some(StepDropout { rate, seed, step }),
            packing: params.packing,
            recompute: params.activation_checkpointing,
        }
    }
}

/// Rows that go through the model together: place in the step, sign of the noise, row.
type MicroBatch<'a> = Vec<(u64, f32, Row<'a>)>;

/// Leaves the gradient of the step's mean loss in the trained tensors. The mean is over all supervised tokens of the
/// step, so it does not depend on how the step is cut.
pub fn accumulate(model: &Llama, split: &Split, rows: &[u64], plan: &StepPlan<'_>) -> StepLoss {
    let noise = &plan.noise;
    let rows: Vec<Row<'_>> = rows.iter().map(|&row| split.row(row as usize)).collect();
    let supervised: usize = rows.iter().map(|row| row.targets().count()).sum();
    let width = model.config().hidden_size as usize;
    let signs = noise.signs();
    let scale = 1.0 / (supervised * signs.len()) as f64;
    let passes = if plan.packing { pack(&rows, signs, plan.batch) } else { micro_batches(&rows, signs, plan.batch) };
    let sum: f64 = passes.iter().map(|micro| backward(model, micro, plan, scale)).sum();
    let magnitudes: f64 = rows.iter().map(|row| noise.magnitude(row.ids.len(), width)).sum();
    StepLoss {
        loss: sum * scale,
        tokens: rows.iter().map(|row| row.ids.len() as u64).sum(),
        supervised_tokens: supervised as u64,
        noise_magnitude: magnitudes / rows.len() as f64,
    }
}

/// Cuts a step into passes of at most `micro` rows and `max_tokens` tokens, one row at least.
fn micro_batches<'a>(rows: &[Row<'a>], signs: &[f32], batch: &Batch) -> Vec<MicroBatch<'a>> {
    let most_rows = batch.micro.unwrap_or(u64::MAX) as usize;
    let most_tokens = batch.max_tokens.unwrap_or(u64::MAX) as usize;
    let mut passes: Vec<MicroBatch<'a>> = vec![Vec::new()];
    let mut tokens = 0;
    for (place, row) in rows.iter().enumerate() {
        for &sign in signs {
            let last = passes.last().expect("starts with one");
            if !last.is_empty() && (last.len() >= most_rows || tokens + row.ids.len() > most_tokens) {
                passes.push(Vec::new());
                tokens = 0;
            }
            tokens += row.ids.len();
            passes.last_mut().expect("starts with one").push((place as u64, sign, *row));
        }
    }
    passes
}

/// Puts the rows of a step into as few passes of these limits as first-fit decreasing finds: the longest row first, each
/// into the first pass with room.
fn pack<'a>(rows: &[Row<'a>], signs: &[f32], batch: &Batch) -> Vec<MicroBatch<'a>> {
    let most_rows = batch.micro.unwrap_or(u64::MAX) as usize;
    let most_tokens = batch.max_tokens.unwrap_or(u64::MAX) as usize;
    let mut all: MicroBatch<'a> = Vec::new();
    for (place, row) in rows.iter().enumerate() {
        all.extend(signs.iter().map(|&sign| (place as u64, sign, *row)));
    }
    all.sort_by_key(|(.., row)| Reverse(row.ids.len()));
    let mut passes: Vec<(usize, MicroBatch<'a>)> = Vec::new();
    for row in all {
        let tokens = row.2.ids.len();
        let room = |(held, pass): &&mut (usize, MicroBatch<'a>)| {
            pass.len() < most_rows && held.saturating_add(tokens) <= most_tokens
        };
        match passes.iter_mut().find(room) {
            Some((held, pass)) => {
                *held += tokens;
                pass.push(row);
            }
            None => passes.push((tokens, vec![row])),
        }
    }
    passes.into_iter().map(|(_, pass)| pass).collect()
}

/// One pass: adds the gradient of `scale · sum of losses` and returns the sum of losses.
fn backward(model: &Llama, micro: &MicroBatch<'_>, plan: &StepPlan<'_>, scale: f64) -> f64 {
    let rows = Rows::new(micro.iter().map(|(_, _, row)| row.ids), model.device());
    let embedded = add_noise(model, model.embed(rows.ids()), micro, &plan.noise);
    let dropout = plan.dropout.map(|step| PassDropout { step, rows: lengths(micro) });
    let adapter_input = dropout.as_ref().map(|it| it as &dyn AdapterInput);
    if plan.recompute {
        let pass = model.forget_and_recompute(embedded, &rows, adapter_input);
        let sum = backward_from(model, &pass.hidden_states(), micro, scale);
        pass.backward();
        sum
    } else {
        backward_from(model, &model.training_states(embedded, &rows, adapter_input), micro, scale)
    }
}

/// The losses of hidden states [N, hidden]: adds the gradient of `scale` times their sum, and returns the sum.
fn backward_from(model: &Llama, hidden: &Tensor, micro: &MicroBatch<'_>, scale: f64) -> f64 {
    let (places, targets) = supervised(micro.iter().map(|(_, _, row)| row), model.device());
    let learnt = hidden.index_select(0, &places); // [S, hidden]
    let head = model.head_weight();
    let wanted = Wanted::Gradients { scale, head: head.requires_grad() };
    let losses = cross_entropy(&learnt, head, &targets, wanted);
    let gradients = losses.gradients.expect("asked for");
    // A product with its gradient hands the losses' hand-made gradients on to autograd.
    let mut handover = (learnt * gradients.hidden).sum(Kind::Float);
    if let Some(gradient) = gradients.head {
        handover += (head * gradient).sum(Kind::Float);
    }
    handover.backward();
    losses.each.sum(Kind::Double).double_value(&[])
}

fn lengths(micro: &MicroBatch<'_>) -> Vec<(u64, usize)> {
    micro.iter().map(|(place, _, row)| (*place, row.ids.len())).collect()
}

fn add_noise(model: &Llama, embedded: Tensor, micro: &MicroBatch<'_>, noise: &StepNoise<'_>) -> Tensor {
    if noise.alpha == 0.0 {
        return embedded;
    }
    let width = model.config().hidden_size as usize;
    let mut values = Vec::new();
    for (place, sign, row) in micro {
        noise.draw(*place, row.ids.len(), width, *sign, &mut values);
    }
    let values = upload(&values, model.device()).view_as(&embedded);
    // Drawn in f32, cast after.
    embedded + values.to_kind(model.kind())
}

/// Of rows laid out one after the other: the places whose hidden states predict something [S], and what [S].
pub fn supervised<'a>(rows: impl Iterator<Item = &'a Row<'a>>, device: tch::Device) -> (Tensor, Tensor) {
    let (mut places, mut targets, mut start) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        for target in row.targets() {
            places.push((start + target - 1) as i64);
            targets.push(i64::from(row.ids[target]));
        }
        start += row.ids.len();
    }
    (upload(&places, device), upload(&targets, device))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(passes: &[MicroBatch<'_>]) -> Vec<Vec<usize>> {
        passes.iter().map(|pass| pass.iter().map(|(.., row)| row.ids.len()).collect()).collect()
    }

    #[test]
    fn packing_fills_passes_that_the_order_of_rows_leaves_half_empty() {
        let ids = vec![1; 100];
        let rows: Vec<Row<'_>> = [60, 70, 40, 30, 120].map(|length| Row::of(&ids[..length.min(100)])).to_vec();
        let batch = Batch { max_tokens: Some(100), ..Batch::default() };
        assert_eq!(tokens(&micro_batches(&rows, &[1.0], &batch)), [vec![60], vec![70], vec![40, 30], vec![100]]);
        let packed = pack(&rows, &[1.0], &batch);
        assert_eq!(tokens(&packed), [vec![100], vec![70, 30], vec![60, 40]]);
        let mut places: Vec<u64> = packed.iter().flatten().map(|(place, ..)| *place).collect();
        places.sort();
        assert_eq!(places, [0, 1, 2, 3, 4]);
        let by_row = Batch { micro: Some(2), ..Batch::default() };
        assert_eq!(pack(&rows, &[1.0, -1.0], &by_row).len(), 5);
    }

    #[test]
    fn a_row_longer_than_a_pass_has_one_of_its_own() {
        let ids = vec![1; 50];
        let batch = Batch { max_tokens: Some(20), ..Batch::default() };
        let rows = [Row::of(&ids), Row::of(&ids[..10]), Row::of(&ids[..10])];
        assert_eq!(tokens(&pack(&rows, &[1.0], &batch)), [vec![50], vec![10, 10]]);
    }
}
