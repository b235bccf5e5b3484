//! One optimizer step's gradients: micro-batches of unpadded rows, noise, forward, losses, backward.

use neftpipe_protocol::params::train::Batch;
use tch::{Kind, Tensor};

use super::data::{Row, Split};
use super::loss::{Wanted, cross_entropy};
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
    let sum: f64 =
        micro_batches(&rows, signs, plan.batch).iter().map(|micro| backward(model, micro, plan, scale)).sum();
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

/// One pass: adds the gradient of `scale · sum of losses` and returns the sum of losses.
fn backward(model: &Llama, micro: &MicroBatch<'_>, plan: &StepPlan<'_>, scale: f64) -> f64 {
    let rows = Rows::new(micro.iter().map(|(_, _, row)| row.ids), model.device());
    let embedded = add_noise(model, model.embed(rows.ids()), micro, &plan.noise);
    let dropout = plan.dropout.map(|step| PassDropout { step, rows: lengths(micro) });
    let hidden = model.training_states(embedded, &rows, dropout.as_ref().map(|it| it as &dyn AdapterInput));
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
    let values = Tensor::from_slice(&values).view_as(&embedded).to_device(model.device());
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
    (Tensor::from_slice(&places).to_device(device), Tensor::from_slice(&targets).to_device(device))
}
